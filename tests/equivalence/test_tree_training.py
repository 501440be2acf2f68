"""Training packed trees gives the loss and every gradient of training each leaf on its own.

The reference is the model's stock forward pass (transformers' own attention, one leaf at a time, no packing) and the losses as
their papers write them, summed over leaves. Transformers computes norms in float32 whatever the model's format, so for the
float64 comparison they are replaced by the same formula in the model's format: the tolerance is then 1e-10 of the gradient's
norm. Log-probs before the step, and of the reference policy, are the current ones moved by a function of a token and its
position, so that they are the same wherever a token is computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.algorithms.aggregation import total_denominator
from arpo.batching.config import BatchingConfig
from arpo.batching.policy_batch import PolicyBatch, TreeCredit, make_policy_batches
from arpo.errors import ModelError
from arpo.models.attention import ATTENTION_NAME
from arpo.models.config import LoraConfig
from arpo.models.lora import adapter_parameters, add_adapter
from arpo.models.policy import PolicyModel
from arpo.training.algorithm_config import (
    CispoLossConfig,
    GspoLossConfig,
    KlConfig,
    LossConfig,
    MismatchConfig,
    OutcomeAdvantageConfig,
    PpoClipLossConfig,
    ReinforceLossConfig,
)
from arpo.training.credit import assign_credit
from arpo.training.objective import policy_objective
from arpo.tree import Node, NodeKind, RolloutTree, Trajectory
from arpo.types import Message, Reward, Task

Found = tuple[float, dict[str, Tensor]]
Change = Callable[[PolicyBatch], PolicyBatch]

WHOLE = BatchingConfig(max_tokens=10**6)
TERMS: dict[str, Any] = {"kl": KlConfig(coefficient=0.3, estimator="k3"), "entropy_coefficient": 0.2}
LOSSES: dict[str, LossConfig] = {
    "ppo": PpoClipLossConfig(clip_high=0.28, **TERMS),
    "aepo": PpoClipLossConfig(high_mode="gppo", **TERMS),
    "gppo": PpoClipLossConfig(low_mode="gppo", high_mode="gppo", aggregation="sequence_mean", **TERMS),
    "dual": PpoClipLossConfig(dual_clip=1.4, aggregation="constant", **TERMS),
    "cispo": CispoLossConfig(clip_low=0.3, clip_high=0.3, **TERMS),
    "reinforce": ReinforceLossConfig(kl=KlConfig(coefficient=0.3, estimator="k2"), entropy_coefficient=0.2),
    "gspo": GspoLossConfig(clip_low=0.02, clip_high=0.03, aggregation="sequence_mean", **TERMS),
}
CORRECTIONS = {
    "none": MismatchConfig(level="none"),
    "token": MismatchConfig(level="token", cap=2.0),
    "sequence": MismatchConfig(level="sequence", cap=2.0),
}
PLAIN = OutcomeAdvantageConfig()
CASES = [(loss, correction) for loss in LOSSES for correction in CORRECTIONS if (loss, correction) != ("gspo", "token")]


# The trees


def grow(seed: int, *, turns: int, width: Callable[[Random, int], int], num_initial: int = 1) -> RolloutTree:
    """Forks of `width(random, turn)` after every observation of `turns`."""
    random = Random(seed)

    def ids(longest: int) -> list[int]:
        return [random.randrange(97) for _ in range(random.randint(1, longest))]

    def complete(parent: Node, turn: int) -> None:
        node = add_completion(tree, parent, ids(5), random)
        if turn == turns:
            node.reward = Reward(value=random.choice([-1.0, 0.0, 0.5, 1.0]))
            return
        seen = tree.append(node, NodeKind.OBSERVATION, ids(4))
        for _ in range(width(random, turn)):
            complete(seen, turn + 1)

    task = Task(id=f"g{seed}", messages=(Message(role="user", content="?"),), references=("a",), source="s")
    tree = RolloutTree.from_prompt(task, ids(8))
    for _ in range(num_initial):
        complete(tree.root, 0)
    return tree


def add_completion(tree: RolloutTree, parent: Node, token_ids: list[int], random: Random) -> Node:
    entropies = [4 * random.random() for _ in token_ids]
    return tree.append(parent, NodeKind.COMPLETION, token_ids, logprobs=[0.0] * len(token_ids), entropies=entropies)


def with_token_forks(seed: int) -> RolloutTree:
    """Forks inside completions, at the first token, in the middle and at the last: node ids are not in depth-first order."""
    random = Random(seed)
    tree = grow(seed, turns=1, width=lambda *_: 2)
    long = add_completion(tree, tree.nodes[2], [5, 6, 7, 8, 9], random)
    long.reward = Reward(value=1.0)
    for offset in (4, 2, 1):
        first = tree.split(long, offset)
        for reward in (0.5, 0.0):
            add_completion(tree, first, [random.randrange(97) for _ in range(3)], random).reward = Reward(value=reward)
    for leaf in tree.leaves():
        leaf.reward = Reward(value=random.choice([-1.0, 0.0, 0.5, 1.0])) if leaf.reward is None else leaf.reward
    return tree


def with_duplicates(seed: int) -> RolloutTree:
    """Three leaves of the same tokens, two of them with the same reward."""
    tree, random = grow(seed, turns=1, width=lambda *_: 1), Random(seed)
    seen = tree.nodes[2]
    for reward in (1.0, -1.0, 1.0):
        add_completion(tree, seen, [11, 12, 13], random).reward = Reward(value=reward)
    return tree


def cut_short(seed: int) -> RolloutTree:
    """One leaf ends with an observation; of another tree's two leaves one is a single token."""
    tree = grow(seed, turns=1, width=lambda *_: 2)
    ended = tree.append(tree.leaves()[0], NodeKind.OBSERVATION, [3, 4])
    ended.reward = Reward(value=0.0)
    add_completion(tree, tree.root, [9], Random(seed)).reward = Reward(value=1.0)
    return tree


