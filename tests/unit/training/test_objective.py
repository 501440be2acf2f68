"""The objective on packed trees is, to the last bits, the sum over leaves that each paper writes down.

The log-probs of all tokens are one parameter vector, indexed by token id (every token of the trees has its own), so that losses
and gradients of any packing compare with the explicit sum over leaves, each leaf on its own.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from math import exp

import pytest
import torch
from torch import Tensor

from arpo.algorithms.aggregation import total_denominator
from arpo.batching.config import BatchingConfig
from arpo.batching.policy_batch import TreeCredit, make_policy_batches
from arpo.training.algorithm_config import (
    AdvantageConfig,
    AppoAdvantageConfig,
    CispoLossConfig,
    GigpoAdvantageConfig,
    GspoLossConfig,
    KlConfig,
    LossConfig,
    MismatchConfig,
    OutcomeAdvantageConfig,
    PpoClipLossConfig,
    ReinforceLossConfig,
)
from arpo.training.credit import assign_credit
from arpo.training.objective import SUMS, policy_objective
from arpo.training.presets import read_preset
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Reward

NUM_IDS = 500
OFF = MismatchConfig(level="none")
WHOLE = BatchingConfig()
LOSSES: dict[str, LossConfig] = {
    "ppo": PpoClipLossConfig(clip_high=0.28),
    "aepo": PpoClipLossConfig(high_mode="gppo"),
    "gppo": PpoClipLossConfig(low_mode="gppo", high_mode="gppo"),
    "dual": PpoClipLossConfig(dual_clip=1.5),
    "cispo": CispoLossConfig(clip_low=0.3, clip_high=0.3),
    "reinforce": ReinforceLossConfig(),
    "gspo": GspoLossConfig(clip_low=0.02, clip_high=0.03),
}
TOKEN_LOSSES = [name for name in LOSSES if name != "gspo"]
AGGREGATIONS = ["token_mean", "sequence_mean", "constant"]


def with_terms(loss: LossConfig, **changes: object) -> LossConfig:
    return loss.model_copy(update=changes)


@pytest.fixture
def trees(make_tree) -> list[RolloutTree]:
    """Two trees of three leaves and one that forks twice more, with entropies and engine log-probs that vary."""
    trees = [make_tree((1.0, 0.0, 0.5)), make_tree((-1.0, 1.0, 0.2), name="u", first_id=60), make_tree(name="v", first_id=100)]
    large = trees[2]
    ids = iter(range(200, 300))
    for parent, num_tokens, reward in ((large.nodes[1], 4, 0.9), (large.nodes[2], 2, -0.5), (large.root, 5, 0.0)):
        leaf = large.append(parent, NodeKind.COMPLETION, [next(ids) for _ in range(num_tokens)])
        leaf.reward, leaf.logprobs, leaf.entropies = Reward(value=reward), [-1.0] * num_tokens, [1.0] * num_tokens
    generator = torch.Generator().manual_seed(1)
    for node in chain.from_iterable(tree.nodes for tree in trees):
        if node.is_sampled:
            node.logprobs = (random(generator, len(node.token_ids)) * 0.3 - 1).tolist()
            node.entropies = random(generator, len(node.token_ids)).abs().tolist()
    return trees


def random(generator: torch.Generator, size: int) -> Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float64)


class Tokens:
    """Log-probs now, before, of the reference, and entropies, by token id."""

    def __init__(self, spread: float = 0.4):
        generator = torch.Generator().manual_seed(0)
        self.old = random(generator, NUM_IDS) * 0.3 - 1
        self.now = (self.old + spread * random(generator, NUM_IDS)).requires_grad_()
        self.reference = self.old + 0.2 * random(generator, NUM_IDS)
        self.entropies = random(generator, NUM_IDS).abs().requires_grad_()

    def gradients(self, total: Tensor) -> tuple[float, Tensor, Tensor]:
        found = torch.autograd.grad(total, (self.now, self.entropies), allow_unused=True)
        of_now, of_entropies = (torch.zeros(NUM_IDS, dtype=torch.float64) if g is None else g for g in found)
        return float(total.detach()), of_now, of_entropies


def packed(
    trees: list[RolloutTree], advantage: AdvantageConfig, loss: LossConfig, correction: MismatchConfig = OFF,
    tokens: Tokens | None = None, batching: BatchingConfig = WHOLE, *, is_on_policy: bool = False,
) -> tuple[float, Tensor, Tensor]:  # fmt: skip
    """Loss and gradients as training computes them."""
    tokens = tokens or Tokens()
    credits = assign_credit(trees, advantage, loss, max_tokens=40)
    total = torch.zeros((), dtype=torch.float64)
    for batch in make_policy_batches(trees, credits, batching):
        ids = batch.packed.targets
        old = None if is_on_policy else tokens.old[ids]
        reference = tokens.reference[ids] if loss.kl.is_in_loss else None
        objective = policy_objective(tokens.now[ids], tokens.entropies[ids], old, reference, batch, loss, correction, advantage)
        total = total + objective.total
    return tokens.gradients(total / total_denominator(credit.denominator for credit in credits))


def by_leaf(trees: list[RolloutTree], advantage: AdvantageConfig, loss: LossConfig, correction: MismatchConfig = OFF):
    """The papers' sums, one leaf and one token after the other."""
    tokens = Tokens()
    credits = assign_credit(trees, advantage, loss, max_tokens=40)
    total = torch.zeros((), dtype=torch.float64)
    for tree, credit in zip(trees, credits, strict=True):
        for row, trajectory in enumerate(tree.trajectories()):
            total = total + leaf_loss(tokens, credit, row, trajectory.completions, loss, correction)
    return tokens.gradients(total / total_denominator(credit.denominator for credit in credits))


