"""An engine whose completions come from a function of the prefix's text, for demonstrations and tests."""

from collections.abc import Callable, Sequence

from arpo.errors import EngineError
from arpo.inference.token_prefix import TokenPrefix, TokenPrefixEngine
from arpo.protocols.base import Tokenizer
from arpo.types import Completion, SamplingParams, StopReason


class ScriptedEngine(TokenPrefixEngine):
    """Writes `script(prefix_text)` after every prefix, with log-probs and entropies of 0.

    A completion ends with STOP_STRING at the first stop string in the script's text, or with EOS (without a token for it) where
    the text ends without one. `max_tokens` cuts it with LENGTH; `position` continues the request, as in any engine.

    Example:
        With `script = lambda text: "<answer> 4</answer>"` and stop `("</answer>",)` every completion is the ids of
        "<answer> 4</answer>" with StopReason.STOP_STRING.
    """

    entropy_estimators: tuple[str, ...] = ("exact", "top_k")
    """Both, as every entropy is 0."""

    def __init__(self, script: Callable[[str], str], tokenizer: Tokenizer) -> None:
        super().__init__()
        self._script = script
        self._tokenizer = tokenizer

    async def generate(
        self, prefix: TokenPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, TokenPrefix]:
        """The tokens of the script's completion from `position` on, at most `sampling.max_tokens` of them.

        Raises:
            EngineError: the prefix was released, or its last `position` tokens are not the script's.
        """
        prefix.require_held()
        ids = prefix.token_ids
        start, drawn = ids[: len(ids) - position], ids[len(ids) - position :]
        text = self._script(self._tokenizer.decode(start))
        ends = [text.index(s) + len(s) for s in stop if s in text]
        script = tuple(self._tokenizer.encode_markup(text[: min(ends, default=len(text))]))
        if script[:position] != drawn:
            raise EngineError(f"scripted engine: position = {position}, but the last tokens of the prefix are not the script's")
        token_ids = list(script[position : position + sampling.max_tokens])
        reason = StopReason.STOP_STRING if ends else StopReason.EOS
        if position + len(token_ids) < len(script):
            reason = StopReason.LENGTH
        zeros = [0.0] * len(token_ids)
        completion = Completion(
            token_ids=token_ids, logprobs=zeros, entropies=list(zeros), stop_reason=reason, policy_version=self.version
        )
        return completion, prefix.extend(token_ids, is_sampled=True)
