"""One optimizer update of the policy from credited trees."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.algorithms.losses import ppo_clip_loss
from arpo.algorithms.losses.ppo_clip import mismatch_kl
from arpo.batching.policy_batch import PolicyBatch
from arpo.models.attention import forward_hidden
from arpo.models.logprobs import hidden_to_logprobs
from arpo.training.config import LossConfig


@dataclass(slots=True)
class UpdateTotals:
    """Sums over the trained tokens of a step, to be divided at its end."""

    loss: float = 0.0
    entropy: float = 0.0
    mismatch_kl: float = 0.0
    clipped_high: int = 0
    clipped_low: int = 0
    num_targets: int = 0
    num_tokens: int = 0
    grad_norms: list[float] = field(default_factory=list)


def batch_logprobs(model: PreTrainedModel, batch: PolicyBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies [N] of a batch's sampled tokens at the sampling temperature."""
    packed = batch.packed
    hidden = forward_hidden(model, packed.token_ids, packed.positions, packed.layout)
    return hidden_to_logprobs(model, hidden[packed.predictors], packed.targets, temperature)


@torch.no_grad()
def old_logprobs(model: PreTrainedModel, batches: Sequence[PolicyBatch], temperature: float) -> list[Tensor]:
    """Log-probs per batch under the weights before the step's first update."""
    return [batch_logprobs(model, batch, temperature)[0] for batch in batches]


def accumulate_gradients(
    model: PreTrainedModel,
    batches: Sequence[PolicyBatch],
    old: Sequence[Tensor] | None,
    denominator: float,
    config: LossConfig,
    temperature: float,
    totals: UpdateTotals,
) -> None:
    """Add the gradient of the loss over `batches` to the model's parameters.

    Args:
        model: The policy.
        batches: The mini-batch, cut into packs that fit the memory.
        old: Log-probs before the step, one tensor per batch; None on the step's only update, where they are the current ones.
        denominator: Of the whole mini-batch, so that the cut into packs changes nothing.
        config: The loss.
        temperature: The sampling temperature.
        totals: Figures to add to.
    """
    for index, batch in enumerate(batches):
        logprobs, entropies = batch_logprobs(model, batch, temperature)
        before = logprobs.detach() if old is None else old[index]
        result = ppo_clip_loss(
            logprobs - before, batch.positive, batch.negative, clip_low=config.clip_low, clip_high=config.clip_high
        )
        loss = result.loss.sum() / denominator
        loss.backward()
        totals.loss += float(loss.detach())
        totals.entropy += float(entropies.detach().sum())
        totals.mismatch_kl += float(mismatch_kl(before, batch.rollout_logprobs).sum())
        totals.clipped_high += int(result.is_clipped_high.sum())
        totals.clipped_low += int(result.is_clipped_low.sum())
        totals.num_targets += len(logprobs)
        totals.num_tokens += len(batch.packed.token_ids)
