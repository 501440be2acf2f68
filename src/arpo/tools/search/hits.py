"""Hits of a search, and the text a model reads of them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from arpo.tools.scripts import UNSPACED
from arpo.tools.search.config import ResultConfig
from arpo.types import ToolResult

NO_RESULTS = "No search results found."


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One page that a search found."""

    text: str
    """Text of the page, or the part of it to show."""
    title: str = ""
    """Title; empty when the page has none."""
    url: str = ""
    """Address; empty when it is not a page of the web."""
    id: str = ""
    """Name in a corpus; empty when it has none."""
    score: float | None = None
    """Larger is better; None when the source gives no score."""
    is_truncated: bool = False
    """True when `text` is only a part of the page's text."""


def render(hits: Sequence[Hit], config: ResultConfig) -> ToolResult:
    """The result of a search, in the configured format.

    A page's text is one line. The title precedes it, unless the text begins with it, be it behind a label
    (`Registry: Kelford, ...`).

    Example:
        render([Hit(title="Kelford", text="A town.")], config).content  # -> "Page 1: Kelford: A town."
    """
    if not hits:
        return ToolResult(content=NO_RESULTS)
    shown = [(hit, *_shorten(hit, config)) for hit in hits]
    write = _page if config.format == "pages" else _json
    lines = [write(rank, hit, text) for rank, (hit, text, _) in enumerate(shown, start=1)]
    return ToolResult(content="\n".join(lines), truncated=any(is_truncated for _, _, is_truncated in shown))


def _shorten(hit: Hit, config: ResultConfig) -> tuple[str, bool]:
    text = clean(hit.text)
    title = clean(hit.title)
    if config.format == "pages" and title and not _begins_with(text, title):
        text = f"{title}: {text}"
    return text[: config.max_snippet_chars], hit.is_truncated or len(text) > config.max_snippet_chars


def _begins_with(text: str, title: str) -> bool:
    """Whether the text begins with the whole title, in any case, behind signs or a label."""
    begin = rf"\W*(?:\w+: )?{re.escape(title)}(?:(?<=[{UNSPACED}])|(?=[{UNSPACED}])|(?!\w))"
    return re.match(begin, text, re.IGNORECASE) is not None


def _page(rank: int, hit: Hit, text: str) -> str:
    return f"Page {rank}: {text}"


def _json(rank: int, hit: Hit, text: str) -> str:
    source = {"url": hit.url} if hit.url else {"id": hit.id} if hit.id else {}
    return json.dumps({"rank": rank, "title": clean(hit.title), **source, "text": text}, ensure_ascii=False)


def clean(text: str) -> str:
    """The text in one line, with lone surrogates replaced: no file can hold them."""
    return " ".join(text.encode("utf-8", "replace").decode().split())
