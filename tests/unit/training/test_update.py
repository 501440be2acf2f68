"""One step's update, from credited trees to moved weights."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.batching.policy_batch import PolicyBatch, make_policy_batches
from arpo.config import parse_config
from arpo.rewards.build import build_reward
from arpo.tracking.progress import SilentProgress
from arpo.tracking.run_directory import RunDirectory
from arpo.training.config import RlRun
from arpo.training.credit import assign_credit
from arpo.training.optimizer import build_optimizer, take_update
from arpo.training.rl import RLTrainer
from arpo.training.update import UpdateTotals, accumulate_gradients, batch_logprobs, old_logprobs
from arpo.tree import RolloutTree

MakeTrainer = Callable[..., RLTrainer]


@pytest.fixture
def make_trainer(policy: Path, tmp_path: Path) -> Iterator[MakeTrainer]:
    """Makes a trainer whose agent has no tools; its trees are the tests' own."""
    runs: list[RunDirectory] = []

    def make(**values: object) -> RLTrainer:
        (tmp_path / "tasks.jsonl").write_text("".join(json.dumps({"question": str(i), "answer": "2"}) + "\n" for i in range(4)))
        data = {
            "out": tmp_path / f"run{len(runs)}", "tasks": tmp_path / "tasks.jsonl", "model": {"path": policy},
            "tasks_per_step": 2, "num_steps": 10, "optimizer": {"learning_rate": 1e-2},
            "agent": {"protocol": {"tools": [], "system_prompt": ""}},
        }  # fmt: skip
        config = parse_config(RlRun, data | values, "test")
        runs.append(RunDirectory.create(config.out))
        return RLTrainer(config, runs[-1], SilentProgress(), build_reward(config.reward), {})

    yield make
    for run in runs:
        run.close()


