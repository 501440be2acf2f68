"""Training a packed tree gives the loss and every gradient of training each leaf on its own.

The reference is the model's stock forward pass (transformers' own attention, one leaf at a time, no packing) and PPO as its
paper writes it, summed over leaves. Transformers computes norms in float32 whatever the model's format, so for the float64
comparison they are replaced by the same formula in the model's format: the tolerance is then 1e-10 of the gradient's norm.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.batching.policy_batch import make_policy_batches
from arpo.models.attention import use_layout_attention
from arpo.training.config import AdvantageConfig, LossConfig
from arpo.training.credit import assign_credit
from arpo.training.update import UpdateTotals, accumulate_gradients, old_logprobs
from arpo.tree import RolloutTree

Gradients = dict[str, Tensor]
FAMILIES = ["qwen2", "qwen3", "llama"]


def gradients_of(model: PreTrainedModel) -> Gradients:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def give_credit(trees: list[RolloutTree], loss: LossConfig) -> float:
    """As training does, then rounded to binary fractions: packs hold credit as float32, which must not limit the comparison."""
    denominator = assign_credit(trees, AdvantageConfig(), loss)
    for leaf in [leaf for tree in trees for leaf in tree.leaves()]:
        assert leaf.advantage is not None
        assert leaf.weight is not None
        leaf.advantage, leaf.weight = round(leaf.advantage * 64) / 64, round(leaf.weight * 1024) / 1024
    return denominator


def by_tree(
    model: PreTrainedModel, trees: list[RolloutTree], loss: LossConfig, noise: Callable[[int], Tensor], max_tokens: int = 10**6
) -> tuple[float, Gradients]:
    """Loss and gradients of packed trees; old log-probs are the current ones plus `noise`, so that some tokens clip."""
    model = use_layout_attention(model)
    model.zero_grad()
    denominator = give_credit(trees, loss)
    batches = make_policy_batches(trees, max_tokens)
    old = old_logprobs(model, batches, 1.0)
    sizes = [len(o) for o in old]
    old = [o + n for o, n in zip(old, noise(sum(sizes)).split(sizes), strict=True)]
    totals = UpdateTotals()
    accumulate_gradients(model, batches, old, denominator, loss, 1.0, totals)
    return totals.loss, gradients_of(model)


def by_leaf(model: PreTrainedModel, trees: list[RolloutTree], loss: LossConfig, noise: Callable[[int], Tensor]):
    """Sum over leaves of w * min(rho A, clip(rho) A) over the sampled tokens of each, divided by the denominator."""
    model.set_attn_implementation("sdpa")
    model.zero_grad()
    denominator = give_credit(trees, loss)
    num_nodes = [[len(n.token_ids) if n.is_sampled else 0 for n in tree.nodes] for tree in trees]
    pieces = iter(noise(sum(map(sum, num_nodes))).split([n for sizes in num_nodes for n in sizes]))
    total = torch.zeros((), dtype=torch.float64)
    for tree, sizes in zip(trees, num_nodes, strict=True):
        shifts = [next(pieces) for _ in sizes]
        for trajectory in tree.trajectories():
            ids = torch.tensor(trajectory.token_ids)
            logits = model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0]
            logprobs = logits.log_softmax(-1)[:-1].gather(-1, ids[1:, None]).squeeze(-1)
            now = logprobs[torch.tensor(trajectory.loss_mask[1:])]
            before = now.detach() + torch.cat([shifts[n.id] for n in trajectory.completions])
            ratio, advantage, weight = (now - before).exp(), trajectory.leaf.advantage, trajectory.leaf.weight
            assert advantage is not None
            assert weight is not None
            clipped = ratio.clamp(1 - loss.clip_low, 1 + loss.clip_high)
            total = total - weight * torch.minimum(ratio * advantage, clipped * advantage).sum()
    (total / denominator).backward()
    return float(total.detach() / denominator), gradients_of(model)


def assert_same(found: tuple[float, Gradients], expected: tuple[float, Gradients], tolerance: float) -> None:
    assert found[0] == pytest.approx(expected[0], rel=tolerance, abs=tolerance)
    assert found[1].keys() == expected[1].keys()
    scale = max(float(g.norm()) for g in expected[1].values())
    assert scale > 1e-3
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).norm()) <= tolerance * scale, name


def make_noise(dtype: torch.dtype) -> Callable[[int], Tensor]:
    return lambda n: 0.3 * torch.randn(n, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)


@pytest.fixture
def trees(random_tree: Callable[..., RolloutTree]) -> list[RolloutTree]:
    return [random_tree(seed) for seed in range(8)]


def test_the_trees_share_tokens_fork_and_clip(trees: list[RolloutTree], make_model) -> None:
    """What follows proves something: trees share much, differ in size, mix signs of advantage on a token, and clip."""
    assert sum(t.num_trajectory_tokens for t in trees) > 1.5 * sum(t.num_unique_tokens for t in trees)
    assert len({len(t.leaves()) for t in trees}) > 3
    model = use_layout_attention(make_model())
    denominator = give_credit(trees, LossConfig())
    batches = make_policy_batches(trees, 10**6)
    assert any(((b.positive > 0) & (b.negative < 0)).any() for b in batches)
    totals = UpdateTotals()
    old = [o + make_noise(o.dtype)(len(o)) for o in old_logprobs(model, batches, 1.0)]
    accumulate_gradients(model, batches, old, denominator, LossConfig(), 1.0, totals)
    assert min(totals.clipped_high, totals.clipped_low) > 5


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_float64(family: str, aggregation: str, trees: list[RolloutTree], make_model, in_own_format) -> None:
    model = in_own_format(make_model(family, dtype="float64"))
    loss = LossConfig(aggregation=aggregation, clip_high=0.28)  # pyright: ignore[reportArgumentType]
    noise = make_noise(torch.float64)
    expected = by_leaf(model, trees, loss, noise)
    assert_same(by_tree(model, trees, loss, noise), expected, 1e-10)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_float32_with_stock_norms(family: str, kv_heads: int, trees: list[RolloutTree], make_model) -> None:
    model = make_model(family, kv_heads=kv_heads)
    noise = make_noise(torch.float32)
    expected = by_leaf(model, trees, LossConfig(), noise)
    assert_same(by_tree(model, trees, LossConfig(), noise), expected, 1e-5)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_micro_batches_change_nothing(aggregation: str, trees: list[RolloutTree], make_model, in_own_format) -> None:
    model = in_own_format(make_model(dtype="float64"))
    loss = LossConfig(aggregation=aggregation)  # pyright: ignore[reportArgumentType]
    noise = make_noise(torch.float64)
    whole = by_tree(model, trees, loss, noise)
    for max_tokens in (1, 60):
        assert_same(by_tree(model, trees, loss, noise, max_tokens), whole, 1e-10)
