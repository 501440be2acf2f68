"""What the study compares: ways to sample a group, and ways to estimate a gradient from it."""

from typing import Any

from arpo.lab.bias.estimators import Estimator
from arpo.lab.bias.rollouts import Growth
from arpo.rollout.config import RolloutConfig
from arpo.training.algorithm_config import OutcomeAdvantageConfig, PpoClipLossConfig

RULES: dict[str, dict[str, Any]] = {
    "none": {"rule": {"type": "none"}},
    "random": {"rule": {"type": "random", "rate": 0.5}},
    "arpo, k = 1": {"entropy_window": 1, "rule": {"type": "arpo"}},
    "arpo, k = 2": {"entropy_window": 2, "rule": {"type": "arpo"}},
    "arpo_released": {"entropy_window": 2, "rule": {"type": "arpo_released"}},
    "arpo_released, no lag": {"entropy_window": 2, "rule": {"type": "arpo_released", "lag": False, "entropy_weight": 1.0}},
    "aepo, N given, k = 1": {"entropy_window": 1, "rule": {"type": "aepo"}},
    "aepo, probe, k = 1": {
        "entropy_window": 1,
        "rule": {"type": "aepo", "probe_slope": 20.0},
        "num_initial_trajectories": None,
    },
    "token_entropy": {"rule": {"type": "token_entropy"}},
}
"""Keys of `[rollout]` by name. The probe's slope is steep because the entropies of the decision tree differ by so little."""

BASELINES = (
    ("none", "none"),
    ("group_mean", "none"),
    ("group_mean", "group_std"),
    ("leave_one_out", "none"),
    ("subtree_out", "none"),
)
"""Baseline and scale of the main table."""


def growth(rule: str, *, group_size: int, num_initial: int, tops_up: bool) -> Growth:
    """A rule of RULES at a size; with rule `none` all trajectories are initial."""
    keys: dict[str, Any] = {"num_initial_trajectories": None if rule == "none" else num_initial, **RULES[rule]}
    config = RolloutConfig(group_size=group_size, entropy_estimator="exact", **keys)
    return Growth(name=rule + (", top-ups" if tops_up and rule != "none" else ""), config=config, tops_up=tops_up)


def main_estimators() -> list[Estimator]:
    """Both leaf weightings with every baseline, soft attribution, aggregation `constant`."""
    return [
        Estimator(
            name=_name(weighting, baseline, scale),
            advantage=OutcomeAdvantageConfig(leaf_weighting=weighting, baseline=baseline, scale=scale),  # pyright: ignore[reportArgumentType]
        )
        for weighting in ("uniform", "inverse_branching")
        for baseline, scale in BASELINES
    ]


def common_estimators() -> list[Estimator]:
    """The main estimators between which a user chooses; the papers' first."""
    names = (
        "uniform group_mean / std", "uniform subtree_out",
        "inverse_branching none", "inverse_branching group_mean", "inverse_branching subtree_out",
    )  # fmt: skip
    return [e for e in main_estimators() if e.name in names]


def further_estimators() -> list[Estimator]:
    """Attribution, aggregation and a batch of one task, for the papers' choice and for the unbiased one."""
    paper = OutcomeAdvantageConfig()
    exact = OutcomeAdvantageConfig(leaf_weighting="inverse_branching", baseline="subtree_out", scale="none")
    per_token, per_sequence = PpoClipLossConfig(aggregation="token_mean"), PpoClipLossConfig(aggregation="sequence_mean")
    estimators: list[Estimator] = []
    for name, advantage in (("uniform group_mean / std", paper), ("inverse_branching subtree_out", exact)):
        hard = advantage.model_copy(update={"attribution": "hard"})
        mixed = advantage.model_copy(update={"attribution": "mixed"})
        estimators += [
            Estimator(name=f"{name}", advantage=advantage),
            Estimator(name=f"{name}, hard", advantage=hard),
            Estimator(name=f"{name}, mixed", advantage=mixed),
            Estimator(name=f"{name}, sequence_mean", advantage=advantage, loss=per_sequence),
            Estimator(name=f"{name}, token_mean, one task", advantage=advantage, loss=per_token, is_own_batch=True),
        ]
    return estimators


def _name(weighting: str, baseline: str, scale: str) -> str:
    return f"{weighting} {baseline}{' / std' if scale == 'group_std' else ''}"