def leaf_loss(tokens: Tokens, credit: TreeCredit, row: int, nodes, loss: LossConfig, correction: MismatchConfig) -> Tensor:
    ids = torch.tensor([t for node in nodes for t in node.token_ids])
    engine = torch.tensor([x for node in nodes for x in node.logprobs], dtype=torch.float64)
    claims = torch.cat([claim(credit, row, node) for node in nodes])
    now, old = tokens.now[ids], tokens.old[ids]
    weights = torch.cat([credit.weights[row, node.id].expand(len(node.token_ids)) for node in nodes])
    importance = torch.ones(len(ids), dtype=torch.float64)
    if correction.level == "token":
        importance = (old - engine).exp().clamp(max=correction.cap)
    if correction.level == "sequence":
        importance = (old - engine).sum().exp().clamp(max=correction.cap).expand(len(ids))
    total = importance * -surrogate(now, old, claims, loss)
    if loss.kl.is_in_loss:
        difference = now - tokens.reference[ids]
        kl = difference**2 / 2 if loss.kl.estimator == "k2" else (-difference).exp() - 1 + difference
        total = total + loss.kl.coefficient * kl
    return (weights * (total - loss.entropy_coefficient * tokens.entropies[ids])).sum()


def claim(credit: TreeCredit, row: int, node) -> Tensor:
    factor = None if credit.token_scale is None else credit.token_scale[node.id]
    claims = credit.advantages[row, node.id].expand(len(node.token_ids))
    return claims if factor is None else claims * factor


def surrogate(now: Tensor, old: Tensor, advantages: Tensor, loss: LossConfig) -> Tensor:
    """[T] what one trajectory's tokens contribute, as the papers write it."""
    if isinstance(loss, ReinforceLossConfig):
        return advantages * now
    if isinstance(loss, GspoLossConfig):
        ratio = (now - old).mean().exp().expand(len(now))
        return torch.minimum(ratio * advantages, ratio.clamp(1 - loss.clip_low, 1 + loss.clip_high) * advantages)
    ratio = (now - old).exp()
    if isinstance(loss, CispoLossConfig):
        low = 0 if loss.clip_low is None else 1 - loss.clip_low
        return ratio.detach().clamp(low, 1 + loss.clip_high) * advantages * now
    above, below = (advantages > 0) & (ratio > 1 + loss.clip_high), (advantages < 0) & (ratio < 1 - loss.clip_low)
    kept = torch.where(above, at_bound(1 + loss.clip_high, ratio, loss.high_mode), ratio)
    kept = torch.where(below, at_bound(1 - loss.clip_low, ratio, loss.low_mode), kept)
    if loss.dual_clip is not None:
        kept = torch.where((advantages < 0) & (ratio > loss.dual_clip), loss.dual_clip, kept)
    return kept * advantages


def at_bound(bound: float, ratio: Tensor, mode: str) -> Tensor:
    """The bound; with `gppo` the ratio over its constant self carries a gradient through it."""
    return bound * (ratio / ratio.detach() if mode == "gppo" else torch.ones_like(ratio))


