"""The path of `arpo quickstart` and `arpo smollm2`: world, indexes, demonstrations, cold start, RL, evaluations, report."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from arpo.cli.output import make_table, result_console
from arpo.cli.pipeline import Pipeline, Step
from arpo.files.whole import write_json
from arpo.recipes import find_recipe, read_recipe_in

Keys = Mapping[str, object]
"""Dotted key to value."""


@dataclass(frozen=True, kw_only=True)
class AgentPath:
    """The steps of one recipe in a folder, as command lines, which repeat nothing of the recipe."""

    recipe: str
    """Name of the recipe; its paths lie in `runs/<recipe>`."""
    out: Path
    seed: int
    threads: int | None
    """CPU threads of training and evaluation; None: the recipe's."""
    seconds: Mapping[str, float]
    """Step to its usual seconds on two quiet cores."""
    keys: Mapping[str, Keys] = field(default_factory=dict)
    """Kind of recipe to keys that differ from the recipe."""

    def steps(self, world: Step) -> list[Step]:
        """All steps after `world`, which makes the folder `world`."""
        out = self.out
        return [
            world,
            self._index("train_index", "a search index of the documents training may see", "train_corpus.jsonl"),
            self._index("index", "a search index of all documents, for held-out questions", "corpus.jsonl"),
            self.step("demos", "imperfect demonstrations by a scripted agent with the real tools", "demos"),
            self.step("sft", "cold start: imitate the demonstrations", "sft"),
            self.evaluation("eval_before", "held-out questions, before RL", "sft/final"),
            self.step("train", "ARPO: branch where the policy is unsure", "rl", out=out / "rl"),
            self.evaluation("eval_after", "the same held-out questions, afterwards", "rl/best"),
            Step(
                name="report",
                title="curves and rollout trees as one page",
                command=(
                    *("view", str(out / "rl"), "--title", f"arpo {self.recipe}", "--out", str(out / "report.html")),
                    *("--eval", f"cold start={out / 'eval_before'}", "--eval", f"after RL={out / 'eval_after'}"),
                    *("--summary", str(out / "summary.json"), "--picture", str(out / "picture.png")),
                ),
                out=out / "report.html",
                seconds=self.seconds["report"],
            ),
        ]

    def evaluation(self, name: str, title: str, model: str, keys: Keys | None = None) -> Step:
        """An evaluation of the policy in the folder `model`, with further keys."""
        return self.step(name, title, "eval", keys={"model.path": self.out / model, "out": self.out / name, **(keys or {})})

    def step(self, name: str, title: str, kind: str, *, out: Path | None = None, keys: Keys | None = None) -> Step:
        """A step of the recipe; `keys` are its own, on top of those of its kind."""
        overrides = self._moved_paths(kind) | dict(self.keys.get(kind, {})) | dict(keys or {})
        if self.seed:
            overrides["seed"] = self.seed
        if self.threads and kind != "demos":
            overrides["num_threads"] = self.threads
        command, out = {"rl": "train"}.get(kind, kind), out or self.out / name
        return Step(
            name=name,
            title=title,
            command=(command, self.recipe, *(f"--{key}={value}" for key, value in overrides.items())),
            out=out,
            recipe=self.recipe_file(kind),
            resume=(command, "--resume", str(out)) if kind in _RESUMABLE else None,
            seconds=self.seconds[name],
        )

    def recipe_file(self, kind: str) -> Path:
        """The recipe's file of a kind."""
        return find_recipe(self.recipe, kind)

    def _index(self, name: str, title: str, corpus: str) -> Step:
        command = ("index", "build", str(self.out / "world" / corpus), "--out", str(self.out / name))
        return Step(name=name, title=title, command=command, out=self.out / name, seconds=self.seconds[name])

    def _moved_paths(self, kind: str) -> dict[str, object]:
        """Every path of a recipe below its default folder, moved below `out`: dotted key -> path."""
        from arpo.config import dotted

        before, after = (dotted(read_recipe_in(f, self.recipe, kind)) for f in (Path("runs") / self.recipe, self.out))
        return {key: value for key, value in after.items() if value != before[key]}

    def write_summary(self, pipeline: Pipeline) -> dict[str, Any]:
        """Write and return `summary.json`, from the output and the time of the finished steps."""
        demos, before, train, after = (
            read_json(self.out / name / "summary.json") for name in ("demos", "eval_before", "rl", "eval_after")
        )
        summary = {
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
            "seconds": pipeline.seconds,
            "peak_memory_mb": pipeline.peak_memory_mb,
            "seed": self.seed,
            "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in _VERSIONED},
        }
        write_json(self.out / "summary.json", summary)
        return summary

    def print_result(self, summary: dict[str, Any]) -> None:
        """Print the figures before and after, and where they stand."""
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
            f"peak memory {summary['peak_memory_mb']} MB\n  {self.out / 'report.html'}\n  {self.out / 'summary.json'}",
            markup=False,
            soft_wrap=True,
        )

    def run(self, pipeline: Pipeline, steps: list[Step]) -> int:
        """Run the steps, write the summary before and after the report, which shows it, and print the result."""
        summary: dict[str, Any] = {}

        def summarize(name: str) -> None:
            if name in ("eval_after", "report"):  # the second time it counts the report's own time
                summary.update(self.write_summary(pipeline))

        code = pipeline.run(steps, summarize)
        if code == 0:
            self.print_result(summary)
        return code


_RESUMABLE = ("sft", "rl", "eval")
_TRAIN_METRICS = (
    "entropy_after_tool", "entropy_elsewhere", "branch_rate", "branch_share", "leaves_per_group",
    "tokens_sampled", "tokens_trained_unique", "tokens_trained_total",
)  # fmt: skip
_VERSIONED = ("arpo", "torch", "transformers", "numpy", "tantivy")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
