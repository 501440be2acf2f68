"""trackio, the local dashboard: `trackio show --project <project>`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trackio

from arpo.tracking.config import TrackingConfig


class TrackioSink:
    """One trackio run per run directory, stored in trackio's own local database; a resumed run continues it by name."""

    def __init__(self, run_dir: Path, config: TrackingConfig, settings: Mapping[str, Any]) -> None:
        self._run = trackio.init(
            project=config.project, name=run_dir.name, config=dict(settings), resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of one step."""
        self._run.log(dict(values), step=step)

    def truncate_after(self, step: int) -> None:
        """Nothing: trackio keeps later steps and shows repeated ones twice."""

    def close(self) -> None:
        """Write pending values."""
        self._run.finish()