SHAPES: dict[str, Callable[[int], RolloutTree]] = {
    "deep": lambda seed: grow(seed, turns=7, width=lambda random, turn: 2 if turn % 3 == 0 else 1),
    "wide": lambda seed: grow(seed, turns=1, width=lambda *_: 5, num_initial=2),
    "uneven": lambda seed: grow(seed, turns=3, width=lambda random, turn: random.choice([1, 1, 2, 3]), num_initial=2),
    "chain": lambda seed: grow(seed, turns=2, width=lambda *_: 1),
    "single": lambda seed: grow(seed, turns=0, width=lambda *_: 1),
    "token forks": with_token_forks,
    "duplicates": with_duplicates,
    "cut short": cut_short,
}


@pytest.fixture(scope="module")
def make_tree(make_model) -> Callable[[str, int], RolloutTree]:
    """The function that makes a tree of a shape; its engine's log-probs are near those of the model."""
    model = make_model(dtype="float64")

    def make(shape: str, seed: int) -> RolloutTree:
        tree = SHAPES[shape](seed)
        for trajectory in tree.trajectories():
            ids = torch.tensor(trajectory.token_ids)
            with torch.no_grad():
                log_p = model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0].log_softmax(-1)
            logprobs = log_p[:-1].gather(-1, ids[1:, None]).squeeze(-1)
            engine = moved(logprobs, ids[1:], torch.arange(1, len(ids)), 11, 0.5).tolist()
            end = 0
            for node in trajectory.nodes:
                start, end = end, end + len(node.token_ids)
                if node.is_sampled:
                    node.logprobs = engine[start - 1 : end - 1]
        return tree

    return make


@pytest.fixture
def trees(make_tree: Callable[[str, int], RolloutTree]) -> list[RolloutTree]:
    """One of every shape; the single ones have advantage 0, but KL and entropy terms move the policy on them too."""
    return [make_tree(shape, seed) for seed, shape in enumerate(SHAPES)]


