"""Supervised training on conversations, the cold start. The loss mask excludes prompts and tool results."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from arpo.batching.packing import PackNode, pack_trees
from arpo.config import dump_config
from arpo.distributed.assignment import share_packs
from arpo.distributed.sharding import load_sharded
from arpo.distributed.world import ALONE, World, open_world, rank_device
from arpo.errors import ConfigError
from arpo.functions.run_functions import FunctionFiles, RunFunctions
from arpo.models.device import settle_device
from arpo.models.policy import PolicyModel
from arpo.models.source import find_run_model
from arpo.protocols.encoding import PolicyTokenizer
from arpo.tracking import Tracker, read_metrics
from arpo.tracking.console import shown_progress
from arpo.tracking.progress import Phase, Progress
from arpo.tracking.run_directory import RunDirectory, how_to_go_on, name_full_disk
from arpo.training.checkpoint import Checkpoints, TrainerState
from arpo.training.config import SftRun
from arpo.training.interruption import delayed_interrupt
from arpo.training.memory_check import require_memory
from arpo.training.on_step import OnStep, StepReport, check_callback
from arpo.training.optimizer import SkippedUpdates, build_optimizer, optimizer_step, scheduled_rate
from arpo.training.resumption import go_on
from arpo.training.sft_data import epochs, read_sft_data, require_same_data, split


def train_sft(
    config: SftRun,
    progress: Progress | None = None,
    resume: bool = False,
    *,
    on_step: OnStep | None = None,
    functions: FunctionFiles = "same",
) -> dict[str, Any]:
    """Train on the conversations; return the summary, as in `<out>/summary.json`. The model is `<out>/final`.

    Under torchrun every process calls it: they train one model together, as one process would; rank 0 writes the run and
    returns the summary, the others an empty one.

    Args:
        config: The run; with `resume`, that of the run directory, changed in nothing but what `go_on` allows.
        progress: Receives the phases; None shows them on standard error, `arpo.SilentProgress()` nowhere.
        resume: Go on from the newest checkpoint in `config.out`, or from the start when there is none yet. On a CPU the result
            is bit-identical to a run that was never stopped, unless `max_seconds` ended it.
        on_step: Called after each update on the first rank, once it is logged and its checkpoint is written; what it raises
            ends the run.
        functions: Where a resumed run takes the functions from that its configuration names.

    Raises:
        ConfigError: with `resume`, as `go_on`; `batch_tokens` or `batching.max_tokens` is below the longest conversation; the
            schedule ends at a rate of 0 before the run; or the device is not here, or has less memory than training the model
            takes.
        DataError: a file cannot be read, or leaves no conversation to train on or to hold out.
        RunError: the run directory is in use, or holds a run and `resume` is False; a resumed run's functions have changed; the
            disk is full; or another rank was lost.
        TrainingError: ten updates in a row had a gradient that is not finite.
        ModelError, CheckpointError: as their messages say.
        KeyboardInterrupt: Ctrl-C; the update was finished and a checkpoint written.
    """
    progress = progress or shown_progress()
    if resume:
        config = go_on(config, progress.line)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    config = config.model_copy(update={"model": settle_device(config.model, progress.line)})
    require_memory(config, progress.line)
    check_callback(on_step)
    own = RunFunctions(config, resume=resume, files=functions)
    with (
        open_world(config.distributed, config.model.device, lambda: how_to_go_on(config.out)) as world,
        name_full_disk(config.out),
        world.main_first(lambda: RunDirectory.open(config.out, "sft") if resume else RunDirectory.create(config.out)) as run,
    ):
        recorded, local = world.main_first(lambda: find_run_model(config.model, progress))
        local = local.model_copy(update={"device": rank_device(local.device)})
        local_run = config.model_copy(update={"model": local})
        if not recorded.path.is_dir():  # it came from the hub or a GGUF file just now
            require_memory(local_run, progress.line)
        trainer = SftTrainer(own.in_force(local_run), run, progress, on_step, world)
        if world.is_main:
            own.keep()
        run.write_text(
            "config.toml", dump_config(config.model_copy(update={"model": recorded}))
        )  # again on resume: it may have got more epochs
        return trainer.train()


class SftTrainer:
    """One supervised run: its conversations, policy, optimizer and checkpoints; a step is an update."""

    def __init__(self, config: SftRun, run: RunDirectory, progress: Progress, on_step: OnStep | None, world: World = ALONE):
        self.state = TrainerState()
        self._config = config
        self._run = run
        self._progress = progress
        self._on_step = on_step
        self._world = world
        tokenizer = PolicyTokenizer.load(config.model.path)
        self._data = read_sft_data(config, tokenizer, progress)  # before the model: its faults are found sooner
        self._batches = list(epochs(self._data.training, config))
        self._require_rates()
        needs_layout = config.batching.packing == "tree"
        self._policy, self._sharding = load_sharded(config.model, config.seed, world, needs_layout=needs_layout)
        self._optimizer = build_optimizer(self._policy, config.optimizer, config.model.path)
        self._checkpoints = Checkpoints(run.path, config.model.path, config.checkpoint.keep, world)
        with self._sharding.gathered():
            self._resume()
        self._skipped = SkippedUpdates(self.state.skipped_updates)
        self._tracker = Tracker(run.path, config.tracking, config.model_dump(mode="json"))

    def _require_rates(self) -> None:
        """Refuse updates after the end of a schedule that ends at a rate of 0."""
        end, fraction = self._config.optimizer.schedule_steps, self._config.optimizer.final_fraction
        if end is not None and end < len(self._batches) and fraction == 0:
            raise ConfigError(
                f"optimizer.schedule_steps = {end} with optimizer.final_fraction = 0: the learning rate is 0 after update "
                f"{end}, but the run has {len(self._batches)} updates; raise one of them, or lower num_epochs"
            )

    def _resume(self) -> None:
        """Go to the newest checkpoint of the run directory, if it holds one."""
        newest = self._checkpoints.newest()
        if newest is None:
            self.state.conversations_digest = self._data.digest()
            return
        self.state = self._checkpoints.load(newest, self._policy.network, self._optimizer, self._sharding)
        require_same_data(self._data, self.state.conversations_digest, newest)
        if self.state.step > len(self._batches):
            raise ConfigError(
                f"num_epochs = {self._config.num_epochs}: it has {len(self._batches)} updates, and {self.state.step} are made; "
                f"raise it"
            )
        self._point_links()
        self._checkpoints.prune(self.state)
        left = f"resuming after update {self.state.step} of {len(self._batches)}"
        if self._is_finished:
            left = (
                f"update {self.state.step} is the last: nothing is left to do; `arpo sft --resume RUN` trains longer with "
                f"--num_epochs=N or --max_seconds=S, under a constant schedule or one with optimizer.schedule_steps"
            )
        self._progress.line(left)

    def train(self) -> dict[str, Any]:
        """Make the updates that are left; return the summary."""
        config, total = self._config, len(self._batches)
        left_s = None if config.max_seconds is None else config.max_seconds - self.state.seconds
        with (
            self._tracker,
            self._progress.phase("sft", total, "update", self.state.step, max_seconds=left_s) as phase,
            delayed_interrupt() as interruption,
        ):
            self._tracker.truncate_after(self.state.step)
            while not self._is_finished:
                metrics = self._step(phase)
                must_stop = self._world.any(interruption.is_wanted) and not self._is_finished
                self._checkpoint(must_stop)
                if self._on_step is not None and self._world.is_main:
                    self._on_step(StepReport(step=self.state.step, num_steps=total, metrics=metrics))
                if must_stop:
                    raise KeyboardInterrupt(how_to_go_on(self._run.path))
        if not self._world.is_main:
            return {}
        summary = self._summarize()
        self._run.write_json("summary.json", summary)
        return summary

    @property
    def _is_finished(self) -> bool:
        """Whether the last update was made, or the time is over."""
        limit = self._config.max_seconds
        return self.state.step >= len(self._batches) or (limit is not None and self.state.seconds >= limit)

    def _step(self, phase: Phase) -> dict[str, float]:
        """The next update, and a validation where it is due; returns the metrics."""
        config, state, started = self._config, self.state, time.perf_counter()
        batch = self._batches[state.step]
        end = config.optimizer.schedule_steps or len(self._batches)
        rate = _rate(config, state.step, end, state.seconds)
        metrics = _update(self._policy, self._optimizer, batch, rate, config, self._skipped, self._world)
        state.step = state.update = state.step + 1
        state.skipped_updates = self._skipped.num_in_a_row
        seconds = self._world.from_main(time.perf_counter() - started)  # of one clock, as the schedule may follow it
        state.seconds += seconds
        metrics["sft/epoch"] = state.step / len(self._batches) * config.num_epochs
        metrics["sft/tokens_per_s"] = sum(len(c.token_ids) for c in batch) / seconds
        metrics["time/step_s"] = seconds
        metrics |= self._validate_if_due()
        self._tracker.log(state.step, metrics)
        fields = {"loss": metrics["sft/loss"], "accuracy": metrics["sft/token_accuracy"]}
        fields |= {"valid": metrics["valid/loss"]} if "valid/loss" in metrics else {}
        phase.advance(1, **{name: round(value, 4) for name, value in fields.items()})
        return metrics

    def _validate_if_due(self) -> dict[str, float]:
        """The `valid/` metrics where a validation is due, else none; updates the best step and the time in the state."""
        config, state = self._config.validation, self.state
        if config is None or not (state.step % config.every == 0 or self._is_finished):
            return {}
        started = time.perf_counter()
        loss, accuracy = _measure(self._policy, self._data.validation, self._config.batching.max_tokens, self._world)
        if state.best_loss is None or loss < state.best_loss:
            state.best_step, state.best_loss = state.step, loss
        seconds = self._world.from_main(time.perf_counter() - started)
        state.seconds += seconds
        return {"valid/loss": loss, "valid/token_accuracy": accuracy, "time/validate_s": seconds}

    def _checkpoint(self, must_write: bool) -> None:
        """Write a checkpoint when one is due, after the last update, after the best validation, and when it must be."""
        state = self.state
        is_due = state.step % self._config.checkpoint.every == 0 or self._is_finished or state.best_step == state.step
        if is_due or must_write:
            is_linked = self._is_finished or state.step == self._best_step
            with self._sharding.gathered():
                self._checkpoints.save(self._policy.network, self._optimizer, state, self._sharding, as_model=is_linked)
            self._point_links()

    def _point_links(self) -> None:
        """Point `best` and `final` at their checkpoints; again on resumption, as a kill may have come between."""
        if self._best_step is not None:
            self._checkpoints.link("best", self._best_step)
        if self._is_finished:
            self._checkpoints.link("final", self.state.step)

    @property
    def _best_step(self) -> int | None:
        """The newest checkpoint counts as the best where nothing is validated."""
        return self.state.best_step if self._config.validation is not None else self.state.step

    def _summarize(self) -> dict[str, Any]:
        """The content of `summary.json`, from state and metrics, so a resumed run counts as one."""
        state, rows = self.state, read_metrics(self._run.path)
        validate_s = sum(row.get("time/validate_s", 0.0) for row in rows)
        return {
            "num_conversations": len(self._data.training),
            "num_validation": len(self._data.validation),
            "num_left_out": self._data.num_left_out,
            "num_updates": state.update,
            "num_tokens": sum(len(c.token_ids) for batch in self._batches[: state.step] for c in batch),
            "epochs": state.update / len(self._batches) * self._config.num_epochs,
            "loss": rows[-1]["sft/loss"],
            "best_step": self._best_step or state.step,
            "best_loss": state.best_loss,
            "seconds": {"sft": state.seconds - validate_s, "validate": validate_s, "total": state.seconds},
        }


def _rate(config: SftRun, update: int, num_updates: int, seconds: float) -> float:
    """The scheduled rate; under a time limit the schedule follows the further of updates and time."""
    if config.max_seconds is not None and update >= config.optimizer.warmup_steps:
        update = max(update, int(num_updates * seconds / config.max_seconds))
    return scheduled_rate(config.optimizer, update, num_updates)


def _update(
    policy: PolicyModel,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[PackNode],
    rate: float,
    config: SftRun,
    skipped: SkippedUpdates,
    world: World,
) -> dict[str, float]:
    """One optimizer update; return its metrics."""
    loss, accuracy = accumulate_gradients(policy, batch, config.batching.max_tokens, world)
    norm = optimizer_step(optimizer, rate, config.optimizer.max_grad_norm)
    skipped.count(norm)
    return ({} if norm is None else {"sft/grad_norm": norm}) | {
        "sft/loss": loss,
        "sft/skipped_updates": float(norm is None),
        "sft/learning_rate": rate,
        "sft/tokens": _num_trained(batch),
        "sft/token_accuracy": accuracy,
    }


def accumulate_gradients(
    policy: PolicyModel, batch: Sequence[PackNode], max_tokens: int, world: World = ALONE
) -> tuple[float, float]:
    """Add the gradient of a batch's loss to the parameters; return the loss and the token accuracy before the update.

    The loss is the mean of -ln p over the trained tokens of the whole batch, in as many passes as `max_tokens` per pass needs:
    every pass divides by the batch's number of trained tokens, so that the cut changes no gradient (the mean over passes of
    each pass's mean, as gradient accumulation is often written, weighs the tokens of short passes more). Ranks share the
    passes. Token accuracy is the share of the trained tokens that are the likeliest by argmax, as TRL's `mean_token_accuracy`.
    """
    num_trained, loss, num_hits = _num_trained(batch), 0.0, 0
    for part, is_own in _share([*split(batch, max_tokens)], world):
        logprobs, hits = policy.hits(pack_trees([[conversation] for conversation in part]).to(policy.device))
        if not is_own:
            (logprobs.sum() * 0.0).backward()
            continue
        share = -logprobs.sum() / num_trained
        share.backward()
        loss += float(share.detach())
        num_hits += int(hits.sum())
    loss, num_hits = world.sums([loss, num_hits])
    return loss, num_hits / num_trained


@torch.no_grad()
def _measure(
    policy: PolicyModel, conversations: Sequence[PackNode], max_tokens: int, world: World = ALONE
) -> tuple[float, float]:
    """Loss and token accuracy on conversations, as `accumulate_gradients`, without gradients."""
    num_trained, total, num_hits = _num_trained(conversations), 0.0, 0
    for part, is_own in _share([*split(conversations, max_tokens)], world):
        logprobs, hits = policy.hits(pack_trees([[conversation] for conversation in part]).to(policy.device))
        if is_own:
            total -= float(logprobs.double().sum())
            num_hits += int(hits.sum())
    total, num_hits = world.sums([total, num_hits])
    return total / num_trained, num_hits / num_trained


def _share(parts: Sequence[list[PackNode]], world: World) -> list[tuple[list[PackNode], bool]]:
    """The passes of this rank, and whether each counts; one that does not keeps step with busier ranks."""
    share = share_packs([sum(len(conversation.token_ids) for conversation in part) for part in parts], world)
    return [(parts[index], place < share.num_own) for place, index in enumerate(share.indices)]


def _num_trained(conversations: Sequence[PackNode]) -> int:
    return sum(sum(conversation.loss_mask) for conversation in conversations)
