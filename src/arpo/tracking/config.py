"""Destinations of a run's metrics besides `metrics.jsonl`."""

from typing import Annotated, Literal

from arpo.conditions import holding, only_with
from arpo.config import Config

SinkName = Literal["tensorboard", "wandb", "trackio"]


class TrackingConfig(Config):
    """Optional metric sinks; `metrics.jsonl` in the run directory is always written."""

    short_for = "sinks"

    sinks: tuple[SinkName, ...] = ()
    """Any of "tensorboard" (files in `<run>/tensorboard`), "wandb" (Weights & Biases), "trackio" (a local dashboard).
    Each needs its extra: `pip install arpo[wandb]`."""
    project: Annotated[str, only_with(sinks=holding("wandb", "trackio"))] = "arpo"
    """Project name shown by W&B and trackio; the run's name is that of its directory."""
    wandb_mode: Annotated[Literal["online", "offline", "disabled"], only_with(sinks=holding("wandb"))] = "offline"
    """"offline" writes `<run>/wandb` for a later `wandb sync`; "online" sends while training; "disabled" records nothing."""
