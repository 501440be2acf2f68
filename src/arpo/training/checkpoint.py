"""Checkpoints: all that a run needs to go on, and the policy as a Hugging Face directory.

    <run>/checkpoints/step_000040/model     the policy; with an adapter merged, and where `best` or `final` need it only
    <run>/checkpoints/step_000040/adapter   the adapter, if any, as peft writes it
    <run>/checkpoints/step_000040/trainer   trained weights, moments (`optimizer_file`) and `TrainerState`
    <run>/best, <run>/final                 links to `model`: a model and nothing else, which every command takes

A checkpoint is written whole or not at all, so a kill or a full disk leaves the former ones untouched. A run goes on from
`trainer` alone, on any number of ranks; `model` and `adapter` are for everything else.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel

from arpo.distributed.sharding import UNSHARDED, Sharding
from arpo.distributed.world import ALONE, World, is_lost_rank
from arpo.errors import CheckpointError
from arpo.files.whole import partial_path, whole
from arpo.models.loading import write_policy
from arpo.models.lora import has_adapter, merged_weights, save_adapter
from arpo.tracking.run_directory import how_to_go_on
from arpo.training.optimizer import MasterAdamW
from arpo.training.optimizer_file import load_optimizer, save_optimizer

MODEL_FOLDER = "model"
ADAPTER_FOLDER = "adapter"
_STATE_FILE = "trainer/trainer_state.json"
_OPTIMIZER_FOLDER = "trainer/optimizer"
_FORMER_FILE = "trainer/optimizer.pt"


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
    """The checkpoints of one run. Every rank calls `save` and `load`; the first one writes all but the others' parts."""

    def __init__(self, run: Path, tokenizer_source: Path, keep: int, world: World = ALONE):
        """Checkpoints below `run`, with the tokenizer files of `tokenizer_source`, keeping the newest `keep` and the best."""
        self._run = run
        self._folder = run / "checkpoints"
        self._tokenizer_source = tokenizer_source
        self._keep = keep
        self._world = world

    def save(
        self,
        model: PreTrainedModel,
        optimizer: MasterAdamW,
        state: TrainerState,
        sharding: Sharding = UNSHARDED,
        *,
        as_model: bool = True,
    ) -> Path:
        """Write the checkpoint of `state.step`, then prune the others; return its folder.

        Args:
            model: The policy, gathered.
            optimizer: Of its trained parameters.
            state: Of the run.
            sharding: Of the policy over ranks.
            as_model: False writes the adapter alone where there is one, which is enough to go on.

        Raises:
            CheckpointError: the checkpoint could not be written, e.g. for lack of space; the former ones are whole.
        """
        target = self._folder / f"step_{state.step:06d}"
        try:
            with self._whole(target) as partial:
                if self._world.is_main:
                    self._write_model(model, sharding, partial, as_model=as_model)
                    (partial / _STATE_FILE).parent.mkdir(parents=True)
                    content = asdict(state) | {"dtype": _format_of(model)}
                    (partial / _STATE_FILE).write_text(json.dumps(content), encoding="utf-8")
                self._world.wait()  # until the folder is there
                with sharding.scattered():
                    save_optimizer(model, optimizer, partial / _OPTIMIZER_FOLDER, self._world)
        except (OSError, RuntimeError, SafetensorError) as error:
            if is_lost_rank(error):
                raise
            raise CheckpointError(
                f"{target}: could not be written ({error}); the newest whole checkpoint is {self.newest() or 'none'}. "
                f"Free some space, then {how_to_go_on(self._run)}"
            ) from error
        self.prune(state)
        return target

    @contextmanager
    def _whole(self, target: Path) -> Iterator[Path]:
        """As `files.whole` on the first rank, which waits for the others before the folder replaces `target`."""
        with whole(target) if self._world.is_main else nullcontext(partial_path(target)) as partial:
            yield partial
            self._world.wait()

    def _write_model(self, model: PreTrainedModel, sharding: Sharding, folder: Path, *, as_model: bool) -> None:
        if as_model or not has_adapter(model):
            # FSDP scatters the weights when it is asked for a state dictionary, which one rank alone cannot
            weights = dict(merged_weights(model)) if sharding.modules else None
            write_policy(model, self._tokenizer_source, folder / MODEL_FOLDER, weights=weights)
        if has_adapter(model):
            save_adapter(model, folder / ADAPTER_FOLDER)

    def newest(self) -> Path | None:
        """The whole checkpoint of the latest step; None when there is none."""
        return max(self._all(), default=None)

    def load(
        self, folder: Path, model: PreTrainedModel, optimizer: MasterAdamW, sharding: Sharding = UNSHARDED
    ) -> TrainerState:
        """Load the trained weights and the optimizer from `folder`; return the state.

        Raises:
            CheckpointError: a file is missing or unreadable; or the model has another number format or other trained weights
                than it was saved with.
        """
        if (folder / _FORMER_FILE).is_file():
            raise CheckpointError(
                f"{folder}: was written by an earlier version of arpo ({_FORMER_FILE}), whose training this one cannot resume; "
                f"start a new run from {folder / MODEL_FOLDER} as model.path, or finish this one with that version"
            )
        try:
            content = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))
            _require_format(folder, content.pop("dtype"), _format_of(model))
            state = TrainerState(**content)
            with sharding.scattered():
                load_optimizer(model, optimizer, folder / _OPTIMIZER_FOLDER, self._world)
        except Exception as error:
            if is_lost_rank(error) or (isinstance(error, CheckpointError) and str(error).startswith(str(folder))):
                raise
            raise CheckpointError(
                f"{folder}: cannot read this checkpoint ({error}); remove it to resume an earlier one"
            ) from error
        return state

    def link(self, name: str, step: int) -> None:
        """Point `<run>/<name>` at the model of the checkpoint of `step`, atomically."""
        if not self._world.is_main:
            return
        with whole(self._run / name) as partial:
            partial.symlink_to(Path("checkpoints") / f"step_{step:06d}" / MODEL_FOLDER)

    def _all(self) -> list[Path]:
        return sorted(p.parents[1] for p in self._folder.glob(f"step_*[0-9]/{_STATE_FILE}"))

    def prune(self, state: TrainerState) -> None:
        """Remove all but the newest and the best checkpoints, and what a kill left half written or half removed."""
        if not self._world.is_main:
            return
        retained = {*self._all()[-self._keep :], self._folder / f"step_{state.best_step or 0:06d}"}
        for folder in set(self._folder.glob("step_*")) - retained:
            (folder / _STATE_FILE).unlink(missing_ok=True)  # without it the folder is no checkpoint, should a kill come now
            shutil.rmtree(folder)


def _format_of(model: PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _require_format(folder: Path, saved: str, needed: str) -> None:
    if saved != needed:
        raise CheckpointError(
            f"{folder}: was trained in {saved}, but model.dtype = {needed!r} now; a run goes on in the number format it began "
            f"with, so set model.dtype as it was, or start a new run from {folder / MODEL_FOLDER} as model.path"
        )
