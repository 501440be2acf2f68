"""The folder of one run: its file names and its lock.

config.toml · metrics.jsonl · rollouts/step_NNNNNN.jsonl.zst · checkpoints/ · summary.json · report.html
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from arpo.config import read_toml
from arpo.errors import ConfigError, RunError
from arpo.files.lock import LOCK_NAME, take_lock
from arpo.files.whole import write_json, write_text
from arpo.ranks import is_main, launcher


class RunDirectory:
    """A run's folder, locked by one process at a time; leaving the context, or dying, unlocks it.

    Of several ranks the first one holds the lock and writes; for the others locking and writing do nothing.

    Example:
        with RunDirectory.create(Path("runs/a")) as run:
            run.write_text("config.toml", dump_config(config))
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = take_lock(path) if is_main() else None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make and lock a new run directory; an existing folder must be empty.

        Raises:
            RunError: the folder has a run or other files, or another process uses it.
        """
        if not is_main():
            return cls(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        if run.config_path.is_file():
            run.close()
            command = resume_command(path)
            remedy = f"; a stopped run goes on with `{command}`" if command else ""
            raise RunError(f"{path}: holds a run already; name another folder or delete this one{remedy}")
        other_files = sorted(p.name for p in path.iterdir() if p.name != LOCK_NAME)
        if other_files:
            run.close()
            raise RunError(f"{path}: not empty (it holds {other_files[0]!r}) and not a run; name a new folder")
        return run

    @classmethod
    def open(cls, path: Path, command: str) -> Self:
        """Lock an existing run directory of a command (`train`, `sft`, `rollout`, `eval`), to go on with it.

        Raises:
            RunError: the folder has no run or that of another command, or another process uses it.
        """
        require_run(path, command)
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
        return write_json(self.path / name, data) if is_main() else self.path / name

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file below the run directory, whole or not at all."""
        return write_text(self.path / name, text) if is_main() else self.path / name

    def close(self) -> None:
        """Unlock the folder; a second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


_MARKS = {"train": "tasks_per_step", "sft": "batch_tokens", "rollout": "trees_per_file", "eval": "num_samples"}
"""Command that can go on with a run -> a key that its configuration alone has."""


def require_run(path: Path, command: str) -> None:
    """Raise unless the folder has a run of `arpo <command>`.

    Raises:
        RunError: it has none, or that of another command.
    """
    if not (path / "config.toml").is_file():
        raise RunError(f"{path}: not a run directory (it has no config.toml)")
    found = _command_of(path)
    if found != command:
        what = (
            f"but of `arpo {found}`; go on with `{resume_command(path)}`"
            if found
            else "by its config.toml; name another folder"
        )
        raise RunError(f"{path}: not a run of `arpo {command}`, {what}")


def resume_command(path: Path) -> str | None:
    """The command line that goes on with the run in a folder; None: there is none to go on with."""
    command = _command_of(path)
    return None if command is None else f"{launcher()} {command} --resume {path}"


def how_to_go_on(path: Path) -> str:
    """What to do after a run in this folder was stopped, for messages."""
    command = resume_command(path)
    return "run the command again" if command is None else f"go on with `{command}`"


@contextmanager
def name_full_disk(path: Path) -> Iterator[None]:
    """Turn the system's error of a full disk into one that says how to go on with the run in `path`.

    Raises:
        RunError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"{path}: no space left on the device; finished files stay whole. Free some space, then {how_to_go_on(path)}"
        ) from error


def _command_of(path: Path) -> str | None:
    """The command whose run is in the folder; None without a readable config.toml, and for a run that cannot be resumed."""
    try:
        keys = read_toml(path / "config.toml")
    except ConfigError:
        return None
    return next((command for command, key in _MARKS.items() if key in keys), None)
