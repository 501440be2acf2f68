"""`arpo rollout`: rollout trees without training."""

import argparse
from typing import Any

from arpo.cli.output import add_command, progress, result_console
from arpo.cli.overrides import add_config_arguments, add_resume_argument, load_recipe_or_run

_EXAMPLES = """\
  arpo rollout quickstart                                  the trees that ARPO grows from the cold start
  arpo rollout quickstart --model.path=runs/quickstart/rl/best --out=runs/quickstart/rollouts_after
  arpo rollout quickstart --rollout.rule.type=none --show=0 --out=runs/quickstart/rollouts_grpo
  arpo rollout --resume runs/quickstart/rollouts           goes on with the tasks that have no tree yet
  arpo view runs/quickstart/rollouts                       the trees as one page
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "rollout", "grow rollout trees without training, and measure how they branch", _EXAMPLES)
    add_config_arguments(parser, "rollout")
    add_resume_argument(parser)
    parser.add_argument("--show", type=int, default=1, metavar="N", help="trees to print (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Grow the trees, print some of them and the figures of all."""
    from arpo.config import dump_config
    from arpo.evaluation.config import RolloutRun

    config = load_recipe_or_run(args, RolloutRun, "rollout")
    console = result_console()
    if args.dry_run:
        console.out(dump_config(config), end="")
        return 0
    from arpo.cli.trees import rollout_tables, tree_picture
    from arpo.evaluation.rollouts import sample_rollouts
    from arpo.tree import RolloutTree

    shown: list[RolloutTree] = []

    def keep(tree: RolloutTree) -> None:
        if len(shown) < args.show:
            shown.append(tree)

    try:
        summary = sample_rollouts(config, progress(), resume=args.resume is not None, on_tree=keep)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with `arpo rollout --resume {config.out}`") from None
    for tree in shown:
        console.print(tree_picture(tree), soft_wrap=False)
    for table in rollout_tables(summary):
        console.print(table)
    console.print(f"  {config.out / 'summary.json'}\n  `arpo view {config.out}` shows the trees", markup=False, soft_wrap=True)
    return 0
