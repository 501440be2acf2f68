"""A request on its way through an engine that draws tokens step by step."""

import asyncio
from dataclasses import dataclass, field

from arpo.errors import EngineError
from arpo.inference.stopping import StopFinder
from arpo.types import Completion, SamplingParams, StopReason


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """One call of `generate`, with the tokens drawn so far."""

    future: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    sampling: SamplingParams = field(default_factory=SamplingParams)
    seed: int = 0
    position: int = 0
    stop: tuple[str, ...] = ()
    before: tuple[int, ...] = ()
    """Tokens of the same completion that earlier requests drew: `position` of them."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    def add(self, token: int, logprob: float, entropy: float, stops: StopFinder) -> StopReason | None:
        """Add a drawn token; return why the completion ends with it, or None while it goes on."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.entropies.append(entropy)
        return stops.reason(self.before, self.tokens, self.stop, self.sampling.max_tokens)

    def completion(self, reason: StopReason, version: int) -> Completion:
        """The tokens drawn, as sampled by version `version` of the weights."""
        return Completion(
            token_ids=self.tokens, logprobs=self.logprobs, entropies=self.entropies, stop_reason=reason, policy_version=version
        )

    def fail(self, error: Exception, engine: str) -> bool:
        """Raise an EngineError in the caller, unless it has its result or was cancelled; whether it did."""
        if self.future.done():
            return False
        failure = EngineError(f"{engine} failed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        self.future.set_exception(failure)
        return True
