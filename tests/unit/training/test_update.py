"""What a step learns, from scored trees to moved weights."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arpo.config import parse_config
from arpo.errors import TrainingError
from arpo.models.lora import adapter_parameters
from arpo.models.policy import PolicyModel
from arpo.tracking.metrics import check_names
from arpo.training.config import RlRun
from arpo.training.credit import assign_credit
from arpo.training.learner import Learner
from arpo.training.optimizer import build_optimizer, optimizer_step
from arpo.training.update import MiniBatch, UpdateTotals, accumulate_gradients, compute_logprobs, make_minibatches
from arpo.tree import RolloutTree

MakeLearner = Callable[..., Learner]


@pytest.fixture
def make_learner(policy: Path, tmp_path: Path) -> MakeLearner:
    """Makes a learner of the tiny model; its trees are the tests' own."""

    def make(**values: object) -> Learner:
        data = {
            "out": tmp_path, "tasks": tmp_path, "model": {"path": policy}, "tasks_per_step": 2, "num_steps": 10,
            "optimizer": {"learning_rate": 1e-2}, "agent": {"protocol": {"tools": [], "system_prompt": ""}},
        }  # fmt: skip
        return Learner(parse_config(RlRun, data | values, "test"))

    return make


def parameters(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def count_passes(policy: PolicyModel) -> list[int]:
    """Grows by the number of tokens of every forward pass."""
    passes: list[int] = []
    policy.network.base_model.register_forward_hook(
        lambda _module, _args, kwargs, _output: passes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return passes


def credited(learner: Learner, trees: list[RolloutTree]) -> list[MiniBatch]:
    """The mini-batches of some trees, as a step makes them."""
    config = learner.config
    longest = config.agent.limits.max_trajectory_tokens
    credits = assign_credit(trees, config.advantage, config.loss, max_tokens=longest)
    return make_minibatches(trees, credits, config, learner.policy.device)


def leaf_logprobs(learner: Learner, tree: RolloutTree) -> dict[str, float]:
    """Summed log-probs of the tokens of each completion: a is shared by leaves b and c, d stands alone."""
    with torch.no_grad():
        logprobs = learner.policy(credited(learner, [tree])[0].batches[0].packed)[0]
    return {name: float(part.sum()) for name, part in zip("abcd", logprobs.split([3, 2, 6, 1]), strict=True)}


def test_an_update_raises_what_was_rewarded_and_lowers_what_was_not(make_learner: MakeLearner, make_tree):
    learner, tree = make_learner(tasks_per_step=1), make_tree((1.0, 0.0, 0.5))
    before = leaf_logprobs(learner, tree)
    metrics = learner.learn([tree])
    after = leaf_logprobs(learner, tree)
    assert after["b"] > before["b"], "advantage 1"
    assert after["c"] < before["c"], "advantage -1"
    assert learner.num_updates == 1
    assert metrics["train/grad_norm"] > 0
    assert (metrics["train/groups"], metrics["train/groups_zero_advantage"]) == (1, 0)


def test_the_metrics_of_an_update(make_learner: MakeLearner, make_tree):
    """Ratio 1 everywhere, so the loss is -(5 * 1 + 9 * -1 + 1 * 0) / 15 and nothing is clipped."""
    learner = make_learner(advantage={"epsilon": 1e-30}, loss={"aggregation": "token_mean"})
    metrics = learner.learn([make_tree((1.0, 0.0, 0.5))])
    check_names(metrics)
    assert metrics["train/loss"] == pytest.approx(4 / 15)
    assert metrics["train/clip_fraction_low"] == metrics["train/clip_fraction_high"] == 0
    assert metrics["train/learning_rate"] == 1e-2
    assert metrics["train/updates"] == 1
    assert metrics["train/tokens_unique"] == 18
    assert metrics["train/tokens_total"] == 11 + 15 + 3
    absent = {"train/kl", "train/policy_kl", "train/ratio_max", "train/truncated_fraction", "train/reward_shaping"}
    assert not absent & metrics.keys(), "terms that are off are not measured"


def test_groups_without_signal_cost_no_forward_pass(make_learner: MakeLearner, make_tree):
    learner = make_learner()
    passes, before = count_passes(learner.policy), parameters(learner.policy)
    metrics = learner.learn([make_tree((0.0, 0.0, 0.0)), make_tree((-1.0, -1.0, -1.0), name="u")])
    assert passes == []
    assert torch.equal(parameters(learner.policy), before), "no weight decay and no momentum either"
    assert metrics["train/groups_zero_advantage"] == 2
    assert metrics["train/updates"] == 0
    assert learner.num_updates == 1, "the schedule goes on"
    learner.learn([make_tree((0.0, 0.0, 0.0)), make_tree((1.0, 0.0, 0.0), name="u")])
    assert passes == [18], "the one tree that teaches something, once"


@pytest.mark.parametrize(
    "loss", [{"kl": {"coefficient": 0.1, "estimator": "k2"}, "aggregation": "constant"}, {"entropy_coefficient": 0.1}]
)
def test_kl_and_entropy_act_on_groups_without_signal_too(make_learner: MakeLearner, make_tree, loss: dict[str, Any]):
    """Each of them alone moves the policy where every advantage is 0; the KL once the policy has left the reference."""
    learner = make_learner(loss=loss)
    passes = count_passes(learner.policy)
    equal = [make_tree((0.0, 0.0, 0.0)), make_tree((1.0, 1.0, 1.0), name="u")]
    if "kl" in loss:
        assert learner.learn(equal)["train/grad_norm"] == 0, "policy and reference are the same"
        learner.learn([make_tree((1.0, 0.0, 0.5)), make_tree((1.0, 0.0, 0.5), name="u")])
    passes.clear()
    before = leaf_logprobs(learner, equal[0])
    passes.clear()
    metrics = learner.learn(equal)
    assert passes == [36]
    assert metrics["train/groups_zero_advantage"] == 2
    assert metrics["train/grad_norm"] > 0
    assert leaf_logprobs(learner, equal[0]) != before


def test_the_reference_stays_while_the_policy_moves_away(make_learner: MakeLearner, make_tree):
    learner = make_learner(loss={"kl": {"coefficient": 1e-4}})
    trees = [make_tree((1.0, 0.0, 0.5)), make_tree((0.0, 1.0, 0.5), name="u")]
    found = [learner.learn(trees)["train/kl"] for _ in range(4)]
    assert found[0] == 0
    assert found[3] > found[1] > 0


def test_kl_in_the_reward_by_hand(make_learner: MakeLearner, make_tree):
    """Rewards are all 1; the engine's log-probs are -1 each, so a leaf of n sampled tokens pays sum(-1 - ln p_reference)."""
    learner, tree = make_learner(loss={"kl": {"coefficient": 0.5, "estimator": "k1"}}), make_tree((1.0, 1.0, 1.0))
    logprobs = leaf_logprobs(learner, make_tree((1.0, 0.0, 0.5)))
    of = {name: -n - value for (name, value), n in zip(logprobs.items(), (3, 2, 6, 1), strict=True)}
    paid = [of["a"] + of["b"], of["a"] + of["c"], of["d"]]
    metrics = learner.learn([tree])
    check_names(metrics)
    assert metrics["train/reward_shaping"] == pytest.approx(-0.5 * sum(paid) / 3, rel=1e-5)
    assert metrics["train/kl"] == pytest.approx(sum(of.values()) / 12, rel=1e-5)
    advantages = [tree.credit.advantages[leaf.id] for leaf in tree.leaves()]
    shaped = [-0.5 * p for p in paid]
    mean, std = sum(shaped) / 3, torch.tensor(shaped, dtype=torch.float64).std().item()
    assert advantages == pytest.approx([(s - mean) / (std + 1e-6) for s in shaped], rel=1e-4)


def test_k1_of_level_token_is_what_is_still_to_come(make_learner: MakeLearner, make_tree):
    """As above, by `learn`: on its own node a leaf pays for the node's tokens, on a for those of its path from there on."""
    kl = {"coefficient": 0.5, "estimator": "k1", "level": "token"}
    learner = make_learner(loss={"kl": kl}, advantage={"baseline": "none", "scale": "none"})
    tree = make_tree((1.0, 0.0, 0.5))
    logprobs = leaf_logprobs(learner, make_tree((1.0, 0.0, 0.5)))
    of = {name: -n - value for (name, value), n in zip(logprobs.items(), (3, 2, 6, 1), strict=True)}
    metrics = learner.learn([tree])
    paid = [of["a"] + of["b"], of["a"] + of["c"], of["d"]]
    assert metrics["train/reward_shaping"] == pytest.approx(-0.5 * sum(paid) / 3, rel=1e-5)
    assert metrics["train/kl"] == pytest.approx(sum(of.values()) / 12, rel=1e-5)
    (d,) = (leaf for leaf in tree.leaves() if len(leaf.token_ids) == 1)
    assert tree.credit.advantages[d.id] == pytest.approx(0.5 - 0.5 * of["d"], rel=1e-4)


def test_a_long_trajectory_is_punished(make_learner: MakeLearner, make_tree):
    """Leaves of 5, 9 and 1 sampled tokens, limit 9, the last 6 of which are the buffer: penalties 2/6, 1 and 0 of 0.6."""
    learner = make_learner(overlong={"penalty": 0.6, "max_tokens": 9, "buffer": 2 / 3})
    metrics = learner.learn([make_tree((1.0, 1.0, 1.0))])
    assert metrics["train/reward_shaping"] == pytest.approx(-0.6 * (2 / 6 + 1) / 3)
    assert metrics["train/groups_zero_advantage"] == 0, "the lengths differ, so the rewards do"


LOSSES: dict[str, dict[str, Any]] = {
    "token_mean": {"aggregation": "token_mean"},
    "sequence_mean": {"aggregation": "sequence_mean"},
    "constant": {"aggregation": "constant"},
    "cispo": {"type": "cispo", "clip_high": 0.3},
    "gspo": {"type": "gspo", "aggregation": "sequence_mean"},
    "kl and entropy": {"kl": {"coefficient": 0.1}, "entropy_coefficient": 0.01},
}


@pytest.mark.parametrize("name", LOSSES)
def test_one_pack_of_eight_trees_is_eight_packs_of_one(make_learner: MakeLearner, make_tree, name: str):
    """Loss and gradients, off the old policy and away from the reference."""
    found = []
    for max_tokens, num_packs in ((10_000, 1), (18, 8)):
        learner = make_learner(
            loss=LOSSES[name], epochs_per_step=2, batching={"max_tokens": max_tokens},
            agent={"protocol": {"tools": [], "system_prompt": ""}, "limits": {"max_trajectory_tokens": 18}},
        )  # fmt: skip
        trees = [make_tree((1.0, i / 8, 0.5), first_id=20 + 9 * i, name=str(i)) for i in range(8)]
        (minibatch,) = credited(learner, trees)
        assert len(minibatch.batches) == num_packs
        generator = torch.Generator().manual_seed(0)
        sizes = [len(batch.rollout_logprobs) for batch in minibatch.batches]
        moved = [0.3 * torch.randn(sum(sizes), generator=generator) for _ in range(2)]
        now = torch.cat(compute_logprobs(learner.policy, minibatch.batches))
        minibatch.old, minibatch.reference = ([*(now + m).split(sizes)] for m in moved)
        if learner.reference is None:
            minibatch.reference = None
        totals = UpdateTotals()
        accumulate_gradients(learner.policy, minibatch, learner.config, totals)
        found.append((totals.loss, torch.cat([p.grad.flatten() for p in learner.policy.parameters() if p.grad is not None])))
    (loss, gradients), (other_loss, other_gradients) = found
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert float((gradients - other_gradients).norm()) < 1e-5 * float(gradients.norm())


def replay(learner: Learner, policy: PolicyModel, trees: list[RolloutTree], *, is_off_policy: bool) -> Tensor:
    """The step's updates, with the log-probs from before all of them, or with each update's own; the weights they lead to."""
    config = learner.config
    optimizer = build_optimizer(policy, config.optimizer)
    minibatches = credited(learner, trees)
    if is_off_policy:
        for minibatch in minibatches:
            minibatch.old = compute_logprobs(policy, minibatch.batches)
    for minibatch in minibatches * config.epochs_per_step:
        accumulate_gradients(policy, minibatch, config, UpdateTotals())
        optimizer_step(optimizer, config.optimizer.learning_rate, config.optimizer.max_grad_norm)
    return parameters(policy)


@pytest.mark.parametrize(("updates", "epochs"), [(2, 1), (1, 2), (2, 2)])
def test_several_updates_compare_with_the_weights_before_the_first(
    make_learner: MakeLearner, make_tree, updates: int, epochs: int
):
    values: dict[str, Any] = {"loss": {"clip_low": 0.01, "clip_high": 0.01}}
    learner = make_learner(updates_per_step=updates, epochs_per_step=epochs, **values)
    copies = [copy.deepcopy(learner.policy) for _ in range(2)]
    passes = count_passes(learner.policy)

    def trees() -> list[RolloutTree]:
        return [make_tree((1.0, 0.0, 0.5)), make_tree((0.0, 1.0, 0.5), name="u")]

    metrics = learner.learn(trees())
    check_names(metrics)
    assert len(passes) == updates * (1 + epochs), "for the log-probs before, then to train"
    assert learner.num_updates == metrics["train/updates"] == updates * epochs
    assert metrics["train/tokens_unique"] == 36 * epochs
    assert metrics["train/tokens_total"] == 58 * epochs
    off_policy = replay(learner, copies[0], trees(), is_off_policy=True)
    on_policy = replay(learner, copies[1], trees(), is_off_policy=False)
    assert torch.equal(parameters(learner.policy), off_policy)
    assert not torch.allclose(off_policy, on_policy, atol=1e-4)
    assert metrics["train/clip_fraction_low"] + metrics["train/clip_fraction_high"] > 0, "a later update leaves the bounds"
    assert metrics["train/ratio_max"] > 1.01
    assert metrics["train/policy_kl"] > 0


def test_the_ratio_metrics_by_hand(make_learner: MakeLearner, make_tree):
    """Old log-probs 0.5 below the current ones on every token: ratio e^0.5, k3 e^0.5 - 1 - 0.5.

    Above 1.2 ratios clip where some sharer's advantage is positive: on b (2) and a (3) of 12 tokens, c's and d's are not.
    """
    learner = make_learner(epochs_per_step=2)
    (minibatch,) = credited(learner, [make_tree((1.0, 0.0, 0.5))])
    now = compute_logprobs(learner.policy, minibatch.batches)
    minibatch.old = [value - 0.5 for value in now]
    totals = UpdateTotals()
    accumulate_gradients(learner.policy, minibatch, learner.config, totals)
    assert totals.ratio_max == pytest.approx(math.exp(0.5), rel=1e-5)
    assert totals.sums["num_tokens"] == totals.sums["num_ratios"] == 12
    assert totals.sums["policy_kl"] == pytest.approx(12 * (math.exp(0.5) - 1.5), rel=1e-5)
    assert (totals.sums["clipped_high"], totals.sums["clipped_low"]) == (5, 0)


def test_the_engine_correction_is_measured(make_learner: MakeLearner, make_tree):
    """The tree's log-probs are -1 each, those of the random model about ln(1/340): none of the weights reaches the cap of 2."""
    learner = make_learner(mismatch={"level": "token"})
    metrics = learner.learn([make_tree((1.0, 0.0, 0.5))])
    check_names(metrics)
    assert metrics["train/truncated_fraction"] == 0
    assert metrics["train/mismatch_kl"] > 1
    tree = make_tree((1.0, 0.0, 0.5))
    for node in tree.nodes:
        node.logprobs = [-20.0] * len(node.token_ids) if node.is_sampled else None
    assert learner.learn([tree])["train/truncated_fraction"] == 1


def test_as_many_updates_as_configured_whatever_the_number_of_trees(make_learner: MakeLearner, make_tree):
    """4 trees in 3 mini-batches: 1, 1 and 2; 2 trees: one is empty and moves nothing."""
    learner = make_learner(updates_per_step=3, tasks_per_step=4)
    metrics = learner.learn([make_tree((1.0, 0.0, 0.5), name=str(i)) for i in range(4)])
    assert (learner.num_updates, metrics["train/updates"]) == (3, 3)
    metrics = learner.learn([make_tree((1.0, 0.0, 0.5), name=str(i)) for i in range(2)])
    assert (learner.num_updates, metrics["train/updates"]) == (6, 2)


def test_an_adapter_learns_and_the_model_below_it_does_not(make_learner: MakeLearner, make_tree, policy: Path):
    """Two steps; the first moves B alone, whose gradient does not vanish where B is 0. With its own base as reference."""
    pytest.importorskip("peft")
    learner = make_learner(
        model={"path": policy, "lora": {"rank": 4, "alpha": 8}}, tasks_per_step=1, loss={"kl": {"coefficient": 1e-4}}
    )
    assert learner.reference is not None
    assert learner.reference.policy is learner.policy, "no second model is loaded"
    start = {name: p.detach().clone() for name, p in learner.policy.named_parameters()}
    tree = make_tree((1.0, 0.0, 0.5))
    before = leaf_logprobs(learner, tree)
    kl = [learner.learn([tree])["train/kl"] for _ in range(2)]
    after = leaf_logprobs(learner, tree)
    assert after["b"] > before["b"]
    assert after["c"] < before["c"]
    assert kl[1] > kl[0] == 0
    moved = {name for name, p in learner.policy.named_parameters() if not torch.equal(p, start[name])}
    assert moved == {f"network.{name}" for name in adapter_parameters(learner.policy.network)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted(make_learner: MakeLearner, make_tree, value: float):
    """One parameter's gradient breaks in one step; the weights and the optimizer are as if that step had not been."""
    learner, other, tree = make_learner(), make_learner(), make_tree((1.0, 0.0, 0.5))
    for each in (learner, other):
        each.learn([tree])
    before = parameters(learner.policy)
    hook = next(learner.policy.parameters()).register_hook(lambda gradient: gradient * value)
    metrics = learner.learn([tree])
    hook.remove()
    check_names(metrics)
    assert (metrics["train/skipped_updates"], metrics["train/updates"]) == (1, 0)
    assert not {"train/grad_norm", "train/loss"} & metrics.keys()
    assert torch.equal(parameters(learner.policy), before)
    assert learner.num_updates == 2, "the schedule goes on"
    assert learner.learn([tree])["train/skipped_updates"] == 0
    other.learn([tree])
    assert torch.equal(parameters(learner.policy), parameters(other.policy)), "moments stayed as they were"


def test_ten_gradients_in_a_row_that_are_not_finite_end_the_run(make_learner: MakeLearner, make_tree):
    """Nine, a good one, then nine and the tenth; a resumed learner goes on counting."""
    learner, tree = make_learner(), make_tree((1.0, 0.0, 0.5))
    parameter = next(learner.policy.parameters())

    def break_steps(of: Learner, count: int) -> None:
        hook = next(of.policy.parameters()).register_hook(lambda gradient: gradient * float("nan"))
        for _ in range(count):
            of.learn([tree])
        hook.remove()

    break_steps(learner, 9)
    learner.learn([tree])
    assert learner.skipped.num_in_a_row == 0
    break_steps(learner, 9)
    resumed = make_learner()
    resumed.go_on_from(learner.num_updates, learner.skipped.num_in_a_row)
    with pytest.raises(TrainingError, match=r"10 updates in a row were not finite.*optimizer\.learning_rate"):
        break_steps(resumed, 1)
    assert bool(parameter.isfinite().all())
