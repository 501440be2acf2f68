"""The update phase of a step: batches, log-probs from before the first update, and the optimizer updates themselves."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from arpo.algorithms.aggregation import total_denominator
from arpo.algorithms.mismatch import mismatch_kl
from arpo.batching.policy_batch import PolicyBatch, TreeCredit, make_policy_batches
from arpo.distributed.assignment import share_packs
from arpo.distributed.world import ALONE, World
from arpo.models.policy import PolicyModel
from arpo.training.config import RlRun
from arpo.training.objective import policy_objective
from arpo.training.optimizer import SkippedUpdates, optimizer_step
from arpo.tree import RolloutTree


@dataclass(slots=True)
class MiniBatch:
    """The trees of one optimizer update, as batches that fit the memory."""

    batches: list[PolicyBatch]
    """Those of this rank, then those that it passes without weight while other ranks are busy; one rank has all."""
    num_own: int
    """Batches of this rank; the others have no weight."""
    denominator: float
    """Denominator of the loss of all its trees, also of skipped ones, so that the cut into batches changes nothing."""
    num_trajectory_tokens: int
    """Tokens over all trajectories in the batches of every rank: a token that d leaves share counts d times."""
    old: list[Tensor] | None = None
    """Per batch, log-probs before the step's first update; None: the current ones, as the step has only one update."""
    reference: list[Tensor] | None = None
    """Per batch, log-probs of the reference; None without a KL term in the loss."""


@dataclass(slots=True)
class UpdateTotals:
    """Sums over the updates of a step."""

    loss: float = 0.0
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The sums of `objective.SUMS`, and `policy_kl`: nats from the policy before the step to the present one, over its
    tokens."""
    num_computed: int = 0
    """Tokens that passed forward and backward."""
    num_trajectory_tokens: int = 0
    """Tokens that leaf by leaf training would have passed."""
    ratio_max: float = 1.0
    """Largest ratio of a token's probability to that before the step."""
    grad_norms: list[float] = field(default_factory=list[float])
    """One per update that was not skipped, before clipping."""
    num_skipped: int = 0
    """Updates skipped as their gradient was not finite."""


def make_minibatches(
    trees: Sequence[RolloutTree],
    credits: Sequence[TreeCredit],
    config: RlRun,
    device: torch.device,
    world: World = ALONE,
) -> list[MiniBatch]:
    """The trees of a step in order, in `updates_per_step` mini-batches of nearly equal size.

    Trees whose advantages are all zero are skipped, unless a KL or entropy term trains on them too. Every rank makes the same
    batches of all trees, and keeps its share (`distributed.assignment`).

    Example: 5 trees in 2 updates: 2, then 3.
    """
    every_tree_counts = config.loss.kl.is_in_loss or config.loss.entropy_coefficient > 0
    minibatches: list[MiniBatch] = []
    bounds = [i * len(trees) // config.updates_per_step for i in range(config.updates_per_step + 1)]
    for start, end in pairwise(bounds):
        used = [i for i in range(start, end) if every_tree_counts or not credits[i].is_zero]
        batches = make_policy_batches([trees[i] for i in used], [credits[i] for i in used], config.batching)
        denominator = total_denominator(credit.denominator for credit in credits[start:end])
        num_tokens = sum(_num_trained_tokens(trees[i], credits[i]) for i in used)
        share = share_packs([len(batch.packed.token_ids) for batch in batches], world)
        own = [batches[i].to(device) for i in share.indices]
        minibatches.append(MiniBatch(own, share.num_own, denominator, num_tokens))
    return minibatches


def _num_trained_tokens(tree: RolloutTree, credit: TreeCredit) -> int:
    """Tokens of the trajectories that have a weight in the loss, prompts and observations included."""
    pairs = zip(tree.trajectories(), credit.leaf_weights.tolist(), strict=True)
    return sum(len(trajectory.token_ids) for trajectory, weight in pairs if weight > 0)


@torch.no_grad()
def compute_logprobs(policy: PolicyModel, batches: Sequence[PolicyBatch]) -> list[Tensor]:
    """Per batch, log-probs [N] of its sampled tokens under the present weights, without gradient."""
    return [policy(batch.packed)[0] for batch in batches]


def accumulate_gradients(policy: PolicyModel, minibatch: MiniBatch, config: RlRun, totals: UpdateTotals) -> None:
    """Add the gradient of a mini-batch's loss to the parameters of the policy, and the sums of this rank to `totals`."""
    for index, batch in enumerate(minibatch.batches):
        logprobs, entropies = policy(batch.packed)
        if index >= minibatch.num_own:
            (logprobs.sum() * 0.0).backward()
            continue
        old = minibatch.old[index] if minibatch.old is not None else None
        reference = minibatch.reference[index] if minibatch.reference is not None else None
        objective = policy_objective(logprobs, entropies, old, reference, batch, config.loss, config.mismatch, config.advantage)
        loss = objective.total / minibatch.denominator
        loss.backward()
        totals.loss += float(loss.detach())
        totals.num_computed += len(batch.packed.token_ids)
        for name, value in objective.sums.items():
            totals.sums[name] += float(value)
        if old is not None:
            totals.sums["policy_kl"] += float(mismatch_kl(logprobs, old)[batch.is_first].sum())
            totals.ratio_max = max(totals.ratio_max, float((logprobs.detach() - old).max().exp()))


def update_policy(
    policy: PolicyModel,
    optimizer: torch.optim.Optimizer,
    minibatches: Sequence[MiniBatch],
    rates: Sequence[float],
    config: RlRun,
    skipped: SkippedUpdates,
    world: World = ALONE,
) -> UpdateTotals:
    """Pass `epochs_per_step` times over the mini-batches, with one optimizer update each; an empty one makes none.

    Args:
        policy: In training.
        optimizer: Of its trained parameters.
        minibatches: Of the step, with the log-probs their loss needs.
        rates: Learning rate of each update.
        config: The run.
        skipped: Counts updates whose gradient is not finite.
        world: Ranks, over which the totals are summed.

    Raises:
        TrainingError: too many updates in a row had a gradient that is not finite.
    """
    totals = UpdateTotals()
    for minibatch, rate in zip([*minibatches] * config.epochs_per_step, rates, strict=True):
        if minibatch.batches:
            accumulate_gradients(policy, minibatch, config, totals)
            totals.num_trajectory_tokens += minibatch.num_trajectory_tokens
            norm = optimizer_step(optimizer, rate, config.optimizer.max_grad_norm)
            skipped.count(norm)
            if norm is None:
                totals.num_skipped += 1
            else:
                totals.grad_norms.append(norm)
    return _add_up(totals, world)


def _add_up(totals: UpdateTotals, world: World) -> UpdateTotals:
    """The totals of all ranks, on every rank; what each of them knows of all stays."""
    if world.size == 1:
        return totals
    own = totals.loss, dict(totals.sums), totals.num_computed, totals.ratio_max
    losses, sums, computed, ratios = zip(*world.gather(own), strict=True)
    totals.loss, totals.num_computed, totals.ratio_max = sum(losses), sum(computed), max(ratios)
    names = dict.fromkeys(name for of_rank in sums for name in of_rank)
    totals.sums = defaultdict(float, {name: sum(of_rank.get(name, 0.0) for of_rank in sums) for name in names})
    return totals
