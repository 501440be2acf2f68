"""The learner: what saves memory changes nothing that it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arpo.config import parse_config
from arpo.models.loading import load_policy
from arpo.models.policy import PolicyModel
from arpo.models.weights import merged_weights
from arpo.training.config import RlRun
from arpo.training.learner import Learner
from arpo.training.reference import Reference
from arpo.tree import RolloutTree

MakeTree = Callable[..., RolloutTree]


def learner(policy: Path, tmp_path: Path, model: dict[str, Any] | None = None, **settings: Any) -> Learner:
    data = {
        "out": tmp_path, "tasks": tmp_path, "model": {"path": policy} | (model or {}), "optimizer": {"learning_rate": 1e-2},
        "agent": {"protocol": {"tools": [], "system_prompt": ""}, "limits": {"max_trajectory_tokens": 32}},
        "batching": {"max_tokens": 32},
    }  # fmt: skip
    return Learner(parse_config(RlRun, data | settings, "test"))


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in merged_weights(learner.policy.network)}


@pytest.mark.parametrize("settings", [{}, {"loss": {"kl": {"coefficient": 0.1}}}, {"updates_per_step": 2}])
@pytest.mark.parametrize("model", [{}, {"lora": {"rank": 2}}, {"dtype": "bfloat16"}])
def test_recomputed_activations_train_the_same_weights(
    model: dict[str, Any], settings: dict[str, Any], policy: Path, make_tree: MakeTree, tmp_path: Path
) -> None:
    before = weights(learner(policy, tmp_path, model))
    learned = []
    for is_on in (False, True):
        of_run = learner(policy, tmp_path, model | {"gradient_checkpointing": is_on}, **settings)
        for _ in range(2):
            of_run.learn([make_tree(), make_tree((0.0, 1.0, -1.0), name="u", first_id=60)])
        learned.append(weights(of_run))
    assert any(not torch.equal(before[name], learned[0][name]) for name in before)
    for name, expected in learned[0].items():
        assert torch.equal(learned[1][name], expected), name


def test_an_adapter_is_its_own_reference(policy: Path, make_tree: MakeTree, tmp_path: Path) -> None:
    """No second model: the network with its adapter off gives the log-probs of the run's start, whatever was learned."""
    of_run = learner(policy, tmp_path, {"lora": {"rank": 2}}, loss={"kl": {"coefficient": 0.1}})
    assert of_run.reference is not None
    assert of_run.reference.policy is of_run.policy
    for _ in range(3):
        of_run.learn([make_tree()])
    start = dict(load_policy(policy).named_parameters())
    assert any(not torch.equal(tensor, start[name]) for name, tensor in weights(of_run).items())
    second = Reference(of_run.config, PolicyModel(load_policy(policy)))
    assert torch.equal(of_run.reference.reward_kl([make_tree()]).leaf_sums[0], second.reward_kl([make_tree()]).leaf_sums[0])


def test_a_schedule_with_an_end_of_its_own_gives_a_longer_run_the_same_rates(
    policy: Path, make_tree: MakeTree, tmp_path: Path
) -> None:
    """Linear from 1e-2 to half of it over 2 steps of 2 updates: after 1, 3 and 5 updates of 4, 0.875, 0.625 and 0.5 of it."""
    optimizer = {"learning_rate": 1e-2, "schedule": "linear", "schedule_steps": 2, "final_fraction": 0.5}
    for num_steps in (2, 9):
        of_run = learner(policy, tmp_path, updates_per_step=2, num_steps=num_steps, optimizer=optimizer)
        trees = [make_tree(), make_tree((0.0, 1.0, -1.0), name="u", first_id=60)]
        rates = [of_run.learn(trees)["train/learning_rate"] for _ in range(3)]
        assert rates == pytest.approx([8.75e-3, 6.25e-3, 5e-3])
