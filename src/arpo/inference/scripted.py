"""An engine whose completions come from a function of the prefix's text: demonstrations and tests grow trees with it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from arpo.errors import EngineError
from arpo.protocols.base import Tokenizer
from arpo.types import Completion, SamplingParams, StopReason


@dataclass(slots=True)
class ScriptedPrefix:
    """A prefix: the ids themselves, as there is nothing to compute."""

    token_ids: tuple[int, ...]
    is_released: bool = False

    @property
    def num_tokens(self) -> int:
        """Tokens from the first of the prompt to the last of the prefix."""
        return len(self.token_ids)

    def fork(self) -> "ScriptedPrefix":
        """As `PrefixHandle.fork`."""
        return ScriptedPrefix(_ids(self))

    def truncate(self, num_tokens: int, tail: Sequence[int]) -> "ScriptedPrefix":
        """As `PrefixHandle.truncate`."""
        ids = _ids(self)
        if not len(tail) <= num_tokens < len(ids) or ids[num_tokens - len(tail) : num_tokens] != tuple(tail):
            raise EngineError(f"scripted engine: a prefix of {len(ids)} tokens cannot be cut to {num_tokens} that end so")
        return ScriptedPrefix(ids[:num_tokens])

    def release(self) -> None:
        """As `PrefixHandle.release`."""
        _ids(self)
        self.is_released = True


class ScriptedEngine:
    """Writes `script(prefix_text)` after every prefix, with log-probs and entropies of 0.

    A completion ends with STOP_STRING at the first stop string in the script's text, or with EOS (no token stands for it) where
    the text ends without one. `max_tokens` cuts it with LENGTH; the request goes on by `position`, as with any engine.

    Example:
        With `script = lambda text: "<answer> 4</answer>"` and stop `("</answer>",)` every prefix is continued by the ids of
        "<answer> 4</answer>" and StopReason.STOP_STRING.
    """

    entropy_estimators: tuple[str, ...] = ("exact", "top_k")
    """Both: nothing is uncertain."""

    def __init__(self, script: Callable[[str], str], tokenizer: Tokenizer) -> None:
        self.version = 0
        self._script = script
        self._tokenizer = tokenizer

    async def prefill(self, parent: ScriptedPrefix | None, token_ids: Sequence[int]) -> ScriptedPrefix:
        """The prefix `parent` + `token_ids`."""
        return ScriptedPrefix((*(_ids(parent) if parent else ()), *token_ids))

    async def generate(
        self, prefix: ScriptedPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, ScriptedPrefix]:
        """The tokens of the script's completion from `position` on, at most `sampling.max_tokens` of them.

        Raises:
            EngineError: the prefix was released, is shorter than `position`, or was not continued by the script.
        """
        ids = _ids(prefix)
        start, drawn = ids[: len(ids) - position], ids[len(ids) - position :]
        text = self._script(self._tokenizer.decode(start))
        ends = [text.index(s) + len(s) for s in stop if s in text]
        script = tuple(self._tokenizer.encode_markup(text[: min(ends, default=len(text))]))
        if script[:position] != drawn:
            raise EngineError(
                f"scripted engine: position = {position}, but the last tokens of the prefix are not the script's own"
            )
        token_ids = list(script[position : position + sampling.max_tokens])
        reason = StopReason.STOP_STRING if ends else StopReason.EOS
        if position + len(token_ids) < len(script):
            reason = StopReason.LENGTH
        zeros = [0.0] * len(token_ids)
        completion = Completion(token_ids=token_ids, logprobs=zeros, entropies=list(zeros), stop_reason=reason)
        return completion, ScriptedPrefix((*ids, *token_ids))

    def load_weights(self, source: Path | None, version: int) -> None:
        """Nothing to load; only the version changes."""
        self.version = version

    @contextmanager
    def participate(self) -> Iterator[None]:
        """Nothing to wait for: completions never depend on one another."""
        yield

    async def aclose(self) -> None:
        """Nothing to free."""


def _ids(prefix: ScriptedPrefix) -> tuple[int, ...]:
    if prefix.is_released:
        raise EngineError("scripted engine: this prefix was released; a released prefix cannot be continued")
    return prefix.token_ids