def moved(logprobs: Tensor, ids: Tensor, positions: Tensor, frequency: int, size: float) -> Tensor:
    """Other log-probs of the same tokens."""
    return logprobs.detach() + size * torch.sin(frequency * ids + 3.0 * positions).to(logprobs.dtype)


# Both sides


def credit_of(trees: Sequence[RolloutTree], loss: LossConfig, advantage: OutcomeAdvantageConfig):
    credits = assign_credit(trees, advantage, loss, max_tokens=64)
    return credits, total_denominator(credit.denominator for credit in credits)


def gradients_of(model: PreTrainedModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def packed(
    model: PreTrainedModel, trees: Sequence[RolloutTree], loss: LossConfig, correction: MismatchConfig = CORRECTIONS["none"],
    batching: BatchingConfig = WHOLE, advantage: OutcomeAdvantageConfig = PLAIN, change: Change = lambda batch: batch,
    attention: str = ATTENTION_NAME,
) -> Found:  # fmt: skip
    """Loss and gradients as training computes them, from batches that `change` may spoil."""
    policy = PolicyModel(model)
    model.set_attn_implementation(attention)
    credits, denominator = credit_of(trees, loss, advantage)
    total = 0.0
    for batch in map(change, make_policy_batches(trees, credits, batching)):
        logprobs, entropies = policy(batch.packed)
        where = batch.packed.targets, batch.packed.positions[batch.packed.predictors] + 1
        old, reference = moved(logprobs, *where, 7, 0.4), moved(logprobs, *where, 5, 0.5)
        part = policy_objective(logprobs, entropies, old, reference, batch, loss, correction).total / denominator
        part.backward()
        total += float(part.detach())
    return total, gradients_of(model)


def by_leaf(
    model: PreTrainedModel, trees: Sequence[RolloutTree], loss: LossConfig, correction: MismatchConfig = CORRECTIONS["none"],
    advantage: OutcomeAdvantageConfig = PLAIN,
) -> Found:  # fmt: skip
    """One leaf after the other through the stock model."""
    model.set_attn_implementation("sdpa")
    credits, denominator = credit_of(trees, loss, advantage)
    total = 0.0
    for tree, credit in zip(trees, credits, strict=True):
        for row, trajectory in enumerate(tree.trajectories()):
            part = leaf_loss(model, trajectory, credit, row, loss, correction) / denominator
            part.backward()
            total += float(part.detach())
    return total, gradients_of(model)


def leaf_loss(
    model: PreTrainedModel, trajectory: Trajectory, credit: TreeCredit, row: int, loss: LossConfig, correction: MismatchConfig
) -> Tensor:
    ids = torch.tensor(trajectory.token_ids)
    log_p = model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0].log_softmax(-1)[:-1]
    is_sampled = torch.tensor(trajectory.loss_mask[1:])
    entropies = -(log_p.exp() * log_p).sum(-1)[is_sampled]
    now = log_p.gather(-1, ids[1:, None]).squeeze(-1)[is_sampled]
    where = ids[1:][is_sampled], torch.arange(1, len(ids))[is_sampled]
    old, reference = moved(now, *where, 7, 0.4), moved(now, *where, 5, 0.5)
    engine = torch.tensor([x for node in trajectory.completions for x in node.logprobs or []], dtype=torch.float64)
    claims = torch.cat([claims_on(credit, row, node) for node in trajectory.completions])
    importance = torch.ones(len(now), dtype=torch.float64)
    if correction.level == "token":
        importance = (old - engine).exp().clamp(max=correction.cap)
    if correction.level == "sequence":
        importance = (old - engine).sum().exp().clamp(max=correction.cap).expand(len(now))
    weights = torch.cat([credit.weights[row, node.id].expand(len(node.token_ids)) for node in trajectory.completions])
    total = -importance * surrogate(now, old, claims, loss)
    difference = now - reference
    kl = difference**2 / 2 if loss.kl.estimator == "k2" else (-difference).exp() - 1 + difference
    return (weights * (total + loss.kl.coefficient * kl - loss.entropy_coefficient * entropies)).sum()


