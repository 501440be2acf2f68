"""Commands made of commands: a pipeline runs its steps in order, skips finished ones and goes on with an unfinished one."""

import gc
import hashlib
import json
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.rule import Rule

from arpo.cli.output import result_console
from arpo.errors import RunError
from arpo.files.whole import write_json
from arpo.models.process_memory import peak_memory_mb, release_free_pages

Main = Callable[[Sequence[str]], int]
"""Runs a command line; returns its exit code."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: a command line and its output."""

    name: str
    title: str
    command: tuple[str, ...]
    out: Path
    """What the step writes; removed before an unfinished step runs again."""
    recipe: Path | None = None
    """The recipe's file that shapes the step; None: the command line says everything."""
    resume: tuple[str, ...] | None = None
    """Command that resumes an unfinished step; None: the step starts over."""
    seconds: float
    """Its usual time on two quiet cores; with the times of finished steps it gives the remaining time."""

    @property
    def fingerprint(self) -> str:
        """Changes with the command and its recipe, so that a finished step of another configuration is noticed."""
        recipe = self.recipe.read_text(encoding="utf-8") if self.recipe else ""
        return hashlib.sha256(json.dumps([self.command, recipe]).encode()).hexdigest()


class Pipeline:
    """The finished steps of a command in its folder, `<out>/<command>.json`: name -> fingerprint, seconds and peak memory."""

    def __init__(self, command: str, out: Path, main: Main, *, overwrite: bool = False) -> None:
        """Open or make the folder.

        Args:
            command: The command that is made of the steps, `quickstart` for example.
            out: Folder for everything.
            main: Runs the steps' commands.
            overwrite: Delete what an earlier run of the command left in the folder.

        Raises:
            RunError: the folder holds something else.
        """
        self._command, self._out, self._main = command, out, main
        self._path = out / f"{command}.json"
        if overwrite and self._path.is_file():
            shutil.rmtree(out)
        if not self._path.is_file():
            if out.exists() and any(out.iterdir()):
                raise RunError(f"{out}: not empty and not written by `arpo {command}`; name another folder with --out")
            write_json(self._path, {})
        self.state: dict[str, dict[str, Any]] = json.loads(self._path.read_text(encoding="utf-8"))

    def run(self, steps: Sequence[Step], after: Callable[[str], None] = lambda name: None) -> int:
        """Run the steps that are not done yet; return 0, or the exit code of the first that failed.

        Args:
            steps: In order.
            after: Called with the name of each step that is done, now or before.

        Raises:
            RunError: a finished step had another command or recipe.
        """
        self._refuse_other_run(steps)
        for number, step in enumerate(steps):
            left = _describe_time(remaining_seconds(steps[number:], steps, self.state))
            heading = f"step {number + 1}/{len(steps)}, {left} left: {step.title}"
            result_console().print(Rule(heading, align="left", style="dim"))
            code = self._run_step(step)
            if code:
                return code
            after(step.name)
        return 0

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each finished step, and their `total`."""
        seconds = {name: step["seconds"] for name, step in self.state.items()}
        return {**seconds, "total": round(sum(seconds.values()), 1)}

    @property
    def peak_memory_mb(self) -> int:
        """Largest resident size of the process up to the end of a finished step."""
        return max(step["peak_memory_mb"] for step in self.state.values())

    def _refuse_other_run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.name in self.state and self.state[step.name]["fingerprint"] != step.fingerprint:
                raise RunError(
                    f"{self._out}: holds a {self._command} whose step {step.name!r} had another seed or configuration; "
                    "use --overwrite to start over or --out for another folder"
                )

    def _run_step(self, step: Step) -> int:
        """Run one step unless it is done, and record it; return the command's exit code."""
        console = result_console()
        if step.name in self.state:
            console.print(f"  done before, in {self.state[step.name]['seconds']:.1f} s")
            return 0
        command = step.command
        if step.resume and (step.out / "config.toml").is_file():
            command = step.resume
        elif step.out.exists():
            shutil.rmtree(step.out) if step.out.is_dir() else step.out.unlink()
        console.print(f"$ arpo {shlex.join(command)}", style="bold", markup=False, soft_wrap=True)
        start = time.monotonic()
        code = self._main(command)
        gc.collect()  # models and caches sit in reference cycles
        release_free_pages()
        if code == 0:
            seconds = round(time.monotonic() - start, 1)
            memory = round(peak_memory_mb())
            self.state[step.name] = {"fingerprint": step.fingerprint, "seconds": seconds, "peak_memory_mb": memory}
            write_json(self._path, self.state)
            console.print(f"  {seconds:.1f} s", style="dim")
        return code


_USUAL_SECONDS = 60
"""Counted as gone by in the usual time, so that steps of seconds say little of this machine's speed."""


def remaining_seconds(left: Sequence[Step], steps: Sequence[Step], state: dict[str, dict[str, Any]]) -> float:
    """Usual seconds of the steps left that are not done, times how much longer than usual the finished ones took together.

    Example: a step of usually 60 s took 90; another of usually 100 s is left: 100 * (60 + 90) / (60 + 60) = 125.
    """
    done = [step for step in steps if step.name in state]
    usual, taken = sum(step.seconds for step in done), sum(state[step.name]["seconds"] for step in done)
    factor = (_USUAL_SECONDS + taken) / (_USUAL_SECONDS + usual)
    return factor * sum(step.seconds for step in left if step.name not in state)


def _describe_time(seconds: float) -> str:
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {seconds:.0f} s"
