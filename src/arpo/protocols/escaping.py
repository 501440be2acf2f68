"""Escapes a protocol's markers in text from outside."""

import re

from arpo.protocols.base import Tokenizer


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
