"""Whatever would do nothing is refused, and the message says what to set instead."""

import re

import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError
from arpo.training.config import RlRun
from arpo.training.effects import inert_terms
from arpo.training.presets import preset_names

BASE = {"out": "o", "model": {"path": "m"}, "tasks": "t.parquet", "agent": {"tools": {"python": {}}}}
VLLM = {"engine": {"type": "vllm"}, "rollout": {"deterministic": False}}


def run(**values: object) -> RlRun:
    return parse_config(RlRun, BASE | values, "test")


REFUSED = {
    # advantage alone
    "mix without mixed": (
        {"advantage": {"mix": 0.3}},
        "advantage.mix = 0.3 has no effect with advantage.attribution = 'soft'; leave it out or set advantage.attribution = "
        "'mixed'",
    ),
    "epsilon without scale": (
        {"advantage": {"scale": "none", "epsilon": 1e-4}},
        "advantage.epsilon = 0.0001 has no effect with advantage.scale = 'none'",
    ),
    "step_weight without gigpo": (
        {"advantage": {"step_weight": 0.5}},
        "advantage.step_weight = 0.5 has no effect with advantage.type = 'outcome'; leave it out or set advantage.type = "
        "'gigpo'",
    ),
    "discount with tree_grpo": (
        {"algorithm": "tree_grpo", "advantage": {"discount": 0.5}},
        "advantage.discount = 0.5 has no effect with advantage.type = 'tree_grpo'",
    ),
    "gigpo centres on means": (
        {"algorithm": "gigpo", "advantage": {"baseline": "none"}},
        "advantage.baseline = 'none' has no place in advantage.type = 'gigpo'",
    ),
    "tree_grpo centres on means": (
        {"algorithm": "tree_grpo", "advantage": {"baseline": "subtree_out"}},
        "advantage.baseline = 'subtree_out' has no place in advantage.type = 'tree_grpo'",
    ),
    # loss alone
    "low_mode with cispo": (
        {"loss": {"type": "cispo", "low_mode": "gppo"}, "updates_per_step": 2},
        "loss.low_mode = 'gppo' has no effect with loss.type = 'cispo'; leave it out or set loss.type = 'ppo_clip'",
    ),
    "clip_high with reinforce": (
        {"loss": {"type": "reinforce", "clip_high": 0.3}},
        "loss.clip_high = 0.3 has no effect with loss.type = 'reinforce'; leave it out or set loss.type = 'ppo_clip' or "
        "'cispo' or 'gspo'",
    ),
    "dual clip within the bounds": (
        {"loss": {"dual_clip": 1.2}, "updates_per_step": 2},
        "loss.dual_clip = 1.2 is not above 1 + loss.clip_high = 1.2",
    ),
    "estimator without KL": (
        {"loss": {"kl": {"estimator": "k1"}}},
        "loss.kl.estimator = 'k1' has no effect with loss.kl.coefficient = 0; leave it out or set loss.kl.coefficient above 0",
    ),
    "reference without KL": (
        {"loss": {"kl": {"reference": "ref"}}},
        "loss.kl.reference = 'ref' has no effect with loss.kl.coefficient = 0",
    ),
    # one update per step: every ratio is 1
    "another bound": (
        {"loss": {"clip_high": 0.3}},
        "loss.clip_high = 0.3 has no effect with updates_per_step = 1 and epochs_per_step = 1: every ratio is 1; set "
        "updates_per_step or epochs_per_step to 2 or more, or leave it at the preset's 0.2",
    ),
    "a clip mode": ({"loss": {"low_mode": "gppo"}}, "loss.low_mode = 'gppo' has no effect with updates_per_step = 1"),
    "a dual clip": ({"loss": {"dual_clip": 3.0}}, "loss.dual_clip = 3.0 has no effect with updates_per_step = 1"),
    "another clipped loss": (
        {"loss": {"type": "gspo"}},
        "loss.type = 'gspo' has no effect with updates_per_step = 1 and epochs_per_step = 1: every ratio is 1, where every "
        "loss has the gradient of 'reinforce'",
    ),
    "hard": (
        {"advantage": {"attribution": "hard"}},
        "advantage.attribution = 'hard' has no effect with updates_per_step = 1 and epochs_per_step = 1",
    ),
    # linear losses
    "hard with cispo": (
        {"loss": {"type": "cispo"}, "updates_per_step": 2, "advantage": {"attribution": "hard"}},
        "advantage.attribution = 'hard' has no effect with loss.type = 'cispo', which is linear in the advantage",
    ),
    "mixed with reinforce": (
        {"loss": {"type": "reinforce"}, "advantage": {"attribution": "mixed"}},
        "advantage.attribution = 'mixed' has no effect with loss.type = 'reinforce'",
    ),
    # no branches
    "hard without branches": (
        {"algorithm": "grpo", "updates_per_step": 2, "advantage": {"attribution": "hard"}},
        "advantage.attribution = 'hard' has no effect with rollout.rule.type = 'none', as independent trajectories share no "
        "sampled token; leave it at 'soft' or choose a branching rule, e.g. rollout.rule.type = 'arpo'",
    ),
    "inverse_branching without branches": (
        {"algorithm": "grpo", "advantage": {"leaf_weighting": "inverse_branching"}},
        "advantage.leaf_weighting = 'inverse_branching' has no effect with rollout.rule.type = 'none'",
    ),
    "subtree_out without branches": (
        {"algorithm": "grpo", "advantage": {"baseline": "subtree_out"}},
        "say 'leave_one_out', which it then is",
    ),
    "tree_grpo without branches": (
        {"algorithm": "tree_grpo", "rollout": {"rule": {"type": "none"}}},
        "advantage.type = 'tree_grpo' has no effect with rollout.rule.type = 'none', as every tree has one trajectory",
    ),
    # one ratio and one advantage per trajectory
    "gspo with hard": (
        {"algorithm": "arpo", "loss": {"type": "gspo"}, "updates_per_step": 2, "advantage": {"attribution": "hard"}},
        "advantage.attribution = 'hard' gives the tokens of a trajectory different advantages, but loss.type = 'gspo' has one "
        "ratio and one advantage per trajectory; set advantage.attribution = 'soft' or loss.type = 'ppo_clip'",
    ),
    "gspo with entropy": (
        {"algorithm": "gspo", "advantage": {"entropy_scale": 0.2}}, "set advantage.entropy_scale = 0.0 or loss.type"
    ),
    "gspo with gigpo": ({"algorithm": "gspo", "advantage": {"type": "gigpo"}}, "set advantage.type = 'outcome' or loss.type"),
    "gspo with subtree_out": (
        {"algorithm": "arpo", "loss": {"type": "gspo"}, "updates_per_step": 2, "advantage": {"baseline": "subtree_out"}},
        "set advantage.baseline = 'leave_one_out' or loss.type",
    ),
    "gspo corrected by token": (
        {"algorithm": "gspo", "mismatch": {"level": "token"}},
        "mismatch.level = 'token' with loss.type = 'gspo', whose ratio belongs to the whole trajectory; set mismatch.level = "
        "'sequence' or 'none'",
    ),
    # groups of one
    "a group of one that should branch": (
        {"rollout": {"group_size": 1}},
        "rollout.group_size = 1 with rule.type = 'arpo': the one trajectory starts at the prompt, so nothing could ever "
        "branch; set it to 2 or more, or choose rule.type = 'none'",
    ),
    "a group of one": (
        {"algorithm": "grpo", "rollout": {"group_size": 1}},
        "rollout.group_size = 1: with advantage.baseline = 'group_mean' and advantage.scale = 'group_std' the advantage of a "
        "group of one is always 0",
    ),
    "leave one out of one": (
        {"algorithm": "rloo", "rollout": {"group_size": 1}}, "with advantage.baseline = 'leave_one_out' the advantage"
    ),
    # updates after the first
    "rloo with mini-batches": (
        {"algorithm": "rloo", "updates_per_step": 2},
        "updates_per_step = 2 with loss.type = 'reinforce': it has no ratio between the policy that is trained and the one "
        "that sampled, so that its gradient is right for a step's first update only; set updates_per_step = 1 or loss.type = "
        "'ppo_clip'",
    ),
    "reinforce with passes": (
        {"loss": {"type": "reinforce"}, "epochs_per_step": 3},
        "epochs_per_step = 3 with loss.type = 'reinforce'",
    ),
    # the longest trajectory
    "a pass too small": (
        {"batching": {"max_tokens": 4096}},
        "batching.max_tokens = 4096 is below agent.limits.max_trajectory_tokens = 8192: a trajectory of that length fits in "
        "no pass and cannot be cut; set batching.max_tokens to 8192 or more, or agent.limits.max_trajectory_tokens to 4096 or "
        "less",
    ),
    "a trajectory too long": (
        {"agent": {"tools": {"python": {}}, "limits": {"max_trajectory_tokens": 8193}}, "batching": {"packing": "flat"}},
        "batching.max_tokens = 8192 is below agent.limits.max_trajectory_tokens = 8193",
    ),
    # correction, sampling, shaping, schedule
    "cap in process": (
        {"mismatch": {"cap": 3}},
        "mismatch.cap = 3.0 has no effect with engine.type = 'transformers', which runs the trainer's own model",
    ),
    "cap of no level": (
        {**VLLM, "mismatch": {"level": "none", "cap": 3}}, "mismatch.cap = 3.0 has no effect with mismatch.level = 'none'"
    ),
    "sampling where all teach": (
        {"algorithm": "reinforce_pp", "dynamic_sampling": {"max_rounds": 4}},
        "dynamic_sampling.max_rounds = 4 has no effect with advantage.baseline = 'none', where groups of equal rewards teach "
        "too",
    ),
    "a filter where all teach": (
        {"algorithm": "reinforce_pp", "task_filter": {"after": 4}},
        "task_filter.after = 4 would leave out tasks that teach: with advantage.baseline = 'none'",
    ),
    "a buffer of no penalty": ({"overlong": {"buffer": 0.3}}, "overlong.buffer = 0.3 has no effect with overlong.penalty = 0"),
    "a limit of no penalty": (
        {"overlong": {"max_tokens": 9}}, "overlong.max_tokens = 9 has no effect with overlong.penalty = 0"
    ),
    "a penalty never reached": (
        {"overlong": {"penalty": 1.0, "max_tokens": 20000}},
        "overlong.max_tokens = 20000 has no effect as its penalty begins at 16000 tokens and trajectories end at "
        "agent.limits.max_trajectory_tokens = 8192; lower it, or leave it out to mean that limit",
    ),
    "a bonus for several tools with one": (
        {
            "agent": {"protocol": {"tools": ["search"]}},
            "reward": {"rule": "composite", "composite": {"grader": "f1", "multi_tool_bonus": 0.1}},
        },
        "reward.composite.multi_tool_bonus = 0.1 has no effect with agent.protocol.tools = ['search']",
    ),
    "calls that cost without tools": (
        {
            "agent": {"protocol": {"tools": []}},
            "reward": {"rule": "composite", "composite": {"grader": "f1", "tool_cost": 0.1}},
        },
        "reward.composite.tool_cost = 0.1 has no effect with agent.protocol.tools = []",
    ),
    "an end without a slope": (
        {"optimizer": {"final_fraction": 0.1}},
        "optimizer.final_fraction = 0.1 has no effect with optimizer.schedule = 'constant'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_effect_is_refused(name: str):
    values, message = REFUSED[name]
    with pytest.raises(ConfigError, match=re.escape(message)):
        run(**values)


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
        {"advantage": {"baseline": "subtree_out", "leaf_weighting": "inverse_branching", "scale": "none"}},
        {"advantage": {"entropy_scale": 0.5, "epsilon": 1e-4}},
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
def test_a_papers_own_values_are_exempt_and_named_once(name: str):
    """rloo has no ratio; every other preset has bounds that one update per step leaves inert."""
    lines = inert_terms(run(algorithm=name))
    assert len(lines) == (name != "rloo")
    assert all("updates_per_step = 1" in line and f"preset {name!r}" in line and "loss.clip_high" in line for line in lines)
    if name != "rloo":
        assert inert_terms(run(algorithm=name, updates_per_step=2)) == []


def test_only_what_the_preset_sets_is_named():
    assert inert_terms(run(algorithm="gspo"))[0].startswith("loss.clip_low, loss.clip_high: as the preset 'gspo' sets them")
    assert inert_terms(run(loss={"type": "reinforce"})) == []


def test_aepos_entropy_aware_advantage_acts_without_an_entropy_bonus():
    """The public code computes entropies only for its bonus, whose coefficient is 0: there the advantage never acts."""
    config = run(algorithm="aepo")
    assert (config.loss.entropy_coefficient, config.advantage.entropy_scale) == (0.0, 0.2)
