"""The start-up probe: engine and trainer must compute the same log-probs from the same weights."""

from typing import Any

import torch
from transformers import PreTrainedModel

from arpo.batching.packing import PackNode, pack_trees
from arpo.errors import EngineError
from arpo.inference.base import InferenceEngine
from arpo.models.attention import forward_hidden
from arpo.models.logprobs import hidden_to_logprobs
from arpo.types import SamplingParams

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
"""Largest difference in nats the probe accepts, by number format."""


async def check_agreement(model: PreTrainedModel, engine: InferenceEngine[Any], prompt: list[int], temperature: float) -> float:
    """Largest difference between engine and trainer log-probs over a few sampled tokens, nats.

    Raises:
        EngineError: it exceeds the tolerance of the number format: gradients would be those of another policy.
    """
    prefix = await engine.prefill(None, prompt)
    completion, longer = await engine.generate(prefix, SamplingParams(temperature=temperature, max_tokens=16), seed=0)
    prefix.release()
    longer.release()
    sampled = completion.token_ids
    packed = pack_trees([[PackNode(None, [*prompt, *sampled], [False] * len(prompt) + [True] * len(sampled))]]).to(model.device)
    with torch.no_grad():
        hidden = forward_hidden(model, packed.token_ids, packed.positions, packed.layout)
        logprobs, _ = hidden_to_logprobs(model, hidden[packed.predictors], packed.targets, temperature)
    difference = float((logprobs.cpu() - torch.tensor(completion.logprobs)).abs().max())
    if difference > TOLERANCE[model.dtype]:
        raise EngineError(
            f"start-up probe: engine and trainer differ by {difference:.2g} nats on sampled tokens, allowed are "
            f"{TOLERANCE[model.dtype]:.2g} for {model.dtype}; the engine does not run the trainer's weights"
        )
    return difference
