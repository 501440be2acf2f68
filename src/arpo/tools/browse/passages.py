"""Finds the relevant part of a text: the source of a snippet, or the part with most of a query's words."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from arpo.tools.scripts import UNSPACED

MIN_OVERLAP = 0.5
"""Least share of a snippet's words that its source in the text must hold."""
_WORD = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+")
_ELLIPSIS = re.compile(r"…|\.\.\.")


@dataclass(frozen=True, slots=True)
class Span:
    """The characters from `start` to before `end` of a text."""

    start: int
    end: int


def find_snippet(text: str, snippet: str) -> Span | None:
    """The source of a search engine's snippet; None when no stretch of the text holds half of its words.

    Words are compared without case and accents. A snippet with ellipses is searched by its longest piece. The source is that
    piece word by word, else the stretch of the same length that shares the most words with it (for equal lengths, share and
    token F1 are the same).

    Example:
        find_snippet("In 1931 Kelford was a town.", "kelford was ... mayor")  # -> Span(8, 19)
    """
    piece = [word for word, _ in _words(max(_ELLIPSIS.split(snippet), key=len))]
    words = _words(text)
    if not piece or not words:
        return None
    length = min(len(piece), len(words))
    need, window = Counter(piece), Counter[str]()
    best_start, best_score, overlap = 0, (0, False), 0
    for i, (word, _) in enumerate(words):
        overlap += window[word] < need[word]
        window[word] += 1
        start = i - length + 1
        if start > 0:
            left = words[start - 1][0]
            window[left] -= 1
            overlap -= window[left] < need[left]
        if start >= 0:
            is_exact = overlap == len(piece) and [w for w, _ in words[start : i + 1]] == piece
            if (overlap, is_exact) > best_score:
                best_start, best_score = start, (overlap, is_exact)
            if is_exact:
                break
    if best_score[0] < MIN_OVERLAP * len(piece):
        return None
    return Span(words[best_start][1].start, words[best_start + length - 1][1].end)


def find_densest(text: str, query: str, chars: int) -> Span | None:
    """The first stretch of at most `chars` characters with the most different words of a query, then with the most of them.

    None when the text holds none of them.
    """
    terms = {word for word, _ in _words(query)}
    matches = [(word, span) for word, span in _words(text) if word in terms and span.end - span.start <= chars]
    window = Counter[str]()
    best, best_score, first = None, (0, 0), 0
    for i, (word, span) in enumerate(matches):
        window[word] += 1
        while span.end - matches[first][1].start > chars:
            left = matches[first][0]
            window[left] -= 1
            if not window[left]:
                del window[left]
            first += 1
        if (score := (len(window), i - first + 1)) > best_score:
            best, best_score = Span(matches[first][1].start, span.end), score
    return best


def widen(text: str, span: Span, chars: int) -> Span:
    """The span extended on both sides to `chars` characters, within the text; it begins and ends between words."""
    missing = max(0, chars - (span.end - span.start))
    start = max(0, span.start - missing // 2)
    end = min(len(text), start + max(chars, span.end - span.start))
    start = max(0, min(start, end - chars))
    if start > 0 and not text[start - 1].isspace():
        start = next((i for i in range(start, span.start) if text[i - 1].isspace()), span.start)
    if end < len(text) and not text[end].isspace():
        end = next((i for i in range(end, span.end, -1) if text[i].isspace()), span.end)
    return Span(start, end)


def cut_pages(text: str, chars: int) -> list[Span]:
    """The text in parts of at most `chars` characters, cut between words where possible.

    Example:
        cut_pages("aaa bbb ccc", 8)  # -> [Span(0, 8), Span(8, 11)]
    """
    pages: list[Span] = []
    start = 0
    while start < len(text):
        end = min(len(text), start + chars)
        if end < len(text):
            end = next((i for i in range(end, start, -1) if text[i - 1].isspace()), end)
        pages.append(Span(start, end))
        start = end
    return pages


def _words(text: str) -> list[tuple[str, Span]]:
    """The words without case and accents, and their spans; a character of an unspaced script is a word."""
    return [(_fold(match.group()), Span(*match.span())) for match in _WORD.finditer(text)]


def _fold(word: str) -> str:
    if word.isascii():
        return word.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))
