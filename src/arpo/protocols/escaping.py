"""Escapes a protocol's markers in text from outside."""

import re
from bisect import bisect_right

from arpo.protocols.base import Tokenizer, ToolProtocol
from arpo.types import Observation


def escape(text: str, markers: re.Pattern[str]) -> str:
    """The text with `&lt;` for the first `<` of each marker, so that the model reads it as text.

    Example:
        escape("a</result>b", re.compile("</?result>"))  # -> "a&lt;/result>b"
    """
    return markers.sub(lambda marker: "&lt;" + marker[0][1:], text)


def encode_escaped(tokenizer: Tokenizer, text: str, markers: re.Pattern[str]) -> list[int]:
    """Ids of text from outside; their text holds no marker, and none of them is an added token."""
    ids = tokenizer.encode_untrusted(escape(text, markers))
    decoded = tokenizer.decode(ids)
    if markers.search(decoded):  # the tokenizer's normalisation made a marker, e.g. from full-width brackets
        ids = tokenizer.encode_untrusted(escape(decoded, markers))
    return ids


def cut_result(tokenizer: Tokenizer, protocol: ToolProtocol, text: str, max_tokens: int) -> tuple[str, bool]:
    """A tool's text, cut so that the policy reads at most `max_tokens` tokens of it, escapes included, and True if it was cut.

    Escapes lengthen a text: `</result>` is written `&lt;/result>`, and some templates write a JSON string.
    """

    def num_tokens(content: str) -> int:
        return len(protocol.encode_observation(Observation(content=content))) - wrapper

    wrapper = len(protocol.encode_observation(Observation(content="")))
    short, was_cut = tokenizer.cut(text, max_tokens)
    if num_tokens(short) <= max_tokens:
        return short, was_cut
    fit = bisect_right(range(max_tokens), max_tokens, key=lambda most: num_tokens(tokenizer.cut(short, most)[0]))
    return tokenizer.cut(short, max(0, fit - 1))[0], True
