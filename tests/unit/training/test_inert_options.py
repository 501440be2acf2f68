"""Whatever would do nothing is refused, and the message says what to set instead."""

import pytest

from arpo.config import dotted, parse_config
from arpo.errors import ConfigError
from arpo.training.config import RlRun
from arpo.training.inert_options import inert_terms
from arpo.training.presets import preset_names, read_preset

BASE = {"out": "o", "model": {"path": "m"}, "tasks": "t.parquet", "agent": {"tools": {"python": {}}}}
VLLM = {"engine": {"type": "vllm"}, "rollout": {"deterministic": False}}


def run(**values: object) -> RlRun:
    return parse_config(RlRun, BASE | values, "test")


BONUS = {"rule": "composite", "composite": {"grader": "f1", "multi_tool_bonus": 0.1}}
COST = {"rule": "composite", "composite": {"grader": "f1", "tool_cost": 0.1}}
HARD = {"attribution": "hard"}
ONE_UPDATE = "set updates_per_step or epochs_per_step to 2 or more"

REFUSED = [
    # advantage alone
    ({"advantage": {"mix": 0.3}}, "advantage.mix = 0.3", "set advantage.attribution = 'mixed'"),
    ({"advantage": {"scale": "none", "epsilon": 1e-4}}, "advantage.epsilon = 0.0001", "set advantage.scale = 'group_std' or"),
    ({"advantage": {"step_weight": 0.5}}, "advantage.step_weight = 0.5", "set advantage.type = 'gigpo'"),
    ({"algorithm": "tree_grpo", "advantage": {"discount": 0.5}}, "advantage.discount = 0.5", "set advantage.type = 'gigpo'"),
    ({"algorithm": "gigpo", "advantage": {"baseline": "none"}}, "advantage.baseline = 'none'", "advantage.type = 'outcome'"),
    (
        {"algorithm": "tree_grpo", "advantage": {"baseline": "subtree_out"}},
        "advantage.baseline = 'subtree_out'", "set advantage.type = 'outcome'",
    ),
    # loss alone
    (
        {"loss": {"type": "cispo", "low_mode": "gppo"}, "updates_per_step": 2},
        "loss.low_mode has no effect with loss.type = 'cispo'", "set loss.type = 'ppo_clip'",
    ),
    ({"loss": {"type": "reinforce", "clip_high": 0.3}}, "loss.clip_high = 0.3", "loss.type = 'ppo_clip' or 'cispo' or 'gspo'"),
    ({"loss": {"dual_clip": 1.2}, "updates_per_step": 2}, "loss.dual_clip = 1.2", "set it higher"),
    ({"loss": {"kl": {"estimator": "k1"}}}, "loss.kl.estimator = 'k1'", "set loss.kl.coefficient above 0"),
    ({"loss": {"kl": {"coefficient": 0.1, "level": "token"}}}, "loss.kl.level = 'token'", "set loss.kl.estimator = 'k1'"),
    (
        {"algorithm": "gspo", "loss": {"kl": {"coefficient": 0.1, "estimator": "k1", "level": "token"}}},
        "loss.kl.level = 'token' with loss.type = 'gspo'", "set it to 'sequence'",
    ),
    ({"loss": {"kl": {"reference": "ref"}}}, "loss.kl.reference = 'ref'", "set loss.kl.coefficient above 0"),
    # one update per step: every ratio is 1
    ({"loss": {"clip_high": 0.3}}, "loss.clip_high = 0.3", f"leave it at the preset's 0.2, or {ONE_UPDATE}"),
    ({"loss": {"low_mode": "gppo"}}, "loss.low_mode = 'gppo'", ONE_UPDATE),
    ({"loss": {"dual_clip": 3.0}}, "loss.dual_clip = 3.0", ONE_UPDATE),
    ({"loss": {"type": "gspo"}}, "loss.type = 'gspo'", "leave it at the preset's 'ppo_clip', set it to 'reinforce'"),
    ({"advantage": {"attribution": "mixed"}}, "advantage.attribution = 'mixed'", ONE_UPDATE),
    ({"advantage": HARD, "loss": {"aggregation": "token_mean"}}, "advantage.attribution = 'hard'", ONE_UPDATE),
    # linear losses
    (
        {"loss": {"type": "cispo", "aggregation": "token_mean"}, "updates_per_step": 2, "advantage": HARD},
        "advantage.attribution = 'hard' with loss.type = 'cispo'", "leave it at 'soft'",
    ),
    (
        {"loss": {"type": "reinforce"}, "advantage": {"attribution": "mixed"}},
        "advantage.attribution = 'mixed' with loss.type = 'reinforce'", "leave it at 'soft'",
    ),
    # no branches
    (
        {"algorithm": "grpo", "updates_per_step": 2, "advantage": HARD},
        "advantage.attribution = 'hard' with rollout.rule.type = 'none'", "set rollout.rule.type other than 'none'",
    ),
    (
        {"algorithm": "grpo", "advantage": {"attribution": "once"}},
        "advantage.attribution = 'once' with rollout.rule.type = 'none'", "set rollout.rule.type other than 'none'",
    ),
    (
        {"advantage": {"attribution": "once", "leaf_weighting": "inverse_branching"}},
        "advantage.attribution = 'once' with advantage.leaf_weighting = 'inverse_branching'", "leave one of them",
    ),
    (
        {"algorithm": "grpo", "advantage": {"leaf_weighting": "inverse_branching"}},
        "advantage.leaf_weighting = 'inverse_branching' with rollout.rule.type = 'none'", "leave it at 'uniform'",
    ),
    (
        {"algorithm": "grpo", "advantage": {"baseline": "subtree_out"}},
        "advantage.baseline = 'subtree_out'", "set 'leave_one_out'",
    ),
    (
        {"algorithm": "tree_grpo", "rollout": {"rule": {"type": "none"}}},
        "advantage.type = 'tree_grpo' with rollout.rule.type = 'none'", "set it to 'outcome'",
    ),
    (
        {"algorithm": "appo", "rollout": {"num_initial_trajectories": 16, "rule": {"type": "none"}}},
        "advantage.type = 'appo' with rollout.rule.type = 'none'", "set it to 'outcome'",
    ),
    ({"algorithm": "appo", "advantage": {"attribution": "hard"}}, "advantage.attribution = 'hard'", "leave it at 'soft'"),
    (
        {"algorithm": "appo", "advantage": {"leaf_weighting": "inverse_branching"}},
        "advantage.leaf_weighting = 'inverse_branching' has no effect with advantage.type = 'appo'", "leave it at 'uniform'",
    ),
    (
        {"algorithm": "appo", "advantage": {"future_weight": 0.0, "future_clip_high": 0.3}},
        "advantage.future_clip_high = 0.3", "set advantage.future_weight above 0",
    ),
    ({"algorithm": "appo", "advantage": {"future_half_life": 9.0}}, "advantage.future_half_life = 9.0", ONE_UPDATE),
    # one ratio and one advantage per trajectory
    (
        {"algorithm": "arpo", "loss": {"type": "gspo"}, "updates_per_step": 2, "advantage": {"attribution": "hard"}},
        "advantage.attribution = 'hard' with loss.type = 'gspo'", "leave it at 'soft'",
    ),
    ({"algorithm": "gspo", "advantage": {"entropy_scale": 0.2}}, "advantage.entropy_scale = 0.2", "leave it at 0"),
    (
        {"algorithm": "appo", "loss": {"type": "gspo"}, "updates_per_step": 2},
        "advantage.type = 'appo' with loss.type = 'gspo'", "set it to 'outcome'",
    ),
    ({"algorithm": "gspo", "advantage": {"type": "gigpo"}}, "advantage.type = 'gigpo'", "set it to 'outcome'"),
    (
        {"algorithm": "arpo", "loss": {"type": "gspo"}, "updates_per_step": 2, "advantage": {"baseline": "subtree_out"}},
        "advantage.baseline = 'subtree_out' with loss.type = 'gspo'", "set 'leave_one_out'",
    ),
    ({"algorithm": "gspo", "mismatch": {"level": "token"}}, "mismatch.level = 'token'", "set it to 'sequence' or 'none'"),
    # groups of one
    ({"rollout": {"group_size": 1}}, "group_size = 1 with rule.type = 'arpo'", "set it to 2 or more, or choose"),
    ({"algorithm": "grpo", "rollout": {"group_size": 1}}, "rollout.group_size = 1", "set advantage.baseline = 'none'"),
    ({"algorithm": "rloo", "rollout": {"group_size": 1}}, "rollout.group_size = 1", "set advantage.baseline = 'none'"),
    (
        {"algorithm": "reinforce_pp", "advantage": {"scale": "group_std"}, "rollout": {"group_size": 1}},
        "rollout.group_size = 1", "set advantage.scale other than 'group_std'",
    ),
    # updates after the first
    ({"algorithm": "rloo", "updates_per_step": 2}, "updates_per_step = 2 with loss.type = 'reinforce'", "set it to 1"),
    ({"loss": {"type": "reinforce"}, "epochs_per_step": 3}, "epochs_per_step = 3 with loss.type = 'reinforce'", "set it to 1"),
    # the longest trajectory
    (
        {"batching": {"max_tokens": 4096}}, "batching.max_tokens = 4096",
        "set batching.max_tokens to 8192 or more, or agent.limits.max_trajectory_tokens to 4096 or less",
    ),
    (
        {"agent": {"tools": {"python": {}}, "limits": {"max_trajectory_tokens": 8193}}, "batching": {"packing": "flat"}},
        "batching.max_tokens = 8192", "set batching.max_tokens to 8193 or more",
    ),
    # correction, sampling, shaping, schedule
    ({"mismatch": {"cap": 3}}, "mismatch.cap = 3.0", "set mismatch.level = 'token' or 'sequence'"),
    ({**VLLM, "mismatch": {"level": "none", "cap": 3}}, "mismatch.cap = 3.0", "set mismatch.level = 'token' or 'sequence'"),
    (
        {"algorithm": "reinforce_pp", "dynamic_sampling": {"max_rounds": 4}},
        "dynamic_sampling.max_rounds = 4", "set advantage.baseline other than 'none'",
    ),
    (
        {"algorithm": "reinforce_pp", "task_filter": {"after": 4}},
        "task_filter.after = 4", "set advantage.baseline other than 'none'",
    ),
    ({"overlong": {"buffer": 0.3}}, "overlong.buffer = 0.3", "set overlong.penalty above 0"),
    ({"overlong": {"max_tokens": 9}}, "overlong.max_tokens = 9", "set overlong.penalty above 0"),
    ({"overlong": {"penalty": 1.0, "max_tokens": 20000}}, "overlong.max_tokens = 20000", "lower it, or leave it out"),
    (
        {"agent": {"protocol": {"tools": ["search"]}}, "reward": BONUS},
        "reward.composite.multi_tool_bonus = 0.1", "set agent.protocol.tools of 2 or more",
    ),
    (
        {"agent": {"protocol": {"tools": []}}, "reward": COST},
        "reward.composite.tool_cost = 0.1", "set agent.protocol.tools of 1 or more",
    ),
    ({"optimizer": {"final_fraction": 0.1}}, "optimizer.final_fraction = 0.1", "set optimizer.schedule = 'linear' or 'cosine'"),
]  # fmt: skip
"""What is configured, the key and value that the error names, and what it says to do."""