def assert_same(found: tuple[float, Tensor, Tensor], expected: tuple[float, Tensor, Tensor]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-12, abs=1e-12)
    for a, b in zip(found[1:], expected[1:], strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13)
    assert float(expected[1].norm()) > 1e-3


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_the_sum_over_leaves(name: str, aggregation: str, trees: list[RolloutTree]):
    loss = with_terms(LOSSES[name], aggregation=aggregation)
    for weighting in ("uniform", "inverse_branching"):
        advantage = OutcomeAdvantageConfig(leaf_weighting=weighting)  # pyright: ignore[reportArgumentType]
        assert_same(packed(trees, advantage, loss), by_leaf(trees, advantage, loss))


@pytest.mark.parametrize(
    "advantage",
    [
        OutcomeAdvantageConfig(attribution="hard"),
        OutcomeAdvantageConfig(attribution="mixed", mix=0.3),
        OutcomeAdvantageConfig(baseline="subtree_out", scale="none"),
        OutcomeAdvantageConfig(baseline="none", scale="batch_std"),
        OutcomeAdvantageConfig(entropy_scale=2.0),
        OutcomeAdvantageConfig(attribution="hard", entropy_scale=2.0),
        OutcomeAdvantageConfig(attribution="once"),
        GigpoAdvantageConfig(),
    ],
)
@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_every_advantage_is_claimed_leaf_by_leaf(name: str, advantage: AdvantageConfig, trees: list[RolloutTree]):
    """An entropy scale of 2 makes some factors negative."""
    assert_same(packed(trees, advantage, LOSSES[name]), by_leaf(trees, advantage, LOSSES[name]))


@pytest.fixture
def appo_trees(trees: list[RolloutTree]) -> list[RolloutTree]:
    """As `trees`, every leaf that shares a sampled token with an earlier one being a branch."""
    for tree in trees:
        for node in tree.nodes:
            first, *others = tree.children[node.id] or [0]
            tree.nodes[first].is_branch = False
            for child in others:
                tree.nodes[child].is_branch = node.parent is not None
    return trees


def with_the_future(tree: RolloutTree, credit: TreeCredit, tokens: Tokens, advantage: AppoAdvantageConfig) -> TreeCredit:
    """The credit with APPO's factor on the tokens of every trained trajectory, summed one by one."""
    scale: list[Tensor | None] = [torch.full((len(node.token_ids),), torch.nan, dtype=torch.float64) for node in tree.nodes]
    gamma = 2 ** (-1 / advantage.future_half_life)
    for trajectory, weight in zip(tree.trajectories(), credit.leaf_weights.tolist(), strict=True):
        later = 0.0
        for node, i in reversed([(n, i) for n in trajectory.completions for i in range(len(n.token_ids))]) if weight else ():
            later = float((tokens.now.detach() - tokens.old)[node.token_ids[i]]) + gamma * later
            bounds = 1 - advantage.future_clip_low, 1 + advantage.future_clip_high
            scale[node.id][i] = 1 + advantage.future_weight * min(max(exp(later), bounds[0]), bounds[1])  # pyright: ignore
    return replace(credit, token_scale=scale)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_appo_trains_the_trajectories_from_the_prompt_alone(name: str, aggregation: str, appo_trees: list[RolloutTree]):
    """Each by itself, with a factor that sees the rest of it; KL and entropy as well. A branch has no gradient of its own."""
    tokens, advantage = Tokens(spread=0.1), AppoAdvantageConfig(future_weight=0.7, future_clip_low=0.1, future_half_life=2.0)
    loss = with_terms(
        LOSSES[name], kl=KlConfig(coefficient=0.3, estimator="k3"), entropy_coefficient=0.1, aggregation=aggregation
    )
    credits = assign_credit(appo_trees, advantage, loss, max_tokens=40)
    total, num_trained = torch.zeros((), dtype=torch.float64), 0
    for tree, plain in zip(appo_trees, credits, strict=True):
        credit = with_the_future(tree, plain, tokens, advantage)
        for row, trajectory in enumerate(tree.trajectories()):
            if credit.leaf_weights[row] > 0:
                assert not any(node.is_branch for node in trajectory.nodes)
                total, num_trained = total + leaf_loss(tokens, credit, row, trajectory.completions, loss, OFF), num_trained + 1
    assert num_trained == sum(len(tree.children[0]) for tree in appo_trees)
    expected = tokens.gradients(total / total_denominator(credit.denominator for credit in credits))
    for batching in (WHOLE, BatchingConfig(max_tokens=20), BatchingConfig(packing="flat", max_tokens=20)):
        found = packed(appo_trees, advantage, loss, tokens=Tokens(spread=0.1), batching=batching)
        assert_same(found, expected)
    of_branches = [t for tree in appo_trees for node in tree.nodes if node.is_branch for t in node.token_ids]
    assert len(of_branches) > 10
    assert not expected[1][of_branches].any()
    assert not torch.allclose(packed(appo_trees, advantage.model_copy(update={"future_weight": 0.0}), loss)[1], expected[1])


