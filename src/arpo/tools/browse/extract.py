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
from arpo.tools.browse.fetch import Fetched, shorten

_PACKAGES = ("trafilatura", "pypdf")
_HTML = ("text/html", "application/xhtml+xml")
_PLAIN = re.compile(r"text/.*|application/(?:json|xml|.*\+json|.*\+xml)")
_META_CHARSET = re.compile(
    rb"<meta[^>]{0,200}?charset=[\"']?\s*([\w-]{1,40})|<\?xml[^>]{0,200}?encoding=[\"']([\w-]{1,40})", re.I
)
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
            read = _read_pdf(page.body, max_pdf_pages)
        elif is_html:
            read = _read_html(decode(page))
        elif not page.media_type or _PLAIN.fullmatch(page.media_type):
            read = PageText("", decode(page).strip())
        else:
            raise HttpError(f"{shorten(page.url)}: holds {page.media_type[:60]}, which is not text")
    except (HttpError, ImportError):
        raise
    except Exception as error:  # a hostile page can make the parsers fail in any way
        raise HttpError(f"{shorten(page.url)}: its text cannot be extracted ({type(error).__name__})") from None
    if not read.text:
        raise HttpError(f"{shorten(page.url)}: holds no text; it may need a browser that runs its scripts")
    return read


def decode(page: Fetched) -> str:
    """The text of a page's bytes.

    The encoding is that of a byte order mark; else UTF-8 when the bytes are valid UTF-8 but not ASCII; else the one that the
    server or the page names; else Windows-1252. Bytes that do not decode become U+FFFD.
    """
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if page.body.startswith(mark):
            return page.body[len(mark) :].decode(encoding, "replace")
    if not page.body.isascii():
        try:
            return page.body.decode("utf-8")
        except UnicodeDecodeError:
            pass
    named = page.charset or next((name for m in _META_CHARSET.finditer(page.body[:2048]) for name in m.groups() if name), b"")
    return page.body.decode(_codec(named if isinstance(named, str) else named.decode("ascii")), "replace")


def _codec(name: str) -> str:
    """The codec that browsers use for an encoding's name."""
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return "cp1252"
    is_text = getattr(codecs.lookup(name), "_is_text_encoding", True)
    return "cp1252" if codec in ("iso8859-1", "ascii") or not is_text else codec


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


def _read_pdf(body: bytes, max_pages: int) -> PageText:
    pypdf = importlib.import_module("pypdf")
    reader = pypdf.PdfReader(io.BytesIO(body))
    if reader.is_encrypted:
        reader.decrypt("")
    pages = [reader.pages[i].extract_text() for i in range(min(max_pages, len(reader.pages)))]
    title = (reader.metadata or {}).get("/Title", "")
    return PageText(" ".join(str(title).split())[:300], "\n\n".join(pages).strip())
