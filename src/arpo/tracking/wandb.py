"""Weights & Biases."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from arpo.files.whole import write_text
from arpo.tracking.config import TrackingConfig

_STEP = "train/global_step"
"""The x axis of every chart, by the name that the Hugging Face Trainer and TRL give it."""


class WandbSink:
    """One W&B run per run directory; a resumed run continues it by the id in `<run>/wandb/run_id`."""

    def __init__(self, run_dir: Path, config: TrackingConfig, settings: Mapping[str, Any]) -> None:
        self._run = wandb.init(
            project=config.project, name=run_dir.name, dir=run_dir, mode=config.wandb_mode, config=dict(settings),
            id=_run_id(run_dir / "wandb" / "run_id"), resume="allow", settings=wandb.Settings(silent=True),
        )  # fmt: skip
        self._run.define_metric(_STEP)
        self._run.define_metric("*", step_metric=_STEP)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of one step."""
        self._run.log({**values, _STEP: step}, step=step)

    def truncate_after(self, step: int) -> None:
        """Nothing: W&B keeps later steps and skips repeated ones."""

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()


def _run_id(path: Path) -> str:
    if not path.is_file():
        write_text(path, secrets.token_hex(4))
    return path.read_text(encoding="utf-8")
