"""Reasoning blocks of chat models: `<think> ... </think>`."""

import re
from collections.abc import Iterable

from arpo.protocols.literals import tags_outside

_TAG = re.compile(r"<(/?)think>")


def split_reasoning(text: str, literals: Iterable[tuple[int, int]] = ()) -> tuple[int, str, list[str]]:
    r"""The number of closed reasoning blocks, the text outside them, and the format faults in order.

    Faults: `unclosed_think` (the block lasts to the end), `unopened_think` (the block began before the text, so that the text
    before its end is reasoning), `nested_tag` (a block in a block), `empty_think`.

    Args:
        text: A completion.
        literals: Begin and end of each text inside a call; tags in it are characters.

    Example:
        split_reasoning("<think> look it up </think>\nKelford")  # -> (1, "\nKelford", [])
    """
    blocks, outside, faults = 0, "", list[str]()
    begin: int | None = None  # of the open block's content
    end = 0
    for tag in tags_outside(text, _TAG, literals):
        if not tag[1] and begin is None:
            outside += text[end : tag.start()]
            begin = tag.end()
        elif not tag[1]:
            faults.append("nested_tag")
        elif begin is None:
            outside = ""
            faults.append("unopened_think")
        else:
            blocks += 1
            faults += [] if text[begin : tag.start()].strip() else ["empty_think"]
            begin = None
        end = tag.end()
    if begin is not None:
        return blocks, outside, [*faults, "unclosed_think"]
    return blocks, outside + text[end:], faults
