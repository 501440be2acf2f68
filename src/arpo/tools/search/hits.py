"""What a search finds, and the text a model reads of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from arpo.tools.search.config import ResultConfig
from arpo.types import ToolResult

NO_RESULTS = "No search results found."


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One page that a search found."""

    text: str
    """What the page says, or the part that is to be shown."""
    title: str = ""
    """Its title; empty when it has none."""
    url: str = ""
    """Its address; empty when it is no page of the web."""
    id: str = ""
    """Its name in a corpus; empty when it has none."""
    score: float | None = None
    """The larger the better; None where the source tells none."""
    is_truncated: bool = False
    """True when `text` is a part of the page's."""


def render(hits: Sequence[Hit], config: ResultConfig) -> ToolResult:
    """The result of a search, in the configured form.

    A page's text is one line. It begins with the title where it does not name it already, so that no page is about nothing.

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
    if config.format == "pages" and hit.title and clean(hit.title).casefold() not in text.casefold():
        text = f"{clean(hit.title)}: {text}"
    return text[: config.max_snippet_chars], hit.is_truncated or len(text) > config.max_snippet_chars


def _page(rank: int, hit: Hit, text: str) -> str:
    return f"Page {rank}: {text}"


def _json(rank: int, hit: Hit, text: str) -> str:
    place = {"url": hit.url} if hit.url else {"id": hit.id} if hit.id else {}
    return json.dumps({"rank": rank, "title": clean(hit.title), **place, "text": text}, ensure_ascii=False)


def clean(text: str) -> str:
    """The text in one line, without half surrogate pairs, which no file could hold."""
    return " ".join(text.encode("utf-8", "replace").decode().split())
