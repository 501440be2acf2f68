import pytest
import torch

from arpo.config import parse_config
from arpo.tools.counts import ExecutorCounts, tool_metrics
from arpo.tracking.metrics import check_names
from arpo.training.collector import StepRollouts
from arpo.training.config import RlRun
from arpo.training.step_metrics import measure_memory, measure_rollout, measure_update, measure_update_speed
from arpo.training.trajectory_metrics import measure_rewards
from arpo.training.update import UpdateTotals
from arpo.types import Reward


def test_every_metric_by_hand(make_tree):
    """Two trees of the shape in conftest. Their rewards (1, 0, 0.5) and (0, 0, 0): leaves b, c, d of each."""
    trees = [make_tree((1.0, 0.0, 0.5)), make_tree((0.0, 0.0, 0.0), name="u")]
    counts = ExecutorCounts(issued=8, executed=5, cached=2, errors=1, timeouts=1, refused=1)
    rollouts = StepRollouts(
        trees=trees, without_signal=frozenset({"u"}), replaced=frozenset({"u"}), num_dropped=2, num_rounds=3, position=9
    )
    for tree in trees:
        tree.settings["entropy_window"] = 3
    found = measure_rollout(rollouts, tool_metrics(counts), window=3, seconds=2.0)
    check_names(found)
    # near a result: 2 tokens of b (0.5 0.6) and the first 3 of c (0.5 0.6 0.7): 2.9 / 5
    # elsewhere: a (0.5 0.6 0.7), the last 3 of c (0.8 0.9 1.0) with share 1/2, d (0.5): (1.8 + 1.35 + 0.5) / 5.5
    assert found == pytest.approx(
        {
            "rollout/reward_mean": 1.5 / 6,
            "rollout/reward_std": ((0.75**2 + 0.25**2 + 4 * 0.25**2) / 5) ** 0.5,  # mean 0.25
            "rollout/reward_min": 0.0,
            "rollout/reward_max": 1.0,
            "rollout/reward_zero_std_rate": 0.5,  # that of the second tree
            "rollout/accuracy": 1 / 6,
            "rollout/exact_match": 1 / 6,
            "rollout/f1": 1.5 / 6,
            "rollout/format_valid_rate": 4 / 6,
            "rollout/entropy_after_tool": 2.9 / 5,
            "rollout/entropy_elsewhere": 3.65 / 5.5,
            "train/entropy": (1.45 + 3.65) / (2.5 + 5.5),
            "rollout/num_opportunities": 2,
            "rollout/num_branches": 2,
            "rollout/branch_rate": 1.0,
            "rollout/entropy_rise_rate": 1.0,
            "rollout/initial_entropy": (0.6 + 0.5) / 2,  # a (0.5 0.6 0.7) and d (0.5)
            "rollout/mixed_fork_rate": 0.5,  # b and c: right and wrong, both wrong
            "rollout/num_initial": 2,
            "rollout/num_topups": 2,  # d, as one initial trajectory was planned
            "rollout/dropped_trees": 2,
            "rollout/rounds": 3,
            "rollout/groups_replaced": 1,
            "rollout/num_trajectories": 6,
            "rollout/leaves_per_group": 3,
            "rollout/prompt_length_mean": 2,
            "rollout/response_length_mean": (5 + 9 + 1) / 3,  # a and b, a and c, d; the result does not count
            "rollout/response_length_min": 1,
            "rollout/response_length_max": 9,
            "rollout/num_turns_mean": (2 + 2 + 1) / 3,
            "rollout/num_turns_max": 2,
            "fault/no_answer": 2,  # d of each tree
            "fault/no_thinking": 2,
            "fault/unclosed_think": 2,
            "rollout/distinct_answers_per_task": 1,  # of b and c; d has none
            "rollout/distinct_call_sequences_per_task": 2,  # one call, and none in d
            "rollout/tool_calls_issued": 8,
            "rollout/tool_calls_executed": 5,
            "rollout/tool_calls_per_trajectory": 4 / 6,
            "rollout/tool_error_rate": 2 / 8,
            "rollout/refused_rate": 1 / 8,
            "rollout/truncated_rate": 2 / 6,  # d reached the limit
            "rollout/tokens_sampled": 2 * (3 + 2 + 6 + 1),
            "rollout/tokens_unique": 2 * (2 + 3 + 4 + 2 + 6 + 1),
            "rollout/tokens_trajectory": 2 * ((2 + 3 + 4 + 2) + (2 + 3 + 4 + 6) + (2 + 1)),
            "rollout/mixed_group_rate": 0.5,
            "rollout/tokens_per_s": 12.0,
        }
    )


