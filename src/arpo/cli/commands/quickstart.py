"""`arpo quickstart`: the whole path from nothing to a report, each step the command a user would type."""

import argparse
from pathlib import Path
from typing import Any

from arpo.cli.agent_path import AgentPath
from arpo.cli.output import add_command
from arpo.cli.pipeline import Pipeline, Step

_EXAMPLES = """\
  arpo quickstart                                          about six minutes on two cores
  arpo quickstart --seed 1 --out runs/quickstart-1         another world, another policy
  arpo quickstart --overwrite                              from the start, over the files of the last time

After Ctrl-C the same command goes on: finished steps are skipped, training resumes from its last checkpoint.
"""

_OUT = Path("runs/quickstart")
_SECONDS = {
    "world": 5, "train_index": 1, "index": 1, "demos": 52, "sft": 121, "eval_before": 32, "train": 112, "eval_after": 30,
    "report": 1,
}  # fmt: skip
"""As measured in docs/results/quickstart.md."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "quickstart", "train a tool-using agent on this CPU, from nothing to a report", _EXAMPLES)
    parser.add_argument("--out", type=Path, default=_OUT, help="folder for everything (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads of training and evaluation (default: the recipe's)")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier quickstart left in the folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the steps that are not done yet, then the summary."""
    path = AgentPath(recipe="quickstart", out=args.out, seed=args.seed, threads=args.threads, seconds=_SECONDS)
    pipeline = Pipeline("quickstart", args.out, args.main, overwrite=args.overwrite)
    return path.run(pipeline, path.steps(_make_world(path)))


def _make_world(path: AgentPath) -> Step:
    world = path.out / "world"
    return Step(
        name="world",
        title="a world of documents and questions, and a policy that knows nothing",
        command=("world", "make", "--out", str(world), "--seed", str(path.seed)),
        out=world,
        seconds=path.seconds["world"],
    )
