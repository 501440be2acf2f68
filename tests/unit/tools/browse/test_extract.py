"""The text of fetched pages: charsets, main text, PDFs, and pages made to break parsers."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trafilatura")
pytest.importorskip("pypdf")

from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from arpo.clients.http import HttpError
from arpo.errors import ToolError
from arpo.tools.browse.extract import decode, extract, require_packages
from arpo.tools.browse.fetch import Fetched


def page(body: bytes, media_type: str = "text/html", charset: str = "") -> Fetched:
    return Fetched("http://x/p", media_type, charset, body)


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("Kélford".encode(), "", "Kélford"),
        ("Kélford".encode(), "iso-8859-1", "Kélford"),  # the server lies: it is UTF-8
        ("Kélford €".encode("cp1252"), "", "Kélford €"),
        ("Kélford €".encode("cp1252"), "ISO-8859-1", "Kélford €"),  # what browsers read it as
        ("Ёлка".encode("cp1251"), "windows-1251", "Ёлка"),
        (b"<meta charset='shift_jis'>" + "東京".encode("shift_jis"), "", "<meta charset='shift_jis'>東京"),
        (b"<?xml version='1.0' encoding='koi8-r'?>" + "Ёж".encode("koi8-r"), "", "<?xml version='1.0' encoding='koi8-r'?>Ёж"),
        ("東京".encode("iso-2022-jp"), "iso-2022-jp", "東京"),
        ("Kélford".encode("utf-16"), "utf-8", "Kélford"),
        ("Kélford".encode("utf-8-sig"), "latin-1", "Kélford"),
        ("Kélford".encode() + b"\xff", "utf-8", "Kélford\ufffd"),  # damaged at one place only
        (b"caf\xe9", "no-such-charset", "café"),
        # labels mean what browsers read them as, from the server or from the page
        ("朱镕基€".encode("gb18030"), "gb2312", "朱镕基€"),
        ("朱镕基".encode("gbk"), "x-gbk", "朱镕基"),
        ("①㈱髙橋".encode("cp932"), "Shift_JIS", "①㈱髙橋"),
        ("①㈱髙橋".encode("cp932"), "x-sjis", "①㈱髙橋"),
        ("①㈱髙橋".encode("cp932"), "windows-31j", "①㈱髙橋"),
        ("똠방각하 펲시".encode("cp949"), "euc-kr", "똠방각하 펲시"),
        ("똠방각하 펲시".encode("cp949"), "ks_c_5601-1987", "똠방각하 펲시"),
        ("①㈱東京".encode("euc-jis-2004"), "x-euc-jp", "①㈱東京"),
        ("㗎嗰".encode("big5hkscs"), "big5", "㗎嗰"),
        ("ไทย".encode("cp874"), "iso-8859-11", "ไทย"),
        ("Ünal ş".encode("cp1254"), "iso-8859-9", "Ünal ş"),
        ("Ёж".encode("mac-cyrillic"), "x-mac-cyrillic", "Ёж"),
        ("שלום".encode("iso8859-8"), "iso-8859-8-i", "שלום"),
        (b"caf\xe9", "us-ascii", "café"),
        (b"Kelford", "unicode-1-1-utf-8", "Kelford"),
        ("朱".encode("gbk"), ' "GB2312" ', "朱"),
        (b"caf\xe9", "base64", "café"),
        (b"", "", ""),
    ],
)
def test_text_survives_what_servers_say_of_it(body: bytes, charset: str, text: str):
    assert decode(page(body, charset=charset)) == text


META = b'<meta http-equiv="Content-Type" content="text/html; charset = gb2312">'


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"<!-- " + b"x" * 3000 + b" -->",
        b"<!--a-->" * 2000,
        b"<!-- <meta charset=koi8-r> -->",
        b"<script>" + b"y" * 5000 + b"</script>",
    ],
)
def test_a_page_names_its_encoding_behind_comments_too(before: bytes):
    assert decode(page(before + META + "朱镕基".encode("gbk"))).endswith("朱镕基")


def test_a_name_read_as_ascii_is_not_utf_16():
    assert decode(page(b"<meta charset=utf-16>plain")) == "<meta charset=utf-16>plain"
    assert decode(page("東京".encode("utf-16-be"), charset="utf-16be")) == "東京"


ARTICLE = "Kelford is a town in the region of Osmark, founded in 1412 by Ada Moor. " * 5


def test_main_text_without_menus_scripts_and_footers():
    body = (
        "<html><head><title>Kelford &amp;\n co</title><style>p {color: red}</style></head><body><nav><a href=/>Home</a>"
        f"<a href=/b>Menu item</a></nav><article><h1>Kelford</h1><p>{ARTICLE}</p>"
        "<table><tr><td>mayor</td><td>Ben Tolvan</td></tr></table><ul><li>one thing</li></ul></article>"
        "<footer>cookie banner</footer><script>alert(1)</script></body></html>"
    )
    read = extract(page(body.encode()), 10)
    assert read.title == "Kelford & co"
    for wanted in (ARTICLE.strip(), "Ben Tolvan", "one thing"):
        assert wanted in read.text
    for unwanted in ("Menu item", "cookie banner", "alert", "color"):
        assert unwanted not in read.text


def test_short_pages_plain_text_and_unnamed_types():
    assert extract(page(b"<html><body><p>short</p></body></html>"), 1).text == "short"
    assert extract(page(b" a < b\nc ", "text/plain"), 1).text == "a < b\nc"
    assert extract(page(b'{"a": 1}', "application/json"), 1).text == '{"a": 1}'
    assert extract(page(b"<!doctype html><p>x y</p>", ""), 1).text == "x y"
    assert extract(page(b"plain words", ""), 1).text == "plain words"


def pdf(*texts: str, password: str | None = None) -> bytes:
    writer = PdfWriter()
    writer.add_metadata({"/Title": "The report"})
    for text in texts:
        sheet = writer.add_blank_page(300, 300)
        font = DictionaryObject(
            {NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
             NameObject("/BaseFont"): NameObject("/Helvetica")}
        )  # fmt: skip
        fonts = DictionaryObject({NameObject("/F1"): font})
        sheet[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        sheet[NameObject("/Contents")] = writer._add_object(content)
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_pdfs_whatever_they_are_called():
    for media_type in ("application/pdf", "application/octet-stream", "text/html", ""):
        read = extract(page(pdf("Kelford was founded", "in 1412"), media_type), 10)
        assert (read.title, read.text) == ("The report", "Kelford was founded\n\nin 1412")
    assert extract(page(pdf("one", "two", "three"), "application/pdf"), 2).text == "one\n\ntwo"
    assert extract(page(pdf("open", password=""), "application/pdf"), 2).text == "open"


@pytest.mark.parametrize(
    ("body", "media_type", "says"),
    [
        (b"", "text/html", "no text"),
        (b"<html><body><script>render()</script></body></html>", "text/html", "no text; it may need a browser"),
        (b"\x89PNG", "image/png", "holds image/png, which is not text"),
        (b"%PDF-1.7 garbage", "application/pdf", "cannot be extracted"),
        (pdf("x")[:300], "application/pdf", "cannot be extracted"),
        (pdf("x", password="secret"), "application/pdf", "cannot be extracted"),
    ],
)
def test_what_holds_no_text_is_an_error_that_says_so(body: bytes, media_type: str, says: str):
    with pytest.raises(HttpError, match=says):
        extract(page(body, media_type), 10)


@pytest.mark.parametrize(
    "body",
    [
        b"<div>" * 50_000 + b"deep",
        b"<" * 100_000,
        b"\x00" * 1000 + b"<p>x</p>" + b"\x00",
        b"<p " + b"a=b " * 50_000 + b">x</p>",
        b"<html>" + bytes(range(256)) * 200,
        b"<!--" * 20_000 + b"<p>x</p>",
        b"<title>" * 20_000,
        b"<meta charset=" * 20_000,
        b"&#x110000; &#xd800; &lt;" * 1000,
    ],
)
def test_hostile_pages_give_text_or_an_error(body: bytes):
    with contextlib.suppress(HttpError):
        extract(page(body), 10).text.encode()


def test_an_encrypted_pdf_names_the_package_it_needs(tmp_path: Path):
    """In a process that lacks it: the PDF itself is made with it."""
    writer = PdfWriter(io.BytesIO(pdf("secret")))
    writer.encrypt("", algorithm="AES-256")
    writer.write(tmp_path / "x.pdf")
    program = (
        "import sys; sys.modules['cryptography'] = sys.modules['Crypto'] = None\n"
        "from arpo.tools.browse.extract import extract\nfrom arpo.tools.browse.fetch import Fetched\n"
        "extract(Fetched('http://x/p', 'application/pdf', '', open(sys.argv[1], 'rb').read()), 3)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "x.pdf"], capture_output=True, text=True, check=False)
    assert "HttpError: http://x/p: its text cannot be extracted: it is encrypted" in done.stderr
    assert "pip install cryptography" in done.stderr


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    require_packages("browse")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "trafilatura" else object())
    with pytest.raises(ToolError, match=r"^browse: .*trafilatura; install the extra: pip install 'arpo\[web\]'"):
        require_packages("browse")
