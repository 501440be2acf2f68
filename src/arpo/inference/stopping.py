"""Stop strings recognised on token ids: the token that completes one is kept whole, nothing is sampled after it."""

from collections.abc import Callable, Sequence


class StopFinder:
    """Finds stop strings in sampled tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        """A finder over the text `decode` gives ids."""
        self._decode = decode
        self._pieces: dict[int, str] = {}

    def tail(self, token_ids: Sequence[int], stop: Sequence[str]) -> list[int]:
        """The last tokens in which a stop string may have begun: one of n characters spans at most n tokens."""
        return list(token_ids[-max(map(len, stop)) :]) if stop else []

    def is_completed(self, recent: Sequence[int], stop: Sequence[str]) -> bool:
        """Whether the text of `recent` holds a stop string, which its last token then completes."""
        last = recent[-1]
        piece = self._pieces.get(last)
        if piece is None:
            piece = self._pieces[last] = self._decode([last])
        if not any(s[-1] in piece for s in stop):
            return False
        text = self._decode(recent)
        return any(s in text for s in stop)