def test_appo_without_a_finished_update_is_a_factor(appo_trees: list[RolloutTree]):
    """Every ratio is 1, so that the advantage is (1 + b) times that without the future."""
    loss = LOSSES["ppo"]
    with_future = packed(appo_trees, AppoAdvantageConfig(future_weight=0.5), loss, is_on_policy=True)
    without = packed(appo_trees, AppoAdvantageConfig(future_weight=0.0), loss, is_on_policy=True)
    assert torch.allclose(with_future[1], 1.5 * without[1], rtol=1e-12, atol=0)


def test_the_future_needs_one_leaf_per_token(trees: list[RolloutTree]):
    (batch,) = make_policy_batches(trees, assign_credit(trees, OutcomeAdvantageConfig(), LOSSES["ppo"]), WHOLE)
    with pytest.raises(ValueError, match="one leaf of each token"):
        _ = batch.token_leaves


@pytest.mark.parametrize(("name", "level"), [*((n, "token") for n in TOKEN_LOSSES), *((n, "sequence") for n in LOSSES)])
def test_the_engine_correction_weighs_tokens_or_whole_trajectories(name: str, level: str, trees: list[RolloutTree]):
    correction = MismatchConfig(level=level, cap=1.2)  # pyright: ignore[reportArgumentType]
    loss, advantage = with_terms(LOSSES[name], aggregation="sequence_mean"), OutcomeAdvantageConfig()
    found = packed(trees, advantage, loss, correction)
    assert_same(found, by_leaf(trees, advantage, loss, correction))
    assert not torch.allclose(found[1], packed(trees, advantage, loss)[1], atol=1e-4)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
@pytest.mark.parametrize("correction", [OFF, MismatchConfig(level="sequence")])
@pytest.mark.parametrize("name", ["ppo", "gspo"])
def test_kl_and_entropy_enter_with_the_leaves_weights(
    name: str, correction: MismatchConfig, estimator: str, trees: list[RolloutTree]
):
    """Neither is corrected for the engine nor scaled by an advantage."""
    kl = KlConfig(coefficient=0.3, estimator=estimator)  # pyright: ignore[reportArgumentType]
    loss = with_terms(LOSSES[name], kl=kl, entropy_coefficient=0.1, aggregation="sequence_mean")
    advantages = [OutcomeAdvantageConfig(leaf_weighting="inverse_branching")]
    advantages += [OutcomeAdvantageConfig(attribution="once")] * (name != "gspo")
    for advantage in advantages:
        found = packed(trees, advantage, loss, correction)
        assert_same(found, by_leaf(trees, advantage, loss, correction))
        assert float(found[2].norm()) > 1e-3


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_change_nothing(name: str, aggregation: str, trees: list[RolloutTree]):
    """All in one batch; tree by tree; cut at forks; every leaf on its own."""
    kl = KlConfig(coefficient=0.3, estimator="k3")
    loss = with_terms(LOSSES[name], aggregation=aggregation, kl=kl, entropy_coefficient=0.1)
    advantage, correction = OutcomeAdvantageConfig(), MismatchConfig(level="sequence", cap=1.2)
    whole = packed(trees, advantage, loss, correction)
    for batching in (
        BatchingConfig(max_tokens=36),
        BatchingConfig(max_tokens=16),
        BatchingConfig(packing="flat", max_tokens=20),
    ):
        assert_same(packed(trees, advantage, loss, correction, batching=batching), whole)


