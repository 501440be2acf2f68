"""Checkpoints: all that a run needs to go on, and the policy as a Hugging Face directory.

    <run>/checkpoints/step_000040/model     the policy; with an adapter merged, and where `best` or `final` need it only
    <run>/checkpoints/step_000040/adapter   the adapter, if any, as peft writes it
    <run>/checkpoints/step_000040/trainer   optimizer and `TrainerState`
    <run>/best, <run>/final                 links to `model`: a model and nothing else, which every command takes

A checkpoint is written whole or not at all, so a kill or a full disk leaves the former ones untouched.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from arpo.errors import CheckpointError
from arpo.files.whole import whole
from arpo.models.loading import write_policy
from arpo.models.lora import has_adapter, load_adapter, save_adapter
from arpo.models.shards import load_weights
from arpo.tracking.run_directory import how_to_go_on
from arpo.training.optimizer import MasterAdamW

MODEL_FOLDER = "model"
ADAPTER_FOLDER = "adapter"
_STATE_FILE = "trainer/trainer_state.json"
_OPTIMIZER_FILE = "trainer/optimizer.pt"


@dataclass(slots=True, kw_only=True)
class TrainerState:
    """The state of a run besides weights and optimizer; every random stream derives from the seed and the step."""

    step: int = 0
    """Finished steps."""
    update: int = 0
    """Finished optimizer updates, empty and skipped ones included."""
    skipped_updates: int = 0
    """Latest updates in a row that were skipped, as their gradient was not finite."""
    position: int = 0
    """Tasks passed in the task order."""
    tasks_digest: str = ""
    """Digest of the tasks that `position` counts; empty before the first step."""
    streaks: dict[str, int] = field(default_factory=dict[str, int])
    """Task id -> its latest groups without signal in a row, while tasks are filtered: above 0 solved, below 0 unsolved."""
    filtered: list[str] = field(default_factory=list[str])
    """Ids of the filtered tasks, in the order of filtering."""
    outcomes: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Task id -> its groups so far, and how many of them had right and wrong answers, where the branch rule plans by them."""
    best_step: int | None = None
    """Step of the best validation; None before the first."""
    best_accuracy: float | None = None
    """Accuracy of the best validation; None in SFT, and where no answer is graded."""
    best_reward: float | None = None
    """Mean reward of the best validation where no answer is graded; None elsewhere."""
    best_loss: float | None = None
    """Loss of the best validation, nats per trained token; None in reinforcement learning."""
    seconds: float = 0.0
    """Seconds of updates and validations so far, of SFT alone, whose schedule may follow them."""
    conversations_digest: str = ""
    """Digest of the conversations that SFT trains on and holds out; empty in reinforcement learning."""

    def is_due(self, every: int, num_steps: int) -> bool:
        """Whether this step is a multiple of `every`, or the last of `num_steps`."""
        return self.step % every == 0 or self.step == num_steps

    def require_tasks(self, checkpoint: Path, digest: str) -> None:
        """Raise when the tasks are not those that `position` counts.

        Raises:
            CheckpointError: `digest`, of the present tasks, is not that of the tasks of `checkpoint`.
        """
        if self.tasks_digest not in ("", digest):
            raise CheckpointError(
                f"{checkpoint}: was trained on other tasks than those of `tasks` now, so its position among them "
                f"({self.position}) is wrong; restore the former file, or start a new run from {checkpoint / MODEL_FOLDER} as "
                f"model.path"
            )


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, run: Path, tokenizer_source: Path, keep: int):
        """Checkpoints below `run`, with the tokenizer files of `tokenizer_source`, keeping the newest `keep` and the best."""
        self._run = run
        self._folder = run / "checkpoints"
        self._tokenizer_source = tokenizer_source
        self._keep = keep

    def save(
        self, model: PreTrainedModel, optimizer: torch.optim.Optimizer, state: TrainerState, *, as_model: bool = True
    ) -> Path:
        """Write the checkpoint of `state.step`, then prune the others; return its folder.

        Args:
            model: The policy.
            optimizer: Of its trained parameters.
            state: Of the run.
            as_model: False writes the adapter alone where there is one, which is enough to go on.

        Raises:
            CheckpointError: the checkpoint could not be written, e.g. for lack of space; the former ones are whole.
        """
        target = self._folder / f"step_{state.step:06d}"
        try:
            with whole(target) as partial:
                if as_model or not has_adapter(model):
                    write_policy(model, self._tokenizer_source, partial / MODEL_FOLDER)
                if has_adapter(model):
                    save_adapter(model, partial / ADAPTER_FOLDER)
                (partial / _STATE_FILE).parent.mkdir(parents=True)
                torch.save(optimizer.state_dict(), partial / _OPTIMIZER_FILE)
                (partial / _STATE_FILE).write_text(json.dumps(asdict(state)), encoding="utf-8")
        except (OSError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"{target}: could not be written ({error}); the newest whole checkpoint is {self.newest() or 'none'}. "
                f"Free some space, then {how_to_go_on(self._run)}"
            ) from error
        self.prune(state)
        return target

    def newest(self) -> Path | None:
        """The whole checkpoint of the latest step; None when there is none."""
        return max(self._whole(), default=None)

    def load(self, folder: Path, model: PreTrainedModel, optimizer: MasterAdamW) -> TrainerState:
        """Load model and optimizer from `folder`; return the state.

        Raises:
            CheckpointError: a file is missing or unreadable, or was saved with master weights and the model has none, or the
                reverse.
        """
        try:
            state = TrainerState(**json.loads((folder / _STATE_FILE).read_text(encoding="utf-8")))
            if has_adapter(model):
                load_adapter(model, folder / ADAPTER_FOLDER)
            else:
                load_weights(model, folder / MODEL_FOLDER)
            optimizer_state = torch.load(folder / _OPTIMIZER_FILE, map_location="cpu", weights_only=True)
            _require_masters(folder, len(optimizer_state.get("masters", ())), len(optimizer.masters), model.dtype)
            optimizer.load_state_dict(optimizer_state)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{folder}: cannot read this checkpoint ({error}); remove it to resume an earlier one"
            ) from error
        return state

    def link(self, name: str, step: int) -> None:
        """Point `<run>/<name>` at the model of the checkpoint of `step`, atomically."""
        with whole(self._run / name) as partial:
            partial.symlink_to(Path("checkpoints") / f"step_{step:06d}" / MODEL_FOLDER)

    def _whole(self) -> list[Path]:
        return sorted(p.parents[1] for p in self._folder.glob(f"step_*[0-9]/{_STATE_FILE}"))

    def prune(self, state: TrainerState) -> None:
        """Remove all but the newest and the best checkpoints, and what a kill left half written or half removed."""
        retained = {*self._whole()[-self._keep :], self._folder / f"step_{state.best_step or 0:06d}"}
        for folder in set(self._folder.glob("step_*")) - retained:
            (folder / _STATE_FILE).unlink(missing_ok=True)  # without it the folder is no checkpoint, should a kill come now
            shutil.rmtree(folder)


def _require_masters(folder: Path, num_saved: int, num_needed: int, dtype: torch.dtype) -> None:
    if num_saved != num_needed:
        saved = "bfloat16, with float32 masters" if num_saved else "float32 or float64, without masters"
        raise CheckpointError(
            f"{folder}: was trained in full in {saved} of its weights, but model.dtype = {str(dtype).removeprefix('torch.')!r} "
            f"now; a run goes on in the number format it began with, so set model.dtype as it was, or start a new run from "
            f"{folder / MODEL_FOLDER} as model.path"
        )