@pytest.mark.parametrize(("values", "key", "remedy"), REFUSED)
def test_what_has_no_effect_is_refused(values: dict[str, object], key: str, remedy: str):
    with pytest.raises(ConfigError) as error:
        run(**values)
    assert key in str(error.value)
    assert remedy in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"loss": {"clip_high": 0.3, "low_mode": "gppo", "dual_clip": 3.0}, "updates_per_step": 2},
        {"loss": {"type": "gspo"}, "epochs_per_step": 2},
        {"loss": {"type": "cispo"}, "updates_per_step": 2},
        {"loss": {"type": "reinforce"}},
        {"algorithm": "reinforce_pp", "updates_per_step": 2, "epochs_per_step": 2},
        {"agent": {"tools": {"python": {}}, "limits": {"max_trajectory_tokens": 500}}, "batching": {"max_tokens": 500}},
        {"loss": {"kl": {"coefficient": 0.1, "estimator": "k2", "reference": "r"}, "entropy_coefficient": 0.01}},
        {"advantage": {"attribution": "mixed", "mix": 0.3}, "epochs_per_step": 2},
        {"advantage": HARD, "loss": {"aggregation": "sequence_mean"}},
        {"advantage": HARD, "loss": {"type": "cispo", "aggregation": "sequence_mean"}, "updates_per_step": 2},
        {"advantage": HARD | {"leaf_weighting": "inverse_branching"}, "loss": {"type": "reinforce"}},
        {"advantage": {"attribution": "once"}, "loss": {"type": "reinforce"}},
        {"advantage": {"attribution": "once"}},
        {"advantage": {"baseline": "subtree_out", "leaf_weighting": "inverse_branching", "scale": "none"}},
        {"advantage": {"entropy_scale": 0.5, "epsilon": 1e-4}},
        {"advantage": {"scale": "none", "entropy_scale": 0.5, "epsilon": 1e-4}},
        {"advantage": {"mix": 0.5}, "optimizer": {"final_fraction": 0.0}},
        {"algorithm": "dapo", "overlong": {"penalty": 0.0}},
        {"advantage": {"type": "gigpo", "step_weight": 0.5}},
        {"algorithm": "reinforce_pp", "rollout": {"group_size": 1}},
        {"algorithm": "reinforce_pp", "advantage": {"baseline": "group_mean"}, "dynamic_sampling": {"max_rounds": 4}},
        {"task_filter": {"after": 4}},
        {"algorithm": "gspo", "mismatch": {"level": "sequence", "cap": 3}},
        {**VLLM, "mismatch": {"cap": 3}},
        {"overlong": {"penalty": 1.0, "max_tokens": 9000, "buffer": 0.5}},
        {"optimizer": {"schedule": "linear", "final_fraction": 0.1}},
    ],
)  # fmt: skip
def test_what_has_an_effect_is_accepted(values: dict):
    run(**values)