@pytest.mark.parametrize("batching", [BatchingConfig(), BatchingConfig(max_tokens=16), BatchingConfig(packing="flat")])
def test_sums_count_every_token_once(batching: BatchingConfig, trees: list[RolloutTree]):
    tokens = Tokens()
    loss = with_terms(LOSSES["ppo"], kl=KlConfig(coefficient=0.3, estimator="k2"))
    credits = assign_credit(trees, OutcomeAdvantageConfig(attribution="hard"), loss)
    sums = dict.fromkeys(SUMS, 0.0)
    for batch in make_policy_batches(trees, credits, batching):
        ids = batch.packed.targets
        arguments = tokens.now[ids], tokens.entropies[ids], tokens.old[ids], tokens.reference[ids], batch, loss
        of_batch = policy_objective(*arguments, MismatchConfig(level="token", cap=1.2)).sums
        assert of_batch.keys() == SUMS.keys()
        assert not any(value.requires_grad for value in of_batch.values())
        sums = {key: sums[key] + float(of_batch[key]) for key in SUMS}
    sampled = [node for tree in trees for node in tree.nodes if node.is_sampled]
    ids = torch.tensor([t for node in sampled for t in node.token_ids])
    engine = torch.tensor([x for node in sampled for x in node.logprobs or []], dtype=torch.float64)
    assert sums["num_tokens"] == sums["num_ratios"] == sums["num_corrections"] == len(ids)
    assert sums["kl"] == pytest.approx(((tokens.now - tokens.reference)[ids].square().sum() / 2).item())
    difference = tokens.old[ids] - engine
    assert sums["mismatch_kl"] == pytest.approx(float((difference.exp() - 1 - difference).sum()))
    assert sums["truncated"] == int((difference.exp() >= 1.2).sum()) > 0
    assert min(sums["clipped_high"], sums["clipped_low"]) > 0


def test_sums_of_a_ratio_per_trajectory(trees: list[RolloutTree]):
    tokens, loss = Tokens(), LOSSES["gspo"]
    credits = assign_credit(trees, OutcomeAdvantageConfig(), loss)
    (batch,) = make_policy_batches(trees, credits, BatchingConfig())
    ids = batch.packed.targets
    sums = policy_objective(
        tokens.now[ids], tokens.entropies[ids], tokens.old[ids], None, batch, loss, MismatchConfig(level="sequence", cap=1.2)
    ).sums
    assert sums["num_ratios"] == sums["num_corrections"] == 3 + 3 + 6
    assert 0 < sums["clipped_high"] + sums["clipped_low"] < 12
    assert 0 < sums["truncated"] < 12


def test_a_kl_term_without_the_reference_is_an_error(trees: list[RolloutTree]):
    loss = with_terms(LOSSES["ppo"], kl=KlConfig(coefficient=0.1))
    credits = assign_credit(trees, OutcomeAdvantageConfig(), loss)
    (batch,) = make_policy_batches(trees, credits, BatchingConfig())
    values = torch.zeros(len(batch.packed.targets))
    with pytest.raises(ValueError, match="reference is None"):
        policy_objective(values, values, None, None, batch, loss, OFF)


# Equivalences between algorithms


def preset_loss(name: str, trees: list[RolloutTree], **options: object) -> tuple[float, Tensor, Tensor]:
    algorithm = read_preset(name).resolve()
    return packed(trees, algorithm.advantage, algorithm.loss, **options)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def chains(trees: list[RolloutTree]) -> list[RolloutTree]:
    """The same trees with every trajectory grown on its own, as the rule `none` does."""
    ids = iter(range(300, NUM_IDS))
    return [separate(tree, lambda: next(ids)) for tree in trees]


def separate(tree: RolloutTree, new_id: Callable[[], int]) -> RolloutTree:
    apart = RolloutTree.from_prompt(tree.task, tree.root.token_ids)
    for trajectory in tree.trajectories():
        parent = apart.root
        for node in trajectory.nodes[1:]:
            parent = apart.append(
                parent, node.kind, [new_id() for _ in node.token_ids], logprobs=node.logprobs, entropies=node.entropies
            )
        parent.reward = trajectory.leaf.reward
    return apart


def test_arpo_without_branches_is_grpo(chains: list[RolloutTree], trees: list[RolloutTree]):
    assert_same(preset_loss("arpo", chains), preset_loss("grpo", chains))
    loss = PpoClipLossConfig(aggregation="sequence_mean")
    assert preset_loss("arpo", trees)[0] == pytest.approx(by_leaf(trees, OutcomeAdvantageConfig(), loss)[0])


