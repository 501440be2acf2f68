"""Every preset against a list made by hand from its paper."""

import pytest

from arpo.config import parse_config
from arpo.rollout.config import (
    AepoReleasedRuleConfig,
    AepoRuleConfig,
    AppoRuleConfig,
    ArpoReleasedRuleConfig,
    ArpoRuleConfig,
    EptreeRuleConfig,
    MixedOutcomesRuleConfig,
    NoBranchingConfig,
    RandomNodeRuleConfig,
    TokenEntropyRuleConfig,
)
from arpo.training.algorithm_config import (
    AppoAdvantageConfig,
    CispoLossConfig,
    DynamicSamplingConfig,
    GigpoAdvantageConfig,
    GspoLossConfig,
    OutcomeAdvantageConfig,
    OverlongConfig,
    PpoClipLossConfig,
    ReinforceLossConfig,
    TreeGrpoAdvantageConfig,
    TreerlAdvantageConfig,
)
from arpo.training.config import RlRun
from arpo.training.presets import AlgorithmConfig, apply_preset, preset_names, read_preset

BASE = {"out": "o", "model": {"path": "m"}, "tasks": "t.parquet", "agent": {"tools": {"python": {}}}}
PPO = PpoClipLossConfig(
    clip_low=0.2, clip_high=0.2, low_mode="hard", high_mode="hard", dual_clip=None, aggregation="token_mean"
)
PER_SEQUENCE = PPO.model_copy(update={"aggregation": "sequence_mean"})
GROUP = OutcomeAdvantageConfig(baseline="group_mean", scale="group_std", attribution="soft", leaf_weighting="uniform")

PAPERS = {
    "grpo": ("2402.03300", NoBranchingConfig(), GROUP, PER_SEQUENCE),
    "dr_grpo": (
        "2503.20783", NoBranchingConfig(), OutcomeAdvantageConfig(baseline="group_mean", scale="none"),
        PpoClipLossConfig(clip_low=0.2, clip_high=0.2, aggregation="constant"),
    ),
    "dapo": (
        "2503.14476", NoBranchingConfig(), GROUP, PpoClipLossConfig(clip_low=0.2, clip_high=0.28, aggregation="token_mean"),
    ),
    "reinforce_pp": ("2501.03262", NoBranchingConfig(), OutcomeAdvantageConfig(baseline="none", scale="batch_std"), PPO),
    "rloo": (
        "2402.14740", NoBranchingConfig(), OutcomeAdvantageConfig(baseline="leave_one_out", scale="none"),
        ReinforceLossConfig(aggregation="constant"),
    ),
    "gspo": (
        "2507.18071", NoBranchingConfig(), GROUP, GspoLossConfig(clip_low=3e-4, clip_high=4e-4, aggregation="sequence_mean"),
    ),
    "cispo": (
        "2506.13585", NoBranchingConfig(), GROUP, CispoLossConfig(clip_low=None, clip_high=4.0, aggregation="token_mean"),
    ),
    "gppo": (
        "2508.07629", NoBranchingConfig(), GROUP,
        PpoClipLossConfig(clip_low=0.2, clip_high=0.28, low_mode="gppo", high_mode="gppo", aggregation="token_mean"),
    ),
    "gigpo": (
        "2505.10978", NoBranchingConfig(),
        GigpoAdvantageConfig(baseline="group_mean", scale="group_std", step_weight=1.0, discount=0.95), PPO,
    ),
    "tree_grpo": (
        "2509.21240", RandomNodeRuleConfig(nodes_per_tree=3),
        TreeGrpoAdvantageConfig(baseline="group_mean", scale="group_std"), PPO,
    ),
    "treerl": (
        "2506.11902", EptreeRuleConfig(tokens_per_tree=2, branch_factor=2),
        TreerlAdvantageConfig(baseline="group_mean", scale="none", attribution="soft"),
        PpoClipLossConfig(clip_low=0.2, clip_high=0.26, aggregation="sequence_mean"),
    ),
    "arpo": ("2507.19849", ArpoRuleConfig(alpha=0.5, beta=0.2, tau=0.5, branch_factor=1), GROUP, PER_SEQUENCE),
    "arpo_14b": ("2507.19849", ArpoRuleConfig(alpha=0.5, beta=0.2, tau=0.5, branch_factor=1), GROUP, PER_SEQUENCE),
    "appo": (
        "2606.12384", AppoRuleConfig(branches_per_trajectory=3, half_life=32.0),
        AppoAdvantageConfig(
            baseline="group_mean", scale="group_std", future_weight=0.5, future_clip_low=0.0, future_clip_high=0.2,
            future_half_life=32.0,
        ),
        PpoClipLossConfig(clip_low=0.2, clip_high=0.2, aggregation="sequence_mean"),
    ),
    "mixed_outcomes": (
        None, MixedOutcomesRuleConfig(prior=0.5, prior_groups=2.0, max_branch_share=0.75, branch_factor=1), GROUP, PER_SEQUENCE,
    ),
    "token_entropy": (None, TokenEntropyRuleConfig(branch_factor=3), GROUP, PPO),
    "arpo_released": (
        "2507.19849",
        ArpoReleasedRuleConfig(branch_probability=0.5, entropy_weight=0.2, branch_factor=1, lag=True, sum_over_window=True),
        GROUP, PpoClipLossConfig(clip_low=0.2, clip_high=0.2, dual_clip=3.0, aggregation="token_mean"),
    ),
    "aepo": (
        "2510.14545",
        AepoRuleConfig(alpha=0.5, gamma=0.2, tau=0.5, branch_factor=1, penalty_slope=0.05, probe_slope=0.5),
        OutcomeAdvantageConfig(baseline="group_mean", scale="group_std", attribution="soft", entropy_scale=0.2),
        PpoClipLossConfig(clip_low=0.2, clip_high=0.2, low_mode="hard", high_mode="gppo", aggregation="token_mean"),
    ),
    "aepo_released": (
        "2510.14545",
        AepoReleasedRuleConfig(
            branch_probability=0.5, entropy_weight=0.2, branch_factor=1, penalty_slope=0.05, lag=True, sum_over_window=True
        ),
        GROUP, PpoClipLossConfig(clip_low=0.2, clip_high=0.2, high_mode="gppo", dual_clip=3.0, aggregation="token_mean"),
    ),
}  # fmt: skip
"""Preset -> paper (None: our own), branch rule, advantage, loss."""


