"""The start-up probe: engine and trainer must compute the same log-probs, before and after a weight update."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from arpo.batching.packing import PackNode, pack_trees
from arpo.errors import EngineError
from arpo.inference.base import InferenceEngine
from arpo.models.lora import adapter_parameters
from arpo.models.policy import PolicyModel
from arpo.models.weights import ModelWeights
from arpo.types import SamplingParams

TOLERANCE = {"float64": 1e-6, "float32": 1e-3, "bfloat16": 0.3, "float16": 0.1}
"""Largest difference in nats the probe accepts, by the coarser number format of the two sides."""

_ADAPTER_SHIFT = 0.05


async def check_agreement(
    policy: PolicyModel, engine: InferenceEngine[Any], prompt: list[int], engine_dtype: str | None = None
) -> float:
    """Largest difference between engine and trainer log-probs, nats: before a weight update, after it, and after its reversal.

    The update reverses the rows of every weight, and moves an adapter: another model, with which only an engine agrees that has
    every tensor. It is undone to the bit. Each comparison samples a few tokens after `prompt`.

    Args:
        policy: The trainer's, at the temperature of the rollouts.
        engine: The engine that samples for it, without live prefixes.
        prompt: Token ids of a real prompt.
        engine_dtype: Number format the engine computes in; None: the policy's.

    Raises:
        EngineError: a difference exceeds the tolerance of the number format: gradients would be of another policy.
    """
    names = [str(policy.network.dtype).removeprefix("torch."), *([engine_dtype] if engine_dtype else [])]
    tolerance = max(TOLERANCE[name] for name in names)
    largest = await _compare(policy, engine, prompt)
    _require(largest, tolerance, names, "the engine does not run the trainer's weights, tokenizer or temperature")
    weights, version = ModelWeights(policy.network), engine.version
    with _other_weights(policy):
        await engine.update_weights(weights, version)
        changed = await _compare(policy, engine, prompt)
    _require(changed, tolerance, names, "a weight update did not reach the engine whole")
    await engine.update_weights(weights, version)
    restored = await _compare(policy, engine, prompt)
    _require(restored, tolerance, names, "a second weight update did not reach the engine whole")
    return max(largest, changed, restored)


async def _compare(policy: PolicyModel, engine: InferenceEngine[Any], prompt: list[int]) -> float:
    prefix = await engine.prefill(None, prompt)
    completion, longer = await engine.generate(prefix, SamplingParams(temperature=policy.temperature, max_tokens=16), seed=0)
    prefix.release()
    longer.release()
    sampled = completion.token_ids
    loss_mask = [False] * len(prompt) + [True] * len(sampled)
    with torch.no_grad():
        logprobs, _ = policy(pack_trees([[PackNode(None, [*prompt, *sampled], loss_mask)]]).to(policy.device))
    return float((logprobs.cpu() - torch.tensor(completion.logprobs)).abs().max())


def _require(difference: float, tolerance: float, names: list[str], reason: str) -> None:
    if math.isnan(difference):
        raise EngineError(
            "start-up probe: the log-probs of the policy are not numbers: its weights hold NaN or infinite values, or float16 "
            "is too narrow for them; use another checkpoint, or another model.dtype"
        )
    if not difference <= tolerance:
        raise EngineError(
            f"start-up probe: engine and trainer differ by {difference:.2g} nats on sampled tokens, more than the "
            f"{tolerance:.2g} allowed for {' and '.join(names)}; {reason}"
        )


@contextmanager
def _other_weights(policy: PolicyModel) -> Iterator[None]:
    """Reverse every row; move an adapter too, as reversal leaves its zeros unchanged."""
    adapter = list(adapter_parameters(policy.network).values())
    adapter_before = [parameter.detach().clone() for parameter in adapter]
    with torch.no_grad():
        _reverse_rows(policy)
        for parameter in adapter:
            parameter.add_(_ADAPTER_SHIFT)
    try:
        yield
    finally:
        with torch.no_grad():
            _reverse_rows(policy)
            for parameter, value in zip(adapter, adapter_before, strict=True):
                parameter.copy_(value)


def _reverse_rows(policy: PolicyModel) -> None:
    for parameter in policy.parameters():
        parameter.copy_(parameter.flip(0))