def parameters(model: PreTrainedModel) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def count_passes(model: PreTrainedModel) -> list[int]:
    """Grows by the number of tokens of every forward pass."""
    passes: list[int] = []
    model.base_model.register_forward_hook(
        lambda _module, _args, kwargs, _output: passes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return passes


def leaf_logprobs(model: PreTrainedModel, tree: RolloutTree) -> dict[str, float]:
    """Summed log-probs of the tokens only leaf b, c or d has."""
    with torch.no_grad():
        logprobs = batch_logprobs(model, make_policy_batches([tree], 10_000)[0], 1.0)[0]
    a, b, c, d = logprobs.split([3, 2, 6, 1])
    return {"a": float(a.sum()), "b": float(b.sum()), "c": float(c.sum()), "d": float(d.sum())}


def test_an_update_raises_what_was_rewarded_and_lowers_what_was_not(make_trainer: MakeTrainer, make_tree):
    trainer, tree = make_trainer(), make_tree((1.0, 0.0, 0.5))
    assign_credit([tree], trainer._config.advantage, trainer._config.loss)
    before = leaf_logprobs(trainer._model, tree)
    metrics = trainer._update([tree])
    after = leaf_logprobs(trainer._model, tree)
    assert after["b"] > before["b"], "advantage 1"
    assert after["c"] < before["c"], "advantage -1"
    assert trainer.state.update == 1
    assert metrics["train/grad_norm"] > 0
    assert (metrics["train/groups"], metrics["train/groups_without_signal"]) == (1, 0)


def test_the_figures_of_an_update(make_trainer: MakeTrainer, make_tree):
    """Ratio 1 everywhere, so the loss is -(5 * 1 + 9 * -1 + 1 * 0) / 15 and nothing is clipped."""
    trainer, tree = make_trainer(advantage={"epsilon": 1e-30}), make_tree((1.0, 0.0, 0.5))
    metrics = trainer._update([tree])
    assert metrics["train/loss"] == pytest.approx(4 / 15)
    assert metrics["train/clip_fraction_low"] == metrics["train/clip_fraction_high"] == 0
    assert metrics["train/learning_rate"] == 1e-2
    assert metrics["train/tokens_unique"] == 18
    assert metrics["train/tokens_total"] == 11 + 15 + 3


def test_groups_without_signal_cost_no_forward_pass(make_trainer: MakeTrainer, make_tree):
    trainer = make_trainer()
    passes, before = count_passes(trainer._model), parameters(trainer._model)
    metrics = trainer._update([make_tree((0.0, 0.0, 0.0)), make_tree((-1.0, -1.0, -1.0), name="u")])
    assert passes == []
    assert torch.equal(parameters(trainer._model), before), "no weight decay and no momentum either"
    assert metrics["train/groups_without_signal"] == 2
    assert trainer.state.update == 1, "the schedule goes on"
    trainer._update([make_tree((0.0, 0.0, 0.0)), make_tree((1.0, 0.0, 0.0), name="u")])
    assert passes == [18], "the one tree that teaches something, once"


def test_the_cut_into_packs_changes_no_gradient(make_trainer: MakeTrainer, make_tree):
    ends = []
    for max_batch_tokens in (64, 10_000):
        trainer = make_trainer(max_batch_tokens=max_batch_tokens)
        passes = count_passes(trainer._model)
        trees = [make_tree((1.0, 0.0, 0.5), first_id=20 + 30 * i, name=str(i)) for i in range(5)]
        trainer._update(trees)
        ends.append((len(passes), parameters(trainer._model)))
    assert [passes for passes, _ in ends] == [2, 1]
    assert torch.allclose(ends[0][1], ends[1][1], atol=1e-5)


def replay(trainer: RLTrainer, model: PreTrainedModel, trees: list[RolloutTree], *, is_off_policy: bool) -> Tensor:
    """Two updates, tree by tree, with the log-probs from before both, or with each update's own; the weights they lead to."""
    config = trainer._config
    optimizer = build_optimizer(model, config.optimizer)
    batches: list[tuple[list[PolicyBatch], float]] = []
    for tree in trees:
        denominator = assign_credit([tree], config.advantage, config.loss)
        batches.append((make_policy_batches([tree], config.max_batch_tokens), denominator))
    old = [old_logprobs(model, batch, 1.0) if is_off_policy else None for batch, _ in batches]
    for (batch, denominator), before in zip(batches, old, strict=True):
        accumulate_gradients(model, batch, before, denominator, config.loss, 1.0, UpdateTotals())
        take_update(optimizer, config.optimizer.learning_rate, config.optimizer.max_grad_norm)
    return parameters(model)


def test_several_updates_compare_with_the_weights_before_the_first(make_trainer: MakeTrainer, make_tree):
    values: dict[str, Any] = {"updates_per_step": 2, "loss": {"clip_low": 0.01, "clip_high": 0.01}}
    trainer = make_trainer(**values)
    copies = [copy.deepcopy(trainer._model) for _ in range(2)]
    passes = count_passes(trainer._model)

    def trees() -> list[RolloutTree]:
        return [make_tree((1.0, 0.0, 0.5)), make_tree((0.0, 1.0, 0.5), name="u")]

    metrics = trainer._update(trees())
    assert len(passes) == 4, "two for the log-probs before, two to train"
    assert trainer.state.update == 2
    off_policy = replay(trainer, copies[0], trees(), is_off_policy=True)
    on_policy = replay(trainer, copies[1], trees(), is_off_policy=False)
    assert torch.equal(parameters(trainer._model), off_policy)
    assert not torch.allclose(off_policy, on_policy, atol=1e-4)
    assert metrics["train/clip_fraction_low"] + metrics["train/clip_fraction_high"] > 0, "the second update leaves the bounds"


def test_as_many_updates_as_configured_whatever_the_number_of_trees(make_trainer: MakeTrainer, make_tree):
    """4 trees in 3 updates: 1, 1 and 2."""
    trainer = make_trainer(updates_per_step=3, tasks_per_step=4)
    trainer._update([make_tree((1.0, 0.0, 0.5), name=str(i)) for i in range(4)])
    assert trainer.state.update == 3
