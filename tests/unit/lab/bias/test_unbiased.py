"""Which estimators of the policy gradient are unbiased up to a scale, by enumeration of every group that can grow."""

import pytest
import torch

from arpo.algorithms.losses import ppo_clip_loss
from arpo.batching.config import BatchingConfig
from arpo.batching.policy_batch import make_policy_batches
from arpo.lab.bias.combinations import further_estimators, growth, main_estimators
from arpo.lab.bias.decision_tree import DecisionTree
from arpo.lab.bias.estimators import Estimator
from arpo.lab.bias.measurement import Measurement, measure_by_sampling, measure_exactly
from arpo.lab.bias.rollouts import sample_trees
from arpo.training.algorithm_config import OutcomeAdvantageConfig, PpoClipLossConfig
from arpo.training.credit import assign_credit

EXACT = 1e-12
VISIBLE = 0.01


def measure(
    rule: str, *, tops_up: bool = False, policy: DecisionTree | None = None, group_size: int = 4
) -> dict[str, Measurement]:
    way = growth(rule, group_size=group_size, num_initial=2, tops_up=tops_up)
    return {f.estimator: f for f in measure_exactly(policy or DecisionTree.of_study(), way, main_estimators())}


@pytest.fixture(scope="module")
def independent() -> dict[str, Measurement]:
    return measure("none", tops_up=True, group_size=3)


@pytest.fixture(scope="module")
def prefix_only() -> dict[str, Measurement]:
    return measure("arpo, k = 1")


def test_independent_trajectories_are_unbiased_with_any_baseline_and_the_scale_is_known(independent: dict[str, Measurement]):
    # The sum of three leaves: 3 g; the group mean holds each leaf's own reward: 3 * (1 - 1/3) = 2 g.
    for baseline, scale in (("none", 3), ("leave_one_out", 3), ("subtree_out", 3), ("group_mean", 2)):
        row = independent[f"uniform {baseline}"]
        assert row.bias < EXACT
        assert row.scale == pytest.approx(scale, rel=1e-12)


def test_the_standard_deviation_biases_even_independent_trajectories(independent: dict[str, Measurement]):
    """It depends on the rewards it divides; the direction survives only where there are two values of reward."""
    assert independent["uniform group_mean / std"].bias > VISIBLE


@pytest.mark.parametrize(
    "rule",
    ["arpo, k = 1", "aepo, N given, k = 1", *(pytest.param(r, marks=pytest.mark.slow) for r in ("random", "arpo_released"))],
)
def test_inverse_branching_with_subtree_out_is_unbiased_where_the_prefix_alone_decides(rule: str):
    rows = measure(rule, group_size=4 if rule == "arpo, k = 1" else 3)
    for baseline in ("none", "subtree_out"):
        assert rows[f"inverse_branching {baseline}"].bias < EXACT
        assert rows[f"inverse_branching {baseline}"].scale == pytest.approx(2, rel=1e-12)  # N


def test_it_is_for_other_policies_too():
    for seed in (1, 2):
        rows = measure("arpo, k = 1", policy=DecisionTree.random(seed), group_size=3)
        assert rows["inverse_branching subtree_out"].bias < EXACT


def test_uniform_leaves_and_baselines_with_siblings_are_biased(prefix_only: dict[str, Measurement]):
    for name in (
        "uniform none", "uniform subtree_out", "uniform group_mean / std",
        "inverse_branching leave_one_out", "inverse_branching group_mean",
    ):  # fmt: skip
        assert prefix_only[name].bias > VISIBLE


@pytest.mark.parametrize("rule", ["arpo, k = 2", "token_entropy"])
def test_rules_that_look_at_the_original_s_own_continuation_are_biased(rule: str):
    rows = measure(rule, group_size=3)
    assert min(rows["inverse_branching none"].bias, rows["inverse_branching subtree_out"].bias) > VISIBLE


def test_top_ups_bias_the_baseline_and_the_scale_but_not_the_weights():
    rows = measure("arpo, k = 1", tops_up=True, group_size=3)
    assert rows["inverse_branching none"].bias < EXACT
    # The expected number of trajectories from the prompt: a third one iff both do without "as" (0.7 * 0.8), where they branch.
    assert rows["inverse_branching none"].scale == pytest.approx(2 + 0.44**2, rel=1e-12)
    assert rows["inverse_branching subtree_out"].bias > VISIBLE
    assert rows["uniform group_mean / std"].bias > VISIBLE


def test_a_number_of_trajectories_that_the_probe_decides_biases_the_baseline_alone():
    rows = measure("aepo, probe, k = 1", group_size=3)
    assert rows["inverse_branching none"].bias < EXACT
    assert rows["inverse_branching subtree_out"].bias > VISIBLE


def test_attribution_changes_nothing_at_ratio_one():
    way = growth("arpo, k = 1", group_size=3, num_initial=2, tops_up=False)
    rows = {f.estimator: f for f in measure_exactly(DecisionTree.of_study(), way, further_estimators())}
    for base in ("uniform group_mean / std", "inverse_branching subtree_out"):
        for mode in ("hard", "mixed"):
            assert rows[f"{base}, {mode}"].bias == pytest.approx(rows[base].bias, abs=EXACT)
            assert rows[f"{base}, {mode}"].variance == pytest.approx(rows[base].variance, rel=1e-9)
    assert rows["inverse_branching subtree_out, sequence_mean"].bias > VISIBLE


def test_sampled_figures_agree_with_the_exact_ones():
    way = growth("arpo, k = 1", group_size=4, num_initial=2, tops_up=False)
    chosen = [e for e in main_estimators() if e.name in ("uniform group_mean", "inverse_branching subtree_out")]
    exact = measure_exactly(DecisionTree.of_study(), way, chosen)
    sampled = measure_by_sampling(DecisionTree.of_study(), way, chosen, num_groups=500, seed=1)
    for known, row in zip(exact, sampled, strict=True):
        assert row.interval is not None
        assert row.interval[0] <= known.bias + 1e-9 <= row.interval[1] + 1e-6
        assert row.variance == pytest.approx(known.variance, rel=0.2)
        assert row.num_tokens == pytest.approx(known.num_tokens, rel=0.05)


def test_the_credit_is_what_the_trainer_s_loss_has_as_its_gradient():
    """At ratio 1 the derivative of the clipped loss by each token's log-prob is minus the credit of its node."""
    way = growth("arpo, k = 1", group_size=4, num_initial=2, tops_up=True)
    advantage = OutcomeAdvantageConfig(leaf_weighting="inverse_branching", baseline="subtree_out", scale="none")
    estimator = Estimator(name="", advantage=advantage)
    for grown in sample_trees(DecisionTree.of_study(), way, 5, seed=1):
        credits = assign_credit([grown], advantage, PpoClipLossConfig(aggregation="constant"), max_tokens=1)
        (batch,) = make_policy_batches([grown], credits, BatchingConfig())
        log_ratio = torch.zeros(len(batch.rollout_logprobs), dtype=torch.float64, requires_grad=True)
        credit = batch.token_credit()
        ppo_clip_loss(log_ratio, credit.positive, credit.negative).loss.sum().backward()
        by_node = estimator.credit(grown)
        expected = [float(by_node[n.id]) for n in grown.depth_first() if n.is_sampled for _ in n.token_ids]
        assert log_ratio.grad is not None
        assert (-log_ratio.grad).tolist() == pytest.approx(expected, abs=1e-12)
