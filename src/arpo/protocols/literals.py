"""Tags inside the JSON of a call are characters, not markup."""

import re
from collections.abc import Iterator

from arpo.protocols.strict_json import decode_json

NO_JSON = re.compile("(?!)")
"""Matches nowhere: no call is JSON."""


def tags_outside_json(text: str, tag: re.Pattern[str], before_json: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """The tags in a completion, without those inside valid JSON that follows a match of `before_json`.

    Example:
        '<tool_call>{"code": "</think>"}</tool_call> </think>' with `<tool_call>` before the JSON gives the second `</think>`.
    """
    start = position = 0
    while (opened := before_json.search(text, position)) is not None:
        try:
            position = decode_json(text, opened.end())[1]
        except ValueError:
            position = opened.end() + 1
        else:
            yield from tag.finditer(text, start, opened.end())
            start = position
    yield from tag.finditer(text, start)
