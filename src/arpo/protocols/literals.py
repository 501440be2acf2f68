"""Text inside the arguments of a call is characters, not markup."""

import re
from collections.abc import Iterable, Iterator

from arpo.protocols.strict_json import decode_json


def json_literals(text: str, before_json: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Begin and end of each valid JSON value that follows a match of `before_json`, in order.

    Example:
        `<tool_call>{"code": "</think>"}</tool_call>` with `<tool_call>` before the JSON gives (11, 31).
    """
    position = 0
    while (opened := before_json.search(text, position)) is not None:
        try:
            position = decode_json(text, opened.end())[1]
        except ValueError:
            position = opened.end() + 1
        else:
            yield opened.end(), position


def tags_outside(text: str, tag: re.Pattern[str], literals: Iterable[tuple[int, int]]) -> Iterator[re.Match[str]]:
    """The tags in a completion outside its literals.

    Args:
        text: The completion.
        tag: Matches a tag.
        literals: Begin and end of each text that is characters, in order and apart.
    """
    start = 0
    for begin, end in literals:
        yield from tag.finditer(text, start, begin)
        start = end
    yield from tag.finditer(text, start)