def claims_on(credit: TreeCredit, row: int, node: Node) -> Tensor:
    claims = credit.advantages[row, node.id].expand(len(node.token_ids))
    factor = None if credit.token_scale is None else credit.token_scale[node.id]
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
        return ratio.detach().clamp(1 - (loss.clip_low or 1), 1 + loss.clip_high) * advantages * now
    above, below = (advantages > 0) & (ratio > 1 + loss.clip_high), (advantages < 0) & (ratio < 1 - loss.clip_low)
    kept = torch.where(above, at_bound(1 + loss.clip_high, ratio, loss.high_mode), ratio)
    kept = torch.where(below, at_bound(1 - loss.clip_low, ratio, loss.low_mode), kept)
    if loss.dual_clip is not None:
        kept = torch.where((advantages < 0) & (ratio > loss.dual_clip), loss.dual_clip, kept)
    return kept * advantages


def at_bound(bound: float, ratio: Tensor, mode: str) -> Tensor:
    return bound * (ratio / ratio.detach() if mode == "gppo" else torch.ones_like(ratio))


def difference(found: Found, expected: Found) -> float:
    """Of the losses and of every parameter's gradient, relative to the largest gradient's norm."""
    assert found[1].keys() == expected[1].keys()
    scale = max(float(g.norm()) for g in expected[1].values())
    assert scale > 1e-3
    of_gradients = max(float((found[1][name] - gradient).norm()) for name, gradient in expected[1].items()) / scale
    return max(of_gradients, abs(found[0] - expected[0]) / max(1.0, abs(expected[0])))


# What holds


def test_the_trees_share_fork_mix_signs_and_clip(trees: list[RolloutTree], make_model) -> None:
    """What follows proves something."""
    assert sum(t.num_trajectory_tokens for t in trees) > 2 * sum(t.num_unique_tokens for t in trees)
    credits, _ = credit_of(trees, LOSSES["dual"], PLAIN)
    (batch,) = make_policy_batches(trees, credits, WHOLE)
    positive, negative, _ = batch.token_credit()
    assert int(((positive > 0) & (negative < 0)).sum()) > 20
    logprobs, entropies = PolicyModel(make_model())(batch.packed)
    where = batch.packed.targets, batch.packed.positions[batch.packed.predictors] + 1
    old = moved(logprobs, *where, 7, 0.4)
    for name in ("dual", "gspo"):
        sums = policy_objective(logprobs, entropies, old, old, batch, LOSSES[name], CORRECTIONS["sequence"]).sums
        for name_of_sum in ("clipped_high", "clipped_low", "truncated"):
            assert 0 < sums[name_of_sum] < sums["num_ratios"], (name, name_of_sum)
    sums = policy_objective(logprobs, entropies, old, old, batch, LOSSES["ppo"], CORRECTIONS["token"]).sums
    assert 0 < sums["truncated"] < sums["num_corrections"]


@pytest.mark.parametrize(("loss", "correction"), CASES)
def test_float64_every_loss(loss: str, correction: str, trees: list[RolloutTree], make_model, in_own_format) -> None:
    model = in_own_format(make_model(dtype="float64"))
    case = model, trees, LOSSES[loss], CORRECTIONS[correction]
    assert difference(packed(*case), by_leaf(*case)) <= 1e-10


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", ["ppo", "gspo"])
def test_float64_every_shape(shape: str, loss: str, make_tree, make_model, in_own_format) -> None:
    model = in_own_format(make_model(dtype="float64"))
    trees = [make_tree(shape, seed) for seed in (10, 11)]
    case = model, trees, LOSSES[loss], CORRECTIONS["sequence"]
    assert difference(packed(*case), by_leaf(*case)) <= 1e-10


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_float64_other_families(family: str, trees: list[RolloutTree], make_model, in_own_format) -> None:
    model = in_own_format(make_model(family, dtype="float64"))
    assert difference(packed(model, trees, LOSSES["ppo"]), by_leaf(model, trees, LOSSES["ppo"])) <= 1e-10