def test_the_policys_entropy_is_that_of_all_trees(make_tree):
    """Of a tree without signal too, and of one that another replaced: those have entropies 1 higher."""
    trees = [make_tree((1.0, 0.0, 0.5)), make_tree((0.0, 0.0, 0.0), name="u"), make_tree((0.0, 0.0, 0.0), name="v")]
    for node in (node for tree in trees[1:] for node in tree.nodes if node.is_sampled):
        node.entropies = [1 + h for h in node.entropies]
    rollouts = StepRollouts(
        trees=trees, without_signal=frozenset("uv"), replaced=frozenset("u"), num_dropped=0, num_rounds=2, position=3
    )
    found = measure_rollout(rollouts, tool_metrics(ExecutorCounts()), window=3, seconds=2.0)
    assert found["train/entropy"] == pytest.approx(5.1 / 8 + 2 / 3)


def test_a_step_without_tools_or_opportunities(make_tree):
    """Nothing is divided by zero: the tree that is left when everything below the first completion is cut off."""
    tree = make_tree()
    tree.nodes, tree.children = tree.nodes[:2], [[1], []]
    tree.nodes[1].reward = Reward(value=0.0)
    rollouts = StepRollouts(
        trees=[tree], without_signal=frozenset(), replaced=frozenset(), num_dropped=0, num_rounds=1, position=1
    )
    found = measure_rollout(rollouts, tool_metrics(ExecutorCounts()), window=3, seconds=1.0)
    for name in ("branch_rate", "entropy_after_tool", "reward_std", "accuracy", "exact_match", "f1", "format_valid_rate"):
        assert f"rollout/{name}" not in found, name
    assert "rollout/tool_error_rate" not in found
    assert found["rollout/num_turns_mean"] == 1, "a turn whose result had no room"
    assert found["rollout/entropy_elsewhere"] == pytest.approx(0.6)
    assert "rollout/entropy_rise_rate" not in found
    assert "rollout/mixed_fork_rate" not in found
    assert found["rollout/truncated_rate"] == 1, "it ends with a call whose result had no room"


def test_the_components_of_a_reward_are_means_over_the_leaves_that_have_them(make_tree):
    """`style` of b and c only: (0.5 + 1) / 2; `grade` of all three: (1 + 0 + 0.5) / 3."""
    tree = make_tree()
    for leaf, style, grade in zip(tree.leaves(), (0.5, 1.0, None), (1.0, 0.0, 0.5), strict=True):
        own = {"grade": grade} | ({} if style is None else {"style": style})
        leaf.reward = Reward(value=1.0, is_correct=True, components=own)
    found = measure_rewards([tree])
    check_names(found)
    assert found["reward/style"] == pytest.approx(0.75)
    assert found["reward/grade"] == pytest.approx(0.5)
    assert {name for name in found if name.startswith("reward/")} == {"reward/style", "reward/grade"}


def test_an_update_that_was_not_made_has_no_metrics():
    """Nothing was trained: no loss, norm, clipping or divergence, only counts."""
    section = {"out": "o", "model": {"path": "m"}, "tasks": "t", "agent": {}, "updates_per_step": 2}
    found = measure_update(UpdateTotals(), [], parse_config(RlRun, section, "test"))
    assert set(found) == {
        f"train/{name}"
        for name in ("updates", "skipped_updates", "tokens_unique", "tokens_total", "groups_zero_advantage", "groups")
    }
    assert measure_update_speed(found, 2.0) == {}
    assert measure_update_speed(found | {"train/tokens_unique": 30}, 2.0) == {"train/tokens_per_s": 15.0}


def test_the_memory_of_a_cpu_is_the_processs():
    found = measure_memory(torch.device("cpu"))
    check_names(found)
    assert 50 < found["memory/process_peak_mb"] < 100_000
    assert set(found) == {"memory/process_peak_mb"}
