"""Finds the end of a completion."""

from collections.abc import Iterable


def split_at_stop(text: str, stop_strings: Iterable[str]) -> tuple[str, str]:
    """The text up to and including the stop string that ends first, and the rest; without a stop string the rest is empty.

    Example:
        split_at_stop("<search> a </search> b", ["</search>", "</answer>"])  # -> ("<search> a </search>", " b")
    """
    end = min((text.index(stop) + len(stop) for stop in stop_strings if stop in text), default=len(text))
    return text[:end], text[end:]