def test_every_tree_advantage_without_branches_is_a_flat_one(chains: list[RolloutTree]):
    """What the configuration refuses for that reason: inverse branching, hard and mixed, subtree_out = leave one out."""
    plain, loss = OutcomeAdvantageConfig(), LOSSES["ppo"]
    expected = packed(chains, plain, loss)
    for changes in ({"leaf_weighting": "inverse_branching"}, {"attribution": "hard"}, {"attribution": "mixed"}):
        assert_same(packed(chains, plain.model_copy(update=changes), loss), expected)
    others = [plain.model_copy(update={"baseline": baseline}) for baseline in ("subtree_out", "leave_one_out")]
    assert_same(packed(chains, others[0], loss), packed(chains, others[1], loss))


def test_dapo_with_equal_bounds_and_no_filter_is_grpo_with_token_mean(chains: list[RolloutTree]):
    dapo, grpo = read_preset("dapo").resolve(), read_preset("grpo").resolve()
    equal, per_token = (
        loss.model_copy(update={"clip_high": 0.2, "aggregation": "token_mean"}) for loss in (dapo.loss, grpo.loss)
    )
    assert equal.aggregation == dapo.loss.aggregation
    assert_same(packed(chains, dapo.advantage, equal), packed(chains, grpo.advantage, per_token))
    assert not torch.allclose(packed(chains, dapo.advantage, dapo.loss)[1], packed(chains, grpo.advantage, per_token)[1])


@pytest.mark.parametrize("name", LOSSES)
def test_ratio_1_is_reinforce(name: str, trees: list[RolloutTree]):
    """For one update per step every loss has the gradient of REINFORCE, which is why its bounds are then refused."""
    of_reinforce = packed(trees, OutcomeAdvantageConfig(), LOSSES["reinforce"])[1]
    found = packed(trees, OutcomeAdvantageConfig(), LOSSES[name], is_on_policy=True)[1]
    assert torch.allclose(found, of_reinforce, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_attributions_agree_inside_the_bounds_and_differ_outside(aggregation: str, trees: list[RolloutTree]):
    loss = PpoClipLossConfig(aggregation=aggregation)  # pyright: ignore[reportArgumentType]
    soft, hard, mixed = (OutcomeAdvantageConfig(attribution=mode) for mode in ("soft", "hard", "mixed"))
    inside = [packed(trees, advantage, loss, tokens=Tokens(spread=0.02)) for advantage in (soft, mixed, hard)]
    assert_same(inside[1], inside[0])
    if aggregation == "sequence_mean":  # sharers of other lengths weigh differently, and hard is their plain mean
        assert not torch.allclose(inside[2][1], inside[0][1], atol=1e-4)
    else:
        assert_same(inside[2], inside[0])
    outside = [packed(trees, advantage, loss)[1] for advantage in (soft, hard, mixed)]
    assert all(not torch.allclose(a, b, atol=1e-4) for a, b in ((outside[0], outside[1]), (outside[0], outside[2])))


@pytest.mark.parametrize("name", ["cispo", "reinforce"])
def test_attributions_agree_everywhere_in_linear_losses(name: str, trees: list[RolloutTree]):
    """Which is why the configuration refuses them there."""
    soft = packed(trees, OutcomeAdvantageConfig(), LOSSES[name])
    for mode in ("hard", "mixed"):
        assert_same(packed(trees, OutcomeAdvantageConfig(attribution=mode), LOSSES[name]), soft)  # pyright: ignore


def test_gspo_of_one_token_each_is_ppo(make_tree):
    """Trajectories of one sampled token: the ratio of the trajectory is that of the token."""
    tree = RolloutTree.from_prompt(make_tree().task, [1, 2])
    for token, reward in ((5, 1.0), (6, 0.0), (7, 0.3)):
        tree.append(tree.root, NodeKind.COMPLETION, [token], logprobs=[-1.0], entropies=[0.5], reward=Reward(value=reward))
    gspo, ppo = GspoLossConfig(clip_low=0.2, clip_high=0.2), PpoClipLossConfig()
    assert_same(packed([tree], OutcomeAdvantageConfig(), gspo), packed([tree], OutcomeAdvantageConfig(), ppo))
