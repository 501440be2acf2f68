"""The loss of one batch: policy loss, engine correction, KL and entropy term, as configured."""

from typing import NamedTuple

import torch
from torch import Tensor

from arpo.algorithms.advantages import future_scale
from arpo.algorithms.kl import kl_estimate
from arpo.algorithms.losses import (
    PolicyLoss,
    cispo_loss,
    gspo_loss,
    ppo_clip_loss,
    reinforce_loss,
    sequence_log_ratio,
)
from arpo.algorithms.mismatch import mismatch_kl, sequence_importance_weights, token_importance_weights
from arpo.batching.policy_batch import PolicyBatch, TokenCredit
from arpo.training.algorithm_config import (
    AdvantageConfig,
    AppoAdvantageConfig,
    CispoLossConfig,
    GspoLossConfig,
    LossConfig,
    MismatchConfig,
    PpoClipLossConfig,
)


class Objective(NamedTuple):
    """Loss of one batch, before the denominator."""

    total: Tensor
    """Scalar sum over leaves and tokens, with gradient; to be divided by the denominator of the whole mini-batch."""
    sums: dict[str, Tensor]
    """Detached, by the names of `SUMS`."""


SUMS = {
    "num_tokens": "sampled tokens, each once however often a cut tree computes it",
    "mismatch_kl": "nats, engine against trainer, over these tokens",
    "kl": "nats, policy against reference, over these tokens; 0 without a KL term",
    "num_ratios": "ratios that could be clipped: tokens, or leaves where the ratio is a trajectory's",
    "clipped_high": "of these, above a bound that holds",
    "clipped_low": "of these, below a bound that holds",
    "num_corrections": "importance weights of the engine correction: tokens, leaves, or none",
    "truncated": "of these, at the cap",
}
"""Name of each sum -> what it is over."""


def policy_objective(
    logprobs: Tensor,
    entropies: Tensor,
    old: Tensor | None,
    reference: Tensor | None,
    batch: PolicyBatch,
    loss: LossConfig,
    correction: MismatchConfig,
    advantage: AdvantageConfig | None = None,
) -> Objective:
    """The loss of a batch: sum over leaves i and sampled tokens t of w_i (policy loss_it + beta KL_t - c H_t).

    Args:
        logprobs: [N] of the sampled tokens under the policy now, with gradient.
        entropies: [N] nats, with gradient where the entropy term is on.
        old: [N] log-probs before the step's first update; None: the current ones, so that every ratio is 1.
        reference: [N] log-probs of the reference; None where the loss has no KL term.
        batch: The packed trees and their credit.
        loss: The policy loss and its terms.
        correction: The correction for the engine.
        advantage: The part of it that follows the ratio: APPO's factor; None: no such part.

    Raises:
        ValueError: the loss has a KL term and `reference` is None.
    """
    if loss.kl.is_in_loss and reference is None:
        raise ValueError("policy_objective: loss.kl.coefficient is above 0, but reference is None; pass its log-probs")
    before = logprobs.detach() if old is None else old
    if isinstance(loss, GspoLossConfig):
        total, sums = _sequence_term(logprobs, before, batch, loss, correction)
    else:
        total, sums = _token_term(logprobs, before, batch, loss, correction, advantage)
    if loss.kl.is_in_loss or loss.entropy_coefficient:
        weight = batch.token_credit().weight
        if reference is not None:
            kl = kl_estimate(logprobs, reference, loss.kl.estimator)
            total = total + loss.kl.coefficient * (weight * kl).sum()
            sums["kl"] = kl.detach()[batch.is_first].sum()
        total = total - loss.entropy_coefficient * (weight * entropies).sum()
    return Objective(total, _measure(before, batch) | sums)


