import copy
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.errors import CheckpointError
from arpo.models.config import LoraConfig, TrainedModelConfig
from arpo.models.loading import load_policy, load_trained_policy, save_policy
from arpo.models.lora import adapter_off
from arpo.training import checkpoint
from arpo.training.checkpoint import Checkpoints, TrainerState
from arpo.training.config import OptimizerConfig
from arpo.training.optimizer import build_optimizer


@pytest.fixture
def model(policy: Path) -> PreTrainedModel:
    return load_policy(policy)


def train_a_step(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def files(folder: Path) -> list[Path]:
    return sorted(p.relative_to(folder) for p in folder.rglob("*"))


def save(model: PreTrainedModel, tokenizer_source: Path, folder: Path) -> Path:
    save_policy(model, tokenizer_source, folder)
    return folder


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def test_training_goes_on_exactly_where_it_was_saved(model: PreTrainedModel, policy: Path, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, policy, keep=1)
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=1e-2))
    train_a_step(model, optimizer)
    state = TrainerState(step=7, update=14, position=29, best_step=3, best_accuracy=0.1 + 0.2)
    folder = checkpoints.save(model, optimizer, state)
    train_a_step(model, optimizer)

    other = load_policy(policy)
    other_optimizer = build_optimizer(other, OptimizerConfig(learning_rate=1e-2))
    assert checkpoints.newest() == folder
    assert checkpoints.load(folder, other, other_optimizer) == state
    train_a_step(other, other_optimizer)
    expected = weights(model)
    assert all(torch.equal(value, expected[name]) for name, value in weights(other).items())


def test_a_link_is_a_model_directory_and_nothing_else(model: PreTrainedModel, policy: Path, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, policy, keep=1)
    checkpoints.save(model, build_optimizer(model, OptimizerConfig()), TrainerState(step=1))
    checkpoints.link("final", 1)
    assert os.readlink(tmp_path / "final") == "checkpoints/step_000001/model", "a moved run keeps its links"
    expected = weights(model)
    assert all(torch.equal(value, expected[name]) for name, value in weights(load_policy(tmp_path / "final")).items())
    assert (tmp_path / "final" / "tokenizer.json").read_bytes() == (policy / "tokenizer.json").read_bytes()
    assert files(tmp_path / "final") == files(save(model, policy, tmp_path / "alone"))


def test_the_newest_and_the_best_are_kept(model: PreTrainedModel, policy: Path, tmp_path: Path):
    checkpoints, optimizer = Checkpoints(tmp_path, policy, keep=2), build_optimizer(model, OptimizerConfig())
    kept = []
    for step, best in ((9, None), (10, 10), (11, 10), (12, 10), (13, 13), (14, 13)):
        checkpoints.save(model, optimizer, TrainerState(step=step, best_step=best))
        kept.append(sorted(int(p.name[5:]) for p in (tmp_path / "checkpoints").iterdir()))
    assert kept == [[9], [9, 10], [10, 11], [10, 11, 12], [12, 13], [13, 14]]


