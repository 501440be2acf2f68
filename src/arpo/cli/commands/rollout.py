"""`arpo rollout`: rollout trees without training."""

import argparse
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, progress, result_console
from arpo.cli.runs import add_run_arguments

if TYPE_CHECKING:
    from arpo.evaluation.config import RolloutRun

_EXAMPLES = """\
  arpo rollout quickstart                                  the trees that ARPO grows from the cold start
  arpo rollout quickstart --model.path=runs/quickstart/rl/best --out=runs/quickstart/rollouts_after
  arpo rollout quickstart --rollout.rule.type=none --show=0 --out=runs/quickstart/rollouts_grpo
  arpo rollout --resume runs/quickstart/rollouts           goes on with the tasks that have no tree yet
  arpo view runs/quickstart/rollouts                       the trees as one page
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "rollout", "sample rollout trees without training, and measure how they branch", _EXAMPLES)
    add_run_arguments(parser, "rollout", start, resumes=True)
    parser.add_argument("--show", type=int, default=1, metavar="N", help="trees to print (default: %(default)s)")


def start(args: argparse.Namespace, config: "RolloutRun") -> None:
    """Sample the trees; print some of them and the metrics of all."""
    from arpo.cli.trees import rollout_tables, tree_picture
    from arpo.evaluation.rollouts import sample_rollouts
    from arpo.tree import RolloutTree

    shown: list[RolloutTree] = []

    def keep(tree: RolloutTree) -> None:
        if len(shown) < args.show:
            shown.append(tree)

    summary = sample_rollouts(config, progress(), resume=args.resume is not None, functions=args.functions, on_tree=keep)
    console = result_console()
    for tree in shown:
        console.print(tree_picture(tree), soft_wrap=False)
    for table in rollout_tables(summary):
        console.print(table)
    console.print(f"  {config.out / 'summary.json'}\n  `arpo view {config.out}` shows the trees", markup=False, soft_wrap=True)
