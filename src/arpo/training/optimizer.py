"""AdamW with decay on matrices only, a schedule that is a pure function of the update, and gradient clipping."""

import math

import torch
from torch import nn

from arpo.errors import TrainingError
from arpo.training.config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the model's trainable parameters; matrices are decayed, vectors are not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas)


def scheduled_rate(config: OptimizerConfig, update: int, num_updates: int) -> float:
    """Learning rate of update `update` (counted from 0) of `num_updates`.

    Example: peak 1, warm-up 2, linear to 0 over 6 updates: 0.5, 1.0, then 1.0, 0.75, 0.5, 0.25 ... of the way down.
    """
    if update < config.warmup_steps:
        return config.learning_rate * (update + 1) / config.warmup_steps
    progress = (update - config.warmup_steps) / max(1, num_updates - config.warmup_steps)
    if config.schedule == "constant":
        return config.learning_rate
    remaining = 1.0 - progress if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_fraction + (1.0 - config.final_fraction) * max(0.0, remaining))


def optimizer_step(optimizer: torch.optim.Optimizer, rate: float, max_grad_norm: float) -> float | None:
    """Clip the gradients, move the weights and clear the gradients; return the global norm before clipping.

    A gradient that is not finite would make every weight NaN: then weights and optimizer moments stay as they are, and the
    result is None.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = rate
    norm = float(nn.utils.clip_grad_norm_(parameters, max_grad_norm))
    if math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm if math.isfinite(norm) else None


class SkippedUpdates:
    """Counts updates whose gradient was not finite, and ends a run after too many in a row."""

    MAX_IN_A_ROW = 10
    """Skipped updates in a row that end a run."""

    def __init__(self, num_in_a_row: int = 0):
        """A count that begins at `num_in_a_row`, as a resumed run does."""
        self.num_in_a_row = num_in_a_row

    def count(self, norm: float | None) -> None:
        """Count an update, given the result of `optimizer_step`.

        Raises:
            TrainingError: it is the last of `MAX_IN_A_ROW` skipped updates in a row.
        """
        self.num_in_a_row = self.num_in_a_row + 1 if norm is None else 0
        if self.num_in_a_row >= self.MAX_IN_A_ROW:
            raise TrainingError(
                f"training: the gradients of {self.num_in_a_row} updates in a row were not finite, so that nothing is learned. "
                f"Look at train/loss, train/mismatch_kl and the rewards of the last steps; lower optimizer.learning_rate or "
                f"set model.dtype = 'float32', and go on from the last checkpoint"
            )
