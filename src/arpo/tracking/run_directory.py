"""The folder of one run: its file names and its lock.

config.toml · metrics.jsonl · rollouts/step_NNNNNN.jsonl.zst · checkpoints/ · summary.json · report.html
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from arpo.errors import RunError
from arpo.files.lock import LOCK_NAME, take_lock
from arpo.files.whole import write_json, write_text


class RunDirectory:
    """A run's folder, locked by one process at a time; leaving the context, or dying, unlocks it.

    Example:
        with RunDirectory.create(Path("runs/a")) as run:
            run.write_text("config.toml", dump_config(config))
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = take_lock(path)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make and lock a new run directory; an existing folder must be empty.

        Raises:
            RunError: the folder has a run or other files, or another process uses it.
        """
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        if run.config_path.is_file():
            run.close()
            raise RunError(
                f"{path}: holds a run already; name another folder or delete this one "
                f"(a stopped run goes on with `arpo train --resume {path}`, likewise rollout and eval)"
            )
        other_files = sorted(p.name for p in path.iterdir() if p.name != LOCK_NAME)
        if other_files:
            run.close()
            raise RunError(f"{path}: not empty (it holds {other_files[0]!r}) and not a run; name a new folder")
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """Lock an existing run directory, to go on with it.

        Raises:
            RunError: the folder has no run, or another process uses it.
        """
        if not (path / "config.toml").is_file():
            raise RunError(f"{path}: not a run directory (it has no config.toml)")
        return cls(path)

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    def rollouts_path(self, step: int) -> Path:
        """The trees of one step: rollouts/step_000012.jsonl.zst for step 12."""
        return self.path / "rollouts" / f"step_{step:06d}.jsonl.zst"

    def trees_path(self, name: str) -> Path:
        """The trees of a mode of an evaluation: rollouts/greedy.jsonl.zst."""
        return self.path / "rollouts" / f"{name}.jsonl.zst"

    def write_json(self, name: str, data: Any) -> Path:
        """Write a JSON file below the run directory, whole or not at all."""
        return write_json(self.path / name, data)

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file below the run directory, whole or not at all."""
        return write_text(self.path / name, text)

    def close(self) -> None:
        """Unlock the folder; a second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
