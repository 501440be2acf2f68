"""Stop strings recognised on token ids: sampling ends with the token that completes one, which is kept whole."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from arpo.types import StopReason


class StopFinder:
    """Finds stop strings in sampled tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str], eos_ids: frozenset[int] = frozenset()) -> None:
        """A finder over the text that `decode` makes of ids; any of `eos_ids` ends a completion too."""
        self._decode = decode
        self._eos_ids = eos_ids
        self._may_end: defaultdict[tuple[str, ...], dict[int, bool]] = defaultdict(dict)

    def reason(self, before: Sequence[int], drawn: Sequence[int], stop: tuple[str, ...], max_tokens: int) -> StopReason | None:
        """Why a completion ends with its last token; None while it goes on.

        Args:
            before: Tokens of the completion that earlier requests drew.
            drawn: Tokens that this request has drawn, at least one.
            stop: The stop strings.
            max_tokens: Most tokens this request may draw.
        """
        if drawn[-1] in self._eos_ids:
            return StopReason.EOS
        if self.may_end(drawn[-1], stop) and self.is_completed(self.tail((*before, *drawn), stop), stop):
            return StopReason.STOP_STRING
        return StopReason.LENGTH if len(drawn) == max_tokens else None

    def tail(self, token_ids: Sequence[int], stop: tuple[str, ...]) -> tuple[int, ...]:
        """The last tokens in which a stop string may have begun: one of n characters spans at most n tokens."""
        return tuple(token_ids[-max(map(len, stop)) :]) if stop else ()

    def may_end(self, token: int, stop: tuple[str, ...]) -> bool:
        """Whether some text that ends with `token` can complete a stop string; a cheap first test, as few tokens can."""
        may_end = self._may_end[stop]
        if token not in may_end:
            piece = self._decode([token])
            may_end[token] = any(s[-1] in piece for s in stop)
        return may_end[token]

    def is_completed(self, recent: Sequence[int], stop: tuple[str, ...]) -> bool:
        """Whether the text of `recent`, a `tail`, holds a stop string; its last token then completes it."""
        text = self._decode(recent)
        return any(s in text for s in stop)