def run(**values: object) -> RlRun:
    return parse_config(RlRun, BASE | values, "test")


def test_every_preset_is_checked():
    assert preset_names() == sorted(PAPERS)


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_is_its_paper(name: str):
    paper, rule, advantage, loss = PAPERS[name]
    preset = read_preset(name)
    algorithm = preset.resolve()
    assert preset.paper == (paper and f"arXiv:{paper}")
    assert preset.about
    assert (algorithm.rollout.rule, algorithm.advantage, algorithm.loss) == (rule, advantage, loss)
    assert algorithm.loss.kl.coefficient == algorithm.loss.entropy_coefficient == 0
    if name != "dapo":
        assert (algorithm.dynamic_sampling, algorithm.overlong) == (DynamicSamplingConfig(), OverlongConfig())


def test_dapo_samples_dynamically_and_penalises_length():
    dapo = read_preset("dapo").resolve()
    assert dapo.dynamic_sampling.max_rounds == 10
    assert dapo.overlong == OverlongConfig(penalty=1.0, max_tokens=None, buffer=4096 / 20480)


def test_the_budgets():
    """M = 16 for all but 14B (12, N = 6) and TreeRL (30, N = 6); N = M/2 or M/4 unless planned; released: top 10 of 20."""
    for name in preset_names():
        rollout = read_preset(name).resolve().rollout
        large, planned, flat = name == "arpo_14b", name in ("aepo", "mixed_outcomes"), rollout.rule.type == "none"
        assert rollout.group_size == (12 if large else 30 if name == "treerl" else 16)
        half = 4 if name in ("token_entropy", "appo", "tree_grpo") else 6 if large or name == "treerl" else 8
        assert rollout.num_initial_trajectories == (None if planned else 16 if flat else half)
    for name in ("arpo_released", "aepo_released"):
        rollout = read_preset(name).resolve().rollout
        assert (rollout.entropy_estimator, rollout.top_k, rollout.entropy_window) == ("top_k", 10, 20)
        assert (rollout.entropy_normalizer, rollout.temperature) == ("log_vocab", 1.0)


@pytest.mark.parametrize("name", preset_names())
def test_a_run_takes_every_key_of_its_preset(name: str):
    """Also with several updates per step, where clip bounds act; rloo has no ratio and takes one."""
    algorithm = read_preset(name).resolve()
    for updates in (1, 2) if name != "rloo" else (1,):
        resolved = run(algorithm=name, updates_per_step=updates)
        assert AlgorithmConfig(**{key: getattr(resolved, key) for key in AlgorithmConfig.model_fields}) == algorithm


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_sets_only_sections_of_an_algorithm(name: str):
    assert read_preset(name).keys.keys() <= AlgorithmConfig.model_fields.keys()


@pytest.mark.parametrize("name", preset_names())
def test_without_branching_every_trajectory_is_initial(name: str):
    """What a preset sets for its rule does not hold for another that has none."""
    outcome = {"type": "outcome", "attribution": "soft"}
    resolved = run(algorithm=name, rollout={"rule": {"type": "none"}}, advantage=outcome)
    assert resolved.rollout.num_initial_trajectories == resolved.rollout.group_size


def test_arpo_is_the_default():
    assert run().algorithm == "arpo"
    assert apply_preset({}) == read_preset("arpo").keys


def test_a_preset_is_not_changed_by_what_is_laid_over_it():
    before = read_preset("arpo").resolve()
    run(rollout={"rule": {"tau": 0.9}}, advantage={"scale": "none"})
    assert read_preset("arpo").resolve() == before


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"algorithm = 'ppo': there is no such preset; choose one of aepo, .*tree_grpo"):
        read_preset("ppo")
