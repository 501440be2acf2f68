"""Where a completion ends."""

from collections.abc import Iterable


def split_at_stop(text: str, stop_strings: Iterable[str]) -> tuple[str, str]:
    """The text up to and including the stop string that is complete first, and the rest; the rest is empty when there is none.

    Example:
        split_at_stop("<search> a </search> b", ["</search>", "</answer>"])  # -> ("<search> a </search>", " b")
    """
    end = min((text.index(stop) + len(stop) for stop in stop_strings if stop in text), default=len(text))
    return text[:end], text[end:]
