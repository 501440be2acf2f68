"""Supervised training on conversations, the cold start. The loss mask excludes prompts and tool results."""

import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch

from arpo.batching.packing import PackNode, pack_trees, split_by_tokens
from arpo.config import dump_config
from arpo.data.conversations import scan_encoded
from arpo.data.tasks import report_bad_rows
from arpo.errors import DataError
from arpo.files.sources import BadRow, no_rows, open_source
from arpo.models.device import require_device
from arpo.models.loading import load_trained_policy
from arpo.models.policy import PolicyModel
from arpo.protocols.build import build_protocol
from arpo.protocols.encoding import PolicyTokenizer
from arpo.seeds import derive_seed
from arpo.tools.build import tool_schemas
from arpo.tracking import Tracker
from arpo.tracking.progress import Progress, SilentProgress
from arpo.tracking.run_directory import RunDirectory
from arpo.training.checkpoint import Checkpoints, TrainerState
from arpo.training.config import SftRun
from arpo.training.optimizer import SkippedUpdates, build_optimizer, optimizer_step, scheduled_rate


def train_sft(config: SftRun, progress: Progress | None = None) -> dict[str, Any]:
    """Train on the conversations; return the summary, as in `<out>/summary.json`. The model is `<out>/final`.

    Raises:
        DataError: the file cannot be read, or has no usable conversation of at most `max_tokens`.
        ConfigError, ModelError, RunError, CheckpointError: as their messages say.
    """
    progress = progress or SilentProgress()
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    require_device(config.model.device)
    with RunDirectory.create(config.out) as run:
        tokenizer = PolicyTokenizer.load(config.model.path)
        conversations, num_unused = _encode_all(config, tokenizer, progress)
        policy = PolicyModel(load_trained_policy(config.model, config.seed))
        optimizer = build_optimizer(policy, config.optimizer)
        skipped = SkippedUpdates()
        run.write_text("config.toml", dump_config(config))
        batches = list(_epochs(conversations, config))
        state, started, num_tokens, loss = TrainerState(), time.perf_counter(), 0, 0.0
        with (
            Tracker(run.path, config.tracking, config.model_dump(mode="json")) as tracker,
            progress.phase("sft", len(batches), "update") as phase,
        ):
            for index, batch in enumerate(batches):
                seconds = time.perf_counter() - started
                if config.max_seconds is not None and seconds >= config.max_seconds:
                    break
                rate = _rate(config, index, len(batches), seconds)
                metrics = _train_batch(policy, optimizer, batch, rate, config.optimizer.max_grad_norm, skipped)
                num_tokens += sum(len(c.token_ids) for c in batch)
                loss = metrics["sft/loss"]
                state.step = state.update = index + 1
                metrics["sft/epoch"] = (index + 1) / len(batches) * config.num_epochs
                metrics["sft/tokens_per_s"] = num_tokens / (time.perf_counter() - started)
                tracker.log(state.step, metrics)
                phase.advance(1, loss=round(loss, 4), accuracy=round(metrics["sft/token_accuracy"], 4))
        checkpoints = Checkpoints(run.path, config.model.path, keep=1)
        checkpoints.save(policy.network, optimizer, state)
        checkpoints.link("final", state.step)
        total = time.perf_counter() - started
        summary = {
            "num_conversations": len(conversations),
            "num_left_out": num_unused,
            "num_updates": state.update,
            "num_tokens": num_tokens,
            "epochs": state.update / len(batches) * config.num_epochs,
            "loss": loss,
            "seconds": {"sft": total, "total": total},
        }
        run.write_json("summary.json", summary)
    return summary


def _encode_all(config: SftRun, tokenizer: PolicyTokenizer, progress: Progress) -> tuple[list[PackNode], int]:
    """The conversations to train on, and the number of dropped and filtered ones, which are reported."""
    protocol = build_protocol(config.protocol, tokenizer, tool_schemas(config.tools))
    bad_rows: list[BadRow] = []
    rows = scan_encoded(open_source(config.data), protocol, tokenizer, bad_rows.append)
    encoded = [PackNode(None, row.value.token_ids, row.value.loss_mask) for row in rows]
    report_bad_rows(bad_rows, progress)
    if not encoded:
        raise no_rows(config.data, "usable conversation", bad_rows)
    short_enough = [node for node in encoded if len(node.token_ids) <= config.max_tokens]
    num_too_long = len(encoded) - len(short_enough)
    if num_too_long:
        progress.line(f"filtered: {num_too_long} conversations of more than max_tokens = {config.max_tokens} tokens")
    if not short_enough:
        raise DataError(f"{config.data}: no conversation has at most max_tokens = {config.max_tokens} tokens; raise it")
    return short_enough, len(bad_rows) + num_too_long


def _epochs(conversations: Sequence[PackNode], config: SftRun) -> Iterator[list[PackNode]]:
    """Batches of every epoch; each epoch has its own order."""
    for epoch in range(config.num_epochs):
        order = list(conversations)
        Random(derive_seed(config.seed, "sft", epoch)).shuffle(order)
        for indices in split_by_tokens([len(c.token_ids) for c in order], config.batch_tokens):
            yield [order[i] for i in indices]


def _rate(config: SftRun, update: int, num_updates: int, seconds: float) -> float:
    """The scheduled rate; under a time limit the schedule follows the further of updates and time."""
    if config.max_seconds is not None and update >= config.optimizer.warmup_steps:
        update = max(update, int(num_updates * seconds / config.max_seconds))
    return scheduled_rate(config.optimizer, update, num_updates)


def _train_batch(
    policy: PolicyModel,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[PackNode],
    rate: float,
    max_grad_norm: float,
    skipped: SkippedUpdates,
) -> dict[str, float]:
    packed = pack_trees([[conversation] for conversation in batch]).to(policy.device)
    logprobs, _ = policy(packed)
    loss = -logprobs.mean()
    loss.backward()
    norm = optimizer_step(optimizer, rate, max_grad_norm)
    skipped.count(norm)
    return {
        "sft/loss": float(loss.detach()),
        "sft/grad_norm": norm or 0.0,
        "sft/skipped_updates": float(norm is None),
        "sft/learning_rate": rate,
        "sft/tokens": len(packed.targets),
        "sft/token_accuracy": float((logprobs.detach().exp() > 0.5).float().mean()),
    }
