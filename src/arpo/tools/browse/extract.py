"""Extracts the text of a fetched page: the main text of HTML, the pages of a PDF, plain text unchanged."""

import codecs
import html
import importlib
import importlib.util
import io
import re
from dataclasses import dataclass

from arpo.clients.http import HttpError
from arpo.errors import ToolError
from arpo.tools.browse.encodings import find_codec
from arpo.tools.browse.fetch import Fetched, shorten

_PACKAGES = ("trafilatura", "pypdf")
_HTML = ("text/html", "application/xhtml+xml")
_PLAIN = re.compile(r"text/.*|application/(?:json|xml|.*\+json|.*\+xml)")
_META_CHARSET = re.compile(
    rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:+-]{1,40})|<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:+-]{1,40})", re.I
)
_CRYPTOGRAPHY = "reading it needs the package cryptography: pip install cryptography"
_HEAD_BYTES = 2**16
"""Bytes of a page in which it may name its encoding."""
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclass(frozen=True, slots=True)
class PageText:
    """Title and text of a page."""

    title: str
    """Empty when the page has none."""
    text: str
    """Paragraphs, list items and table rows, one per line."""


def require_packages(tool: str) -> None:
    """Check that the packages that read pages are installed.

    Raises:
        ToolError: the extra `web` is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolError(
            f"{tool}: reading pages needs the package {', '.join(missing)}; install the extra: pip install 'arpo[web]'"
        )


def extract(page: Fetched, max_pdf_pages: int) -> PageText:
    """The title and text of a page.

    HTML gives the main text that trafilatura finds, or all of its text when it finds none (short pages).

    Raises:
        HttpError: the page is not text, is damaged, or holds no text.
    """
    is_html = page.media_type in _HTML or (not page.media_type and b"<" in page.body[:1000])
    try:
        if b"%PDF-" in page.body[:1024]:
            read = _read_pdf(page, max_pdf_pages)
        elif is_html:
            read = _read_html(decode(page))
        elif not page.media_type or _PLAIN.fullmatch(page.media_type):
            read = PageText("", decode(page).strip())
        else:
            raise HttpError(f"{shorten(page.url)}: holds {page.media_type[:60]}, which is not text")
    except (HttpError, ImportError):
        raise
    except Exception as error:  # a hostile page can make the parsers fail in any way
        if type(error).__name__ == "DependencyError":  # pypdf's, of an encryption it cannot read alone
            raise HttpError(f"{shorten(page.url)}: its text cannot be extracted: it is encrypted; {_CRYPTOGRAPHY}") from None
        raise HttpError(f"{shorten(page.url)}: its text cannot be extracted ({type(error).__name__})") from None
    if not read.text:
        raise HttpError(f"{shorten(page.url)}: holds no text; it may need a browser that runs its scripts")
    return read


def decode(page: Fetched) -> str:
    """The text of a page's bytes.

    The encoding is that of a byte order mark; else UTF-8 when the bytes are valid UTF-8 but not ASCII; else the one that the
    server or the page names, as browsers read its name; else Windows-1252. Bytes that do not decode become U+FFFD.
    """
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if page.body.startswith(mark):
            return page.body[len(mark) :].decode(encoding, "replace")
    if not page.body.isascii():
        try:
            return page.body.decode("utf-8")
        except UnicodeDecodeError:
            pass
    codec = find_codec(page.charset or _named_in(page.body))
    is_ascii_in_utf16 = codec.startswith("utf-16") and not page.charset  # the name was read as ASCII, so it is wrong
    return page.body.decode("utf-8" if is_ascii_in_utf16 else codec, "replace")


def _named_in(body: bytes) -> str:
    """The encoding that a page names in its head, comments left out; empty when it names none."""
    head = bytearray()
    rest = body[:_HEAD_BYTES]
    while rest:
        part, _, comment = rest.partition(b"<!--")
        head += part
        rest = comment.partition(b"-->")[2]
    found = next((name for match in _META_CHARSET.finditer(head) for name in match.groups() if name), b"")
    return bytes(found).decode("ascii")


def _read_html(text: str) -> PageText:
    trafilatura = importlib.import_module("trafilatura")
    text = text.replace("\x00", "")
    main = trafilatura.extract(text, include_comments=False, include_tables=True, favor_recall=True, deduplicate=False)
    return PageText(_read_title(text), (main or trafilatura.html2txt(text) or "").strip())


def _read_title(text: str) -> str:
    head = text[:100_000]
    start = head.lower().find("<title")  # a regular expression would take quadratic time on hostile pages
    if start < 0:
        return ""
    title = head[start:].partition(">")[2]
    end = title.lower().find("</title")
    return " ".join(html.unescape(title[: max(0, end)]).split())[:300]


def _read_pdf(page: Fetched, max_pages: int) -> PageText:
    pypdf = importlib.import_module("pypdf")
    reader = pypdf.PdfReader(io.BytesIO(page.body))
    if reader.is_encrypted and not reader.decrypt(""):
        raise HttpError(f"{shorten(page.url)}: its text cannot be extracted: it is encrypted and needs a password")
    pages = [reader.pages[i].extract_text() for i in range(min(max_pages, len(reader.pages)))]
    title = (reader.metadata or {}).get("/Title", "")
    return PageText(" ".join(str(title).split())[:300], "\n\n".join(pages).strip())
