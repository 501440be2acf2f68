"""The start-up probe: the engine holds the trainer's weights, computes their log-probs, and gets every update whole.

Weights are proved tensor by tensor, by digests, and the arithmetic by log-probs under the true weights. Log-probs of a network
that was changed beyond recognition prove nothing: it amplifies rounding to nats.
"""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from arpo.batching.packing import PackNode, pack_trees
from arpo.errors import EngineError
from arpo.inference.base import InferenceEngine
from arpo.models.lora import adapter_parameters
from arpo.models.policy import PolicyModel
from arpo.models.weights import ModelWeights, weight_digests
from arpo.types import SamplingParams

TOLERANCE = {"float64": 1e-6, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""Largest mean difference in nats the probe accepts, by the coarser number format of the two sides; see docs/precision.md."""

_NUM_COMPLETIONS, _NUM_TOKENS = 4, 16
_ADAPTER_SHIFT = 0.03
_SIGNIFICANT_EFFECT = 4.0
"""Effect of a change of weights, in tolerances, that the log-probs of an engine without digests must show."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


async def check_agreement(
    policy: PolicyModel, engine: InferenceEngine[Any], prompt: list[int], engine_dtype: str | None = None
) -> float:
    """Mean difference between engine and trainer log-probs of sampled tokens, nats; the engine's weights are proved besides.

    The engine must hold the trainer's weights, then those of two updates: one that changes the last bit of every weight, and
    moves an adapter, and one back; all three are compared tensor by tensor. An engine that has no digests must show the effect
    of a larger change instead, on log-probs: the smallest whose effect exceeds four tolerances in the trainer. The policy's
    weights are restored to the bit.

    Args:
        policy: The trainer's, at the temperature of the rollouts.
        engine: The engine that samples for it, without live prefixes.
        prompt: Token ids of a real prompt.
        engine_dtype: Number format the engine computes in; None: the policy's.

    Raises:
        EngineError: a tensor or the log-probs differ: gradients would be of another policy.
    """
    return await _Probe(policy, engine, prompt, engine_dtype).run()


class _Probe:
    def __init__(self, policy: PolicyModel, engine: InferenceEngine[Any], prompt: list[int], engine_dtype: str | None):
        self._policy, self._engine, self._prompt = policy, engine, prompt
        own = policy.network.dtype
        self._dtype: torch.dtype = own if engine_dtype is None else getattr(torch, engine_dtype)
        self._names = [str(dtype).removeprefix("torch.") for dtype in dict.fromkeys((own, self._dtype))]
        self._tolerance = max(TOLERANCE[name] for name in self._names)
        self._last_bit = max(0, _mantissa_bits(own) - _mantissa_bits(self._dtype))
        """Index of the last bit of the policy's numbers that the engine's format has too."""

    async def run(self) -> float:
        token_ids, logprobs = await self._sample()
        difference = _mean_difference(self._logprobs(token_ids), logprobs)
        if math.isnan(difference):
            raise EngineError(
                "start-up probe: the log-probs of the policy are not numbers: its weights hold NaN or infinite values, or "
                "float16 is too narrow for them; use another checkpoint, or another model.dtype"
            )
        has_digests = await self._engine.weight_digests() is not None
        if has_digests:
            await self._require_weights("the engine does not run the trainer's weights")
        self._require(difference, self._tolerance, "the engine does not run the trainer's weights, tokenizer or temperature")
        await (self._prove_update() if has_digests else self._prove_update_by_effect(token_ids))
        return difference

    async def _prove_update(self) -> None:
        with _other_weights(self._policy, self._last_bit, _ADAPTER_SHIFT):
            await self._update()
            await self._require_weights("a weight update did not reach the engine whole")
        await self._update()
        await self._require_weights("a second weight update did not reach the engine whole")

    async def _prove_update_by_effect(self, token_ids: list[list[int]]) -> None:
        """Change more and more bits of each weight, until the engine's log-probs must show it."""
        before = self._logprobs(token_ids)
        num_bits, has_adapter = _mantissa_bits(self._policy.network.dtype), bool(adapter_parameters(self._policy.network))
        for bit in range(max(self._last_bit, num_bits - 12), num_bits):
            shift = _ADAPTER_SHIFT * 2.0 ** (bit - num_bits)
            with _other_weights(self._policy, self._last_bit if has_adapter else bit, shift):
                effect = _mean_difference(self._logprobs(token_ids), before)
                if effect < _SIGNIFICANT_EFFECT * self._tolerance:
                    continue
                await self._update()
                difference = await self._difference()
            self._require(difference, effect / 2, "a weight update did not reach the engine whole")
            break
        else:
            raise EngineError(
                f"start-up probe: no change of the weights moves the log-probs of the {len(before)} tokens sampled after the "
                f"first prompt, so that an engine without digests cannot prove an update; use a model that was trained"
            )
        await self._update()
        self._require(await self._difference(), self._tolerance, "a second weight update did not reach the engine whole")

    async def _update(self) -> None:
        await self._engine.update_weights(ModelWeights(self._policy.network), self._engine.version)

    async def _require_weights(self, reason: str) -> None:
        held = await self._engine.weight_digests() or {}
        own = weight_digests(ModelWeights(self._policy.network), self._dtype if len(self._names) > 1 else None)
        differing = [name for name in sorted(own.keys() | held.keys()) if own.get(name) != held.get(name)]
        if differing:
            name = differing[0]
            raise EngineError(
                f"start-up probe: {len(differing)} of {len(own)} weights differ between engine and trainer, {name!r} first "
                f"(engine: {held.get(name, 'none')}; trainer: {own.get(name, 'none')}); {reason}"
            )

    def _require(self, difference: float, tolerance: float, reason: str) -> None:
        if not difference <= tolerance:
            raise EngineError(
                f"start-up probe: engine and trainer differ by {difference:.2g} nats per sampled token, more than the "
                f"{tolerance:.2g} allowed for {' and '.join(self._names)}; {reason}"
            )

    async def _difference(self) -> float:
        token_ids, logprobs = await self._sample()
        return _mean_difference(self._logprobs(token_ids), logprobs)

    async def _sample(self) -> tuple[list[list[int]], Tensor]:
        """Completions of the prompt, and the engine's log-probs of their tokens, one after the other."""
        sampling = SamplingParams(temperature=self._policy.temperature, max_tokens=_NUM_TOKENS)
        prefix = await self._engine.prefill(None, self._prompt)
        results = await asyncio.gather(*(self._engine.generate(prefix, sampling, seed=s) for s in range(_NUM_COMPLETIONS)))
        for handle in (prefix, *(longer for _, longer in results)):
            handle.release()
        completions = [completion for completion, _ in results]
        return [c.token_ids for c in completions], torch.tensor([value for c in completions for value in c.logprobs])

    def _logprobs(self, token_ids: list[list[int]]) -> Tensor:
        """The trainer's log-probs of completions of the prompt."""
        before = self._prompt
        nodes = [[PackNode(None, [*before, *ids], [False] * len(before) + [True] * len(ids))] for ids in token_ids]
        with torch.no_grad():
            return self._policy(pack_trees(nodes).to(self._policy.device))[0].cpu()


def _mean_difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


def _mantissa_bits(dtype: torch.dtype) -> int:
    return round(-math.log2(torch.finfo(dtype).eps))


@contextmanager
def _other_weights(policy: PolicyModel, bit: int, adapter_shift: float) -> Iterator[None]:
    """Flip a bit of every weight, 0 the last; add to an adapter instead, whose zeros have no bits to flip."""
    adapter = list(adapter_parameters(policy.network).values())
    before = [parameter.detach().clone() for parameter in adapter]
    weights = [p for p in policy.parameters() if all(p is not a for a in adapter)]
    with torch.no_grad():
        _flip(weights, bit)
        for parameter in adapter:
            parameter.add_(adapter_shift)
    try:
        yield
    finally:
        with torch.no_grad():
            _flip(weights, bit)
            for parameter, value in zip(adapter, before, strict=True):
                parameter.copy_(value)


def _flip(weights: list[torch.nn.Parameter], bit: int) -> None:
    for weight in weights:
        weight.view(_INTEGERS[weight.element_size()]).bitwise_xor_(1 << bit)