@pytest.mark.parametrize("name", preset_names())
def test_a_papers_own_values_are_exempt(name: str):
    """Every preset but rloo has bounds that one update per step leaves inert."""
    assert not run(algorithm=name).has_moving_ratio


def told(**values: object) -> list[str]:
    config = run(**values)
    return inert_terms(config.algorithm, config.rollout, config.advantage, config.loss, config.has_moving_ratio)


def test_what_a_preset_sets_without_effect_is_told():
    """Of arpo: alpha = tau leaves beta without effect, one update per step the bounds; else nothing does."""
    beta, bounds = told(algorithm="arpo")
    assert beta == (
        "rollout.rule.beta = 0.2: of the preset 'arpo', no effect with rule.alpha = rule.tau = 0.5, where only the sign of the "
        "entropy's change counts"
    )
    assert bounds.startswith("loss.clip_low, loss.clip_high: of the preset 'arpo', no effect with updates_per_step = 1")
    assert told(algorithm="arpo", updates_per_step=2, rollout={"rule": {"tau": 0.6}}) == []
    assert told(algorithm="arpo", epochs_per_step=2, rollout={"rule": {"type": "random"}}) == []
    (bounds,) = told(algorithm="appo")
    assert bounds.startswith(
        "advantage.future_clip_low, advantage.future_clip_high, advantage.future_half_life, loss.clip_low, "
    )
    (bounds,) = told(algorithm="appo", advantage={"type": "outcome"})
    assert bounds.startswith("loss.clip_low, loss.clip_high: of the preset 'appo'")
    assert told(algorithm="appo", updates_per_step=2) == []
    assert told(algorithm="rloo") == []
    assert told(algorithm="aepo", updates_per_step=2) == []
    (slope,) = told(algorithm="aepo", updates_per_step=2, rollout={"num_initial_trajectories": 8})
    assert slope.startswith("rollout.rule.probe_slope = 0.5: of the preset 'aepo', no effect with num_initial_trajectories = 8")


@pytest.mark.parametrize("name", preset_names())
def test_a_rule_of_a_preset_is_told_as_its_section_knows(name: str):
    config = run(algorithm=name, updates_per_step=1 if name == "rloo" else 2)
    lines = told(algorithm=name, updates_per_step=1 if name == "rloo" else 2)
    known = {f"rollout.{inert.key}" for inert in config.rollout.inert_keys()}
    assert {line.split(" = ")[0] for line in lines} == known & set(dotted(read_preset(name).keys))


def test_aepos_entropy_aware_advantage_acts_without_an_entropy_bonus():
    """The public code computes entropies only for its bonus, whose coefficient is 0: there the advantage never acts."""
    config = run(algorithm="aepo")
    assert (config.loss.entropy_coefficient, config.advantage.entropy_scale) == (0.0, 0.2)