@pytest.mark.parametrize(
    "advantage",
    [
        OutcomeAdvantageConfig(attribution="mixed", mix=0.3, baseline="subtree_out", scale="none"),
        OutcomeAdvantageConfig(leaf_weighting="inverse_branching", entropy_scale=2.0),
        OutcomeAdvantageConfig(attribution="once"),
    ],
)
def test_float64_advantages_that_differ_from_node_to_node_and_token_to_token(
    advantage: OutcomeAdvantageConfig, trees: list[RolloutTree], make_model, in_own_format
) -> None:
    """An entropy scale of 2 makes some factors negative, which swaps gains and losses."""
    model = in_own_format(make_model(dtype="float64"))
    (batch,) = make_policy_batches(trees, credit_of(trees, LOSSES["ppo"], advantage)[0], WHOLE)
    assert not advantage.entropy_scale or int((batch.token_scale < 0).sum()) > 5
    expected = by_leaf(model, trees, LOSSES["ppo"], advantage=advantage)
    assert difference(packed(model, trees, LOSSES["ppo"], advantage=advantage), expected) <= 1e-10


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_float32_with_stock_norms(family: str, kv_heads: int, trees: list[RolloutTree], make_model) -> None:
    model = make_model(family, kv_heads=kv_heads)
    assert difference(packed(model, trees, LOSSES["ppo"]), by_leaf(model, trees, LOSSES["ppo"])) <= 1e-5


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", ["ppo", "gspo"])
def test_adapters(loss: str, dtype: str, trees: list[RolloutTree], make_model, in_own_format) -> None:
    pytest.importorskip("peft")
    model = make_model(dtype=dtype)
    model = in_own_format(model) if dtype == "float64" else model
    add_adapter(model, LoraConfig(rank=3, alpha=3.0), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapter_parameters(model).values():  # away from the start, where half of the gradients are 0
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    found, expected = (train(model, trees, LOSSES[loss]) for train in (packed, by_leaf))
    assert expected[1].keys() == adapter_parameters(model).keys()
    assert difference(found, expected) <= (1e-10 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("loss", ["ppo", "gspo"])
@pytest.mark.parametrize("shape", ["uneven", "token forks"])
def test_every_cut_of_a_tree_has_the_same_gradient(shape: str, loss: str, make_tree, make_model, in_own_format) -> None:
    """From parts of a leaf or two to the whole tree; with a correction per trajectory, which needs whole paths."""
    model = in_own_format(make_model(dtype="float64"))
    trees = [make_tree(shape, 3)]
    case = model, trees, LOSSES[loss], CORRECTIONS["sequence"]
    expected = by_leaf(*case)
    credits, _ = credit_of(trees, LOSSES[loss], PLAIN)
    longest = max(len(t.token_ids) for t in trees[0].trajectories())
    cuts: set[tuple[int, ...]] = set()
    for max_tokens in range(longest, trees[0].num_unique_tokens + 1):
        batching = BatchingConfig(max_tokens=max_tokens)
        sizes = tuple(len(b.leaf_weights) for b in make_policy_batches(trees, credits, batching))
        if sizes not in cuts:
            cuts.add(sizes)
            assert difference(packed(*case, batching), expected) <= 1e-10, max_tokens
    assert len(cuts) >= 4
    assert (len(trees[0].leaves()),) in cuts


@pytest.mark.parametrize("loss", LOSSES)
def test_flat_packing_and_micro_batches_have_the_same_gradient(
    loss: str, trees: list[RolloutTree], make_model, in_own_format
) -> None:
    model = in_own_format(make_model(dtype="float64"))
    correction = CORRECTIONS["sequence"]
    whole = packed(model, trees, LOSSES[loss], correction)
    flat = (BatchingConfig(packing="flat"), BatchingConfig(packing="flat", max_tokens=120))
    for batching in (BatchingConfig(max_tokens=120), *flat):
        assert difference(packed(model, trees, LOSSES[loss], correction, batching), whole) <= 1e-10


def test_a_model_that_keeps_its_own_attention_trains_flat_and_alike(
    trees: list[RolloutTree], make_model, in_own_format
) -> None:
    model = in_own_format(make_model(dtype="float64"))
    flat = BatchingConfig(packing="flat", max_tokens=200)
    found = packed(model, trees, LOSSES["ppo"], batching=flat, attention="sdpa")
    assert difference(found, by_leaf(model, trees, LOSSES["ppo"])) <= 1e-10
    with pytest.raises(ModelError, match=r'batching\.packing = "flat"'):
        packed(model, trees, LOSSES["ppo"], attention="sdpa")


# The errors other packers have made: each would be seen


def labels_by_a_shift(batch: PolicyBatch) -> PolicyBatch:
    """The first token of a later child is predicted by the last token of the child before it."""
    predictors = batch.packed.predictors.clone()
    goes_back = predictors[1:] < predictors[:-1]
    predictors[1:][goes_back] = predictors[:-1][goes_back] + 1
    return replace(batch, packed=replace(batch.packed, predictors=predictors))


def positions_in_packing_order(batch: PolicyBatch) -> PolicyBatch:
    """Position ids are not passed, so that the model counts the tokens of the pack."""
    return replace(batch, packed=replace(batch.packed, positions=torch.arange(len(batch.packed.token_ids))))


def advantages_of_one_sharer(batch: PolicyBatch) -> PolicyBatch:
    """Shared tokens have the advantage of the first leaf alone, with the weight of all."""
    first: dict[int, float] = {}
    for node, advantage in zip(batch.edge_node.tolist(), batch.edge_advantages.tolist(), strict=True):
        first.setdefault(node, advantage)
    return replace(batch, edge_advantages=torch.tensor([first[n] for n in batch.edge_node.tolist()], dtype=torch.float64))


@pytest.mark.parametrize("error", [labels_by_a_shift, positions_in_packing_order, advantages_of_one_sharer])
def test_the_classical_errors_are_seen(error: Change, make_tree, make_model, in_own_format) -> None:
    model, tree = in_own_format(make_model(dtype="float64")), make_tree("uneven", 2)
    loss = ReinforceLossConfig()
    expected = by_leaf(model, [tree], loss)
    assert difference(packed(model, [tree], loss), expected) <= 1e-10
    assert difference(packed(model, [tree], loss, change=error), expected) > 1e-2


def test_every_token_is_predicted_from_its_own_path(trees: list[RolloutTree], make_model, in_own_format) -> None:
    """Log-probs one by one, the first token of every child included."""
    model = in_own_format(make_model(dtype="float64"))
    for tree in trees:
        stock: dict[tuple[int, int], float] = {}
        model.set_attn_implementation("sdpa")
        for trajectory in tree.trajectories():
            ids = torch.tensor(trajectory.token_ids)
            logprobs = model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0].log_softmax(-1)
            end = 0
            for node in trajectory.nodes:
                start, end = end, end + len(node.token_ids)
                for offset in range(len(node.token_ids)) if node.is_sampled else ():
                    stock[node.id, offset] = float(logprobs[start + offset - 1, ids[start + offset]].detach())
        (batch,) = make_policy_batches([tree], credit_of([tree], LOSSES["ppo"], PLAIN)[0], WHOLE)
        found = PolicyModel(model)(batch.packed)[0].detach()
        in_order = [n for n in tree.depth_first() if n.is_sampled]
        expected = [stock[node.id, offset] for node in in_order for offset in range(len(node.token_ids))]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-11)