def _token_term(
    logprobs: Tensor,
    before: Tensor,
    batch: PolicyBatch,
    loss: LossConfig,
    correction: MismatchConfig,
    advantage: AdvantageConfig | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses with a ratio per token, or none: the advantages of a token's sharers are summed first."""
    leaf_weights, sums = _leaf_correction(before, batch, correction)
    token_weights: Tensor | float = 1.0
    if correction.level == "token":
        token_weights = token_importance_weights(before, batch.rollout_logprobs, correction.cap)
        sums = _count_truncated(token_weights[batch.is_first], correction.cap)
    credit = batch.token_credit(leaf_weights)
    if isinstance(advantage, AppoAdvantageConfig) and advantage.future_weight:
        credit = _scale_by_future(credit, logprobs - before, batch, advantage)
    result = _token_loss(logprobs, logprobs - before, credit, loss)
    ratios = {
        "num_ratios": batch.is_first.sum(),
        "clipped_high": (result.is_clipped_high & batch.is_first).sum(),
        "clipped_low": (result.is_clipped_low & batch.is_first).sum(),
    }
    return (result.loss * token_weights).sum(), sums | ratios


def _scale_by_future(credit: TokenCredit, log_ratio: Tensor, batch: PolicyBatch, advantage: AppoAdvantageConfig) -> TokenCredit:
    """APPO: the advantage of a token grows with the likelihood that the rest of its trajectory gained in the step."""
    scale = future_scale(
        log_ratio, batch.token_leaves, weight=advantage.future_weight, clip_low=advantage.future_clip_low,
        clip_high=advantage.future_clip_high, half_life=advantage.future_half_life,
    )  # fmt: skip
    return credit._replace(positive=scale * credit.positive, negative=scale * credit.negative)


def _token_loss(logprobs: Tensor, log_ratio: Tensor, credit: TokenCredit, loss: LossConfig) -> PolicyLoss:
    match loss:
        case PpoClipLossConfig():
            return ppo_clip_loss(
                log_ratio, credit.positive, credit.negative, clip_low=loss.clip_low, clip_high=loss.clip_high,
                low_mode=loss.low_mode, high_mode=loss.high_mode, dual_clip=loss.dual_clip,
            )  # fmt: skip
        case CispoLossConfig():
            return cispo_loss(
                logprobs, log_ratio, credit.positive, credit.negative, clip_low=loss.clip_low, clip_high=loss.clip_high
            )
        case _:
            return reinforce_loss(logprobs, credit.positive, credit.negative)


def _sequence_term(
    logprobs: Tensor, before: Tensor, batch: PolicyBatch, loss: GspoLossConfig, correction: MismatchConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """GSPO: a leaf has one ratio for its whole path, so sharers of a token differ."""
    leaf_weights, sums = _leaf_correction(before, batch, correction)
    log_ratio = sequence_log_ratio(batch.leaf_sums(logprobs - before), batch.leaf_lengths)
    advantages = torch.zeros_like(batch.leaf_weights)
    advantages[batch.edge_leaf] = batch.edge_advantages  # the same on every node of a leaf's path
    result = gspo_loss(log_ratio, advantages, clip_low=loss.clip_low, clip_high=loss.clip_high)
    weights = batch.leaf_weights * batch.leaf_lengths * (1.0 if leaf_weights is None else leaf_weights)
    ratios = {
        "num_ratios": torch.tensor(len(weights)),
        "clipped_high": result.is_clipped_high.sum(),
        "clipped_low": result.is_clipped_low.sum(),
    }
    return (result.loss * weights).sum(), sums | ratios


def _leaf_correction(before: Tensor, batch: PolicyBatch, correction: MismatchConfig) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Importance weights [L] of level `sequence`; None at the others."""
    if correction.level != "sequence":
        return None, {}
    weights = sequence_importance_weights(batch.leaf_sums(before - batch.rollout_logprobs), correction.cap)
    return weights, _count_truncated(weights, correction.cap)


def _count_truncated(weights: Tensor, cap: float) -> dict[str, Tensor]:
    # a weight at the cap is exp(ln cap), which may be one rounding below it
    return {"num_corrections": torch.tensor(len(weights)), "truncated": (weights >= cap * (1 - 1e-6)).sum()}


def _measure(before: Tensor, batch: PolicyBatch) -> dict[str, Tensor]:
    """The sums that no term decides, and 0 for those of terms that may be off."""
    first, zero = batch.is_first, torch.tensor(0)
    return {
        "num_tokens": first.sum(),
        "mismatch_kl": mismatch_kl(before, batch.rollout_logprobs)[first].sum(),
        "kl": zero,
        "num_corrections": zero,
        "truncated": zero,
    }