def test_what_a_kill_left_is_no_checkpoint_and_goes_with_the_next(model: PreTrainedModel, policy: Path, tmp_path: Path):
    checkpoints, optimizer = Checkpoints(tmp_path, policy, keep=2), build_optimizer(model, OptimizerConfig())
    assert checkpoints.newest() is None
    whole = checkpoints.save(model, optimizer, TrainerState(step=1))
    shutil.copytree(whole, whole.with_name("step_000002.partial"))
    shutil.copytree(whole, whole.with_name("step_000003"))
    (whole.with_name("step_000003") / "trainer" / "trainer_state.json").unlink()
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    assert checkpoints.newest() == whole
    checkpoints.save(model, optimizer, TrainerState(step=4))
    assert sorted(p.name for p in whole.parent.iterdir()) == ["notes.txt", "step_000001", "step_000004"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_save_that_fails_leaves_the_former_checkpoint_of_its_step(
    model: PreTrainedModel, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
):
    checkpoints, optimizer = Checkpoints(tmp_path, policy, keep=1), build_optimizer(model, OptimizerConfig())
    state = TrainerState(step=1, update=3)
    whole = checkpoints.save(model, optimizer, state)

    def save(_model: object, _optimizer: object, folder: Path, _world: object) -> None:
        folder.mkdir()
        (folder / "__0_0.distcp").write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_optimizer", save)
    with pytest.raises(CheckpointError if error is OSError else error):
        checkpoints.save(model, optimizer, TrainerState(step=1, update=9))
    assert [p.name for p in whole.parent.iterdir()] == ["step_000001"]
    assert checkpoints.load(whole, model, optimizer) == state


def test_a_link_is_replaced_and_survives_an_interrupted_one(tmp_path: Path, policy: Path):
    checkpoints = Checkpoints(tmp_path, policy, keep=1)
    checkpoints.link("best", 1)
    (tmp_path / "best.partial").symlink_to("nowhere")
    checkpoints.link("best", 2)
    assert os.readlink(tmp_path / "best") == "checkpoints/step_000002/model"
    assert not (tmp_path / "best.partial").is_symlink()


@pytest.mark.parametrize("name", ["optimizer/__0_0.distcp", "optimizer/.metadata", "trainer_state.json"])
def test_a_damaged_checkpoint_is_named(model: PreTrainedModel, policy: Path, tmp_path: Path, name: str):
    checkpoints, optimizer = Checkpoints(tmp_path, policy, keep=1), build_optimizer(model, OptimizerConfig())
    folder = checkpoints.save(model, optimizer, TrainerState(step=1))
    file = folder / "trainer" / name
    file.write_bytes(file.read_bytes()[: -1 - file.stat().st_size // 4])
    with pytest.raises(CheckpointError, match=rf"{folder}: cannot read this checkpoint .* remove it"):
        checkpoints.load(folder, model, optimizer)


def test_weights_of_another_model(model: PreTrainedModel, policy: Path, tmp_path: Path):
    checkpoints, optimizer = Checkpoints(tmp_path, policy, keep=1), build_optimizer(model, OptimizerConfig())
    model.model.norm.requires_grad_(False)
    folder = checkpoints.save(model, build_optimizer(model, OptimizerConfig()), TrainerState(step=1))
    with pytest.raises(CheckpointError, match=r"trained weights do not fit the model: 'model.norm.weight' has shape None in"):
        checkpoints.load(folder, model, optimizer)


def test_a_checkpoint_of_an_earlier_version_says_so(model: PreTrainedModel, policy: Path, tmp_path: Path):
    checkpoints, optimizer = Checkpoints(tmp_path, policy, keep=1), build_optimizer(model, OptimizerConfig())
    folder = checkpoints.save(model, optimizer, TrainerState(step=1))
    torch.save(optimizer.state_dict(), folder / "trainer" / "optimizer.pt")
    with pytest.raises(CheckpointError, match=r"earlier version of arpo .*optimizer.pt.*start a new run from .*/model as"):
        checkpoints.load(folder, model, optimizer)


def test_nothing_of_a_foreign_index_runs(model: PreTrainedModel, policy: Path, tmp_path: Path):
    class Attack:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    checkpoints, optimizer = Checkpoints(tmp_path, policy, keep=1), build_optimizer(model, OptimizerConfig())
    folder = checkpoints.save(model, optimizer, TrainerState(step=1))
    (folder / "trainer" / "optimizer" / ".metadata").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(CheckpointError, match=r"cannot read this checkpoint \(its index names posix.mkdir"):
        checkpoints.load(folder, model, optimizer)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def adapted(policy: Path) -> PreTrainedModel:
    pytest.importorskip("peft")
    return load_trained_policy(TrainedModelConfig(path=policy, lora=LoraConfig(rank=2)), seed=0)


def train_the_adapter(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in [p for p in model.parameters() if p.requires_grad]:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(9).unsqueeze(0)).logits


def test_an_adapter_goes_on_exactly_where_it_was_saved(adapted: PreTrainedModel, policy: Path, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, policy, keep=1)
    optimizer = build_optimizer(adapted, OptimizerConfig(learning_rate=1e-2))
    train_the_adapter(adapted, optimizer)
    folder = checkpoints.save(adapted, optimizer, TrainerState(step=1), as_model=False)
    assert sorted(p.name for p in folder.iterdir()) == ["adapter", "trainer"]
    train_the_adapter(adapted, optimizer)

    other = load_trained_policy(TrainedModelConfig(path=policy, lora=LoraConfig(rank=2)), seed=1)
    other_optimizer = build_optimizer(other, OptimizerConfig(learning_rate=1e-2))
    checkpoints.load(folder, other, other_optimizer)
    train_the_adapter(other, other_optimizer)
    expected = weights(adapted)
    assert all(torch.equal(value, expected[name]) for name, value in weights(other).items())


def test_the_checkpoint_of_an_adapter_is_a_model_directory_where_it_is_asked_for(
    adapted: PreTrainedModel, policy: Path, tmp_path: Path
):
    checkpoints = Checkpoints(tmp_path, policy, keep=1)
    optimizer = build_optimizer(adapted, OptimizerConfig(learning_rate=0.02))
    train_the_adapter(adapted, optimizer)
    checkpoints.save(adapted, optimizer, TrainerState(step=1))
    checkpoints.link("final", 1)
    merged = load_policy(tmp_path / "final")
    assert torch.allclose(logits(merged), logits(adapted), atol=1e-4)
    with adapter_off(adapted):
        assert not torch.allclose(logits(merged), logits(adapted), atol=1e-2)
    assert files(tmp_path / "final") == files(save(adapted, policy, tmp_path / "alone")), "the merged model and nothing else"
    assert (tmp_path / "checkpoints" / "step_000001" / "adapter" / "adapter_config.json").is_file()


def test_an_adapter_of_another_rank_is_refused(adapted: PreTrainedModel, policy: Path, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, policy, keep=1)
    folder = checkpoints.save(adapted, build_optimizer(adapted, OptimizerConfig()), TrainerState(step=1), as_model=False)
    other = load_trained_policy(TrainedModelConfig(path=policy, lora=LoraConfig(rank=3)), seed=0)
    with pytest.raises(
        CheckpointError,
        match=rf"{folder}: cannot read .* trained weights do not fit .* set model.path and model.lora as",
    ):
        checkpoints.load(folder, other, build_optimizer(other, OptimizerConfig()))


@pytest.mark.parametrize(
    ("saved_in", "loaded_in"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")]
)
def test_a_run_goes_on_in_the_number_format_it_began_with(policy: Path, tmp_path: Path, saved_in: str, loaded_in: str):
    checkpoints = Checkpoints(tmp_path, policy, keep=1)
    model, other = load_policy(policy, saved_in), load_policy(policy, loaded_in)
    optimizer, other_optimizer = (build_optimizer(m, OptimizerConfig(learning_rate=1e-4)) for m in (model, other))
    for parameter in [p for group in optimizer.param_groups for p in group["params"]]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    folder = checkpoints.save(model, optimizer, TrainerState(step=1))
    if saved_in != loaded_in:
        message = rf"step_000001: was trained in {saved_in}.* model.dtype = '{loaded_in}' now; .* as model.path"
        with pytest.raises(CheckpointError, match=message):
            checkpoints.load(folder, other, other_optimizer)
        return
    checkpoints.load(folder, other, other_optimizer)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(optimizer.masters, other_optimizer.masters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert next(other.parameters()).dtype == torch.bfloat16
    assert '"dtype": "bfloat16"' in (folder / "model" / "config.json").read_text(), "the directory is in model.dtype"
