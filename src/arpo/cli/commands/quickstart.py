"""`arpo quickstart`: the whole path from nothing to a report, each step the command a user would type."""

import argparse
import ctypes
import gc
import hashlib
import json
import platform
import resource
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.rule import Rule

from arpo.cli.output import add_command, make_table, result_console
from arpo.errors import RunError
from arpo.files.whole import write_json
from arpo.recipes import find_recipe, read_recipe_in

DEFAULT_OUT = Path("runs/quickstart")

_EXAMPLES = """\
  arpo quickstart                                          about six minutes on two cores
  arpo quickstart --seed 1 --out runs/quickstart-1         another world, another policy
  arpo quickstart --overwrite                              from the start, over the files of the last time

After Ctrl-C the same command goes on: finished steps are skipped, training resumes from its last checkpoint.
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: a command line and its output."""

    name: str
    title: str
    command: tuple[str, ...]
    out: Path
    """What the step writes; removed before an unfinished step runs again."""
    recipe_kind: str | None = None
    """Kind of the recipe that shapes the step; None: the command line says everything."""
    resume: tuple[str, ...] | None = None
    """Command that resumes an unfinished step; None: the step starts over."""

    @property
    def fingerprint(self) -> str:
        """Changes with the command and its recipe, so that a finished step of another configuration is noticed."""
        recipe = find_recipe("quickstart", self.recipe_kind).read_text() if self.recipe_kind else ""
        return hashlib.sha256(json.dumps([self.command, recipe]).encode()).hexdigest()


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "quickstart", "train a tool-using agent on this CPU, from nothing to a report", _EXAMPLES)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder for everything (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads of training and evaluation (default: the recipe's)")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier quickstart left in the folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the steps that are not done yet, then the summary."""
    state = _open_state(args.out, args.overwrite)
    steps = make_steps(args.out, args.seed, args.threads)
    _refuse_other_run(args.out, steps, state)
    summary: dict[str, Any] = {}
    for number, step in enumerate(steps, start=1):
        code = _run_step(step, f"{number}/{len(steps)}", state, args.out, args.main)
        if code:
            return code
        if step.name in ("eval_after", "report"):  # the report shows the summary, which counts the report's own time last
            summary = collect_summary(args.out, args.seed, state)
            write_json(args.out / "summary.json", summary)
    _print_result(summary, args.out)
    return 0


def make_steps(out: Path, seed: int, threads: int | None = None) -> list[Step]:
    """The steps as command lines, which repeat nothing of the recipes."""
    world, rl = out / "world", out / "rl"
    return [
        Step(
            name="world",
            title="a world of documents and questions, and a policy that knows nothing",
            command=("world", "make", "--out", str(world), "--seed", str(seed)),
            out=world,
        ),
        _index_step("train_index", "a search index of the documents training may see", out, "train_corpus.jsonl"),
        _index_step("index", "a search index of all documents, for held-out questions", out, "corpus.jsonl"),
        _recipe_step("demos", "imperfect demonstrations by a scripted agent with the real tools", "demos", out, seed),
        _recipe_step("sft", "cold start: imitate the demonstrations", "sft", out, seed, threads),
        _recipe_step("eval_before", "held-out questions, before RL", "eval", out, seed, threads, model="sft/final"),
        replace(
            _recipe_step("train", "ARPO: branch where the policy is unsure", "rl", out, seed, threads),
            out=rl,
            resume=("train", "--resume", str(rl)),
        ),
        _recipe_step("eval_after", "the same held-out questions, afterwards", "eval", out, seed, threads, model="rl/best"),
        Step(
            name="report",
            title="curves and rollout trees as one page",
            command=(
                *("view", str(rl), "--title", "arpo quickstart", "--out", str(out / "report.html")),
                *("--eval", f"cold start={out / 'eval_before'}", "--eval", f"after RL={out / 'eval_after'}"),
                *("--summary", str(out / "summary.json"), "--picture", str(out / "picture.png")),
            ),
            out=out / "report.html",
        ),
    ]


def _index_step(name: str, title: str, out: Path, corpus: str) -> Step:
    command = ("index", "build", str(out / "world" / corpus), "--out", str(out / name))
    return Step(name=name, title=title, command=command, out=out / name)


def _recipe_step(
    name: str, title: str, kind: str, out: Path, seed: int, threads: int | None = None, model: str | None = None
) -> Step:
    """A step of the quickstart recipe, with the keys that differ from it; `model` is for the two evaluations."""
    overrides: dict[str, object] = _moved_paths(kind, out) if out != DEFAULT_OUT else {}
    if model is not None:
        overrides |= {"model.path": out / model, "out": out / name}
    if seed:
        overrides["seed"] = seed
    if threads:
        overrides["num_threads"] = threads
    command = {"rl": "train"}.get(kind, kind)
    arguments = [f"--{key}={value}" for key, value in overrides.items()]
    return Step(name=name, title=title, command=(command, "quickstart", *arguments), out=out / name, recipe_kind=kind)


def _moved_paths(kind: str, out: Path) -> dict[str, object]:
    """Every path of a recipe below its default folder, moved below `out`: dotted key -> path."""
    from arpo.config import dotted

    before, after = (dotted(read_recipe_in(folder, "quickstart", kind)) for folder in (DEFAULT_OUT, out))
    return {key: value for key, value in after.items() if value != before[key]}


def collect_summary(out: Path, seed: int, state: dict[str, Any]) -> dict[str, Any]:
    """The summary of the quickstart, from the output and the time of its finished steps."""
    seconds = {name: step["seconds"] for name, step in state.items()}
    demos, before, train, after = (
        _read_json(out / name / "summary.json") for name in ("demos", "eval_before", "rl", "eval_after")
    )
    return {
        "accuracy_before": before["accuracy"],
        "accuracy_after": after["accuracy"],
        "num_test_tasks": after["num_tasks"],
        "demonstrator_accuracy": demos["accuracy"],
        "k": after["k"],
        **{
            f"{key}_{when}": summary[key]
            for key in ("pass_at_k", "f1", "format_valid_rate", "tool_calls_per_task")
            for when, summary in (("before", before), ("after", after))
        },
        **{key: train[key] for key in _TRAIN_METRICS},
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
        "peak_memory_mb": max(step["peak_memory_mb"] for step in state.values()),
        "seed": seed,
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in _VERSIONED},
    }


_TRAIN_METRICS = (
    "entropy_after_tool", "entropy_elsewhere", "branch_rate", "branch_share", "leaves_per_group",
    "tokens_sampled", "tokens_trained_unique", "tokens_trained_total",
)  # fmt: skip
_VERSIONED = ("arpo", "torch", "transformers", "numpy", "tantivy")
_STATE_NAME = "quickstart.json"


def _open_state(out: Path, overwrite: bool) -> dict[str, Any]:
    """Finished steps by name; an empty folder has none."""
    path = out / _STATE_NAME
    if path.is_file():
        if not overwrite:
            return _read_json(path)
        shutil.rmtree(out)
    elif out.exists() and any(out.iterdir()):
        raise RunError(f"{out}: not empty and not written by `arpo quickstart`; name another folder with --out")
    write_json(path, {})
    return {}


def _refuse_other_run(out: Path, steps: Sequence[Step], state: dict[str, Any]) -> None:
    for step in steps:
        if step.name in state and state[step.name]["fingerprint"] != step.fingerprint:
            raise RunError(
                f"{out}: holds a quickstart whose step {step.name!r} had another seed or configuration; "
                "use --overwrite to start over or --out for another folder"
            )


def _run_step(step: Step, position: str, state: dict[str, Any], out: Path, main: Callable[[Sequence[str]], int]) -> int:
    """Run one step by `main` unless it is done, and record it; return the command's exit code."""
    console = result_console()
    console.print(Rule(f"{position}  {step.title}", align="left", style="dim"))
    if step.name in state:
        console.print(f"  done before, in {state[step.name]['seconds']:.1f} s")
        return 0
    command = step.command
    if step.resume and (step.out / "config.toml").is_file():
        command = step.resume
    elif step.out.exists():
        shutil.rmtree(step.out) if step.out.is_dir() else step.out.unlink()
    console.print(f"$ arpo {shlex.join(command)}", style="bold", markup=False, soft_wrap=True)
    start = time.monotonic()
    code = main(command)
    _free_memory()
    if code == 0:
        seconds = round(time.monotonic() - start, 1)
        state[step.name] = {"fingerprint": step.fingerprint, "seconds": seconds, "peak_memory_mb": round(_peak_memory_mb())}
        write_json(out / _STATE_NAME, state)
        console.print(f"  {seconds:.1f} s", style="dim")
    return code


def _print_result(summary: dict[str, Any], out: Path) -> None:
    table = make_table("", ">before RL", ">after RL", title=f"{summary['num_test_tasks']} held-out questions")
    rows = {
        "right answers, greedy": ("accuracy_before", "accuracy_after"),
        f"pass@{summary['k']}, sampled": ("pass_at_k_before", "pass_at_k_after"),
        "tool calls per question": ("tool_calls_per_task_before", "tool_calls_per_task_after"),
    }
    for label, keys in rows.items():
        table.add_row(label, *(f"{summary[key]:.2f}" for key in keys))
    console = result_console()
    console.print()
    console.print(table)
    console.print(
        f"  demonstrator {summary['demonstrator_accuracy']:.2f} · {summary['seconds']['total']:.0f} s · "
        f"peak memory {summary['peak_memory_mb']} MB\n  {out / 'report.html'}\n  {out / 'summary.json'}",
        markup=False,
        soft_wrap=True,
    )


def _free_memory() -> None:
    """Free a finished step's memory: models and caches sit in reference cycles, and glibc keeps pages."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def _peak_memory_mb() -> float:
    """Largest resident size of this process so far.

    The sandbox's processes, some 20 MB, are left out: the system's value for a child starts with its parent's size at the fork,
    which would count this process twice.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
