"""Every preset trains on a real domain, and each part it is made of acts: without it the policy becomes another."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from arpo.config import merge_keys, parse_config
from arpo.tracking import read_metrics
from arpo.training.config import RlRun
from arpo.training.learner import Learner
from arpo.training.presets import preset_names
from arpo.tree import RolloutTree, read_trees

PARTS: dict[str, list[dict[str, Any]]] = {
    "grpo": [{"advantage": {"scale": "none"}}, {"loss": {"aggregation": "token_mean"}}],
    "dr_grpo": [{"advantage": {"scale": "group_std"}}, {"loss": {"aggregation": "token_mean"}}],
    "dapo": [{"loss": {"clip_high": 0.05}}, {"overlong": {"penalty": 0.5}}],
    "reinforce_pp": [{"advantage": {"scale": "none"}}, {"advantage": {"baseline": "group_mean"}}],
    "rloo": [
        {"advantage": {"baseline": "group_mean"}},
        {"loss": {"type": "ppo_clip"}, "updates_per_step": 2, "epochs_per_step": 4},
        {"loss": {"aggregation": "token_mean"}},
    ],
    "gspo": [{"loss": {"type": "ppo_clip"}}, {"loss": {"clip_low": 0.3, "clip_high": 0.3}}],
    "cispo": [{"loss": {"type": "ppo_clip"}}],
    "gppo": [{"loss": {"low_mode": "hard"}}, {"loss": {"high_mode": "hard"}}],
    "gigpo": [{"advantage": {"type": "outcome"}}, {"advantage": {"discount": 0.5}}, {"advantage": {"step_weight": 0.5}}],
    "tree_grpo": [{"advantage": {"type": "outcome"}}],
    "treerl": [{"advantage": {"type": "outcome"}}, {"loss": {"clip_high": 0.05}}, {"loss": {"aggregation": "token_mean"}}],
    "arpo": [{"loss": {"clip_low": 0.1}}, {"loss": {"clip_high": 0.1}}, {"advantage": {"scale": "none"}}],
    "arpo_14b": [{"advantage": {"scale": "none"}}],
    "appo": [
        {"advantage": {"type": "outcome"}},
        {"advantage": {"future_weight": 0.0}},
        {"advantage": {"future_half_life": 1.0}},
    ],
    "mixed_outcomes": [{"advantage": {"scale": "none"}}, {"loss": {"clip_high": 0.05}}],
    "token_entropy": [{"advantage": {"scale": "none"}}, {"loss": {"aggregation": "sequence_mean"}}],
    "arpo_released": [{"advantage": {"scale": "none"}}],
    "aepo": [{"advantage": {"entropy_scale": 0.0}}, {"loss": {"high_mode": "hard"}}],
    "aepo_released": [{"loss": {"high_mode": "hard"}}],
}
"""What the preset has, replaced by something else."""

ACROSS_GROUPS = {"reinforce_pp"}
"""Whose advantages compare groups with each other, so that groups of equal means say nothing of the baseline."""

ROLLOUT = {
    "arpo_released": {"num_initial_trajectories": 2},
    "aepo_released": {"num_initial_trajectories": 2},
    "arpo_14b": {"num_initial_trajectories": 2},
    "token_entropy": {"num_initial_trajectories": 2},
    "appo": {"num_initial_trajectories": 2, "group_size": 8},
    "tree_grpo": {"group_size": 8, "num_initial_trajectories": 2},
    "treerl": {"group_size": 10, "num_initial_trajectories": 2},
}
"""Groups that fit the domain, and trees of several trajectories where the preset compares within them."""

MORE: dict[str, list[dict[str, Any]]] = {
    "arpo": [{"loss": {"kl": {"coefficient": 0.5}}}, {"loss": {"entropy_coefficient": 0.05}}, {"epochs_per_step": 3}],
    "grpo": [{"loss": {"kl": {"coefficient": 0.5, "estimator": "k1"}}}, {"updates_per_step": 1}],
}
"""What a preset leaves off, switched on."""


def test_every_preset_is_tried():
    assert sorted(PARTS) == sorted(preset_names())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What the commands of these tests compute with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(domain, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """A run of two steps, each of four passes over two mini-batches; of rloo, which has no ratio, each of one update."""

    def make(name: str) -> dict[str, Any]:
        rollout = {"group_size": 4, "entropy_window": 3} | ROLLOUT.get(name, {})
        section = domain.rl(
            tmp_path / "run", algorithm=name, num_steps=2, updates_per_step=2, epochs_per_step=4, rollout=rollout,
            optimizer={"learning_rate": 3e-3},
        )  # fmt: skip
        if name == "dapo":
            section["overlong"] = {"buffer": 1.0}
        if name == "rloo":
            section |= {"updates_per_step": 1, "epochs_per_step": 1}
        return {k: v for k, v in section.items() if k != "validation"}

    return make


def learned(settings: dict[str, Any], trees: list[RolloutTree], out: Path) -> Tensor:
    """The weights after a step that grew these trees."""
    config = parse_config(RlRun, settings | {"out": out}, "test")
    learner = Learner(config)
    learner.learn(trees)
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_a_preset_trains_and_every_part_of_it_acts(arpo, domain, write_toml, settings, tmp_path: Path, name: str):
    mine = settings(name)
    arpo.succeed("train", write_toml(tmp_path / "rl.toml", mine))
    run = tmp_path / "run"
    rows = read_metrics(run)
    assert len(rows) == 2
    assert all(math.isfinite(row["train/loss"]) for row in rows)
    assert max(row["train/grad_norm"] for row in rows) > 0
    start, end = (load_file(folder / "model.safetensors") for folder in (domain.path / "cold" / "final", run / "final"))
    assert any(not torch.equal(end[key], start[key]) for key in start)

    best = max(rows, key=lambda row: row["train/updates"])
    steps = rows if name in ACROSS_GROUPS else [best]
    grown = [tree for row in steps for tree in read_trees(run / "rollouts" / f"step_{row['step']:06d}.jsonl.zst")]
    trees = [tree for tree in grown if name in ACROSS_GROUPS or len({leaf.reward.value for leaf in tree.leaves()}) > 1]
    weights = learned(mine, trees, tmp_path / "mine")
    for index, part in enumerate(PARTS[name] + MORE.get(name, [])):
        without = learned(merge_keys(mine, part), trees, tmp_path / f"other{index}")
        assert not torch.equal(weights, without), part
