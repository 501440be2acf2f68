"""`arpo train`: reinforcement learning, new or resumed."""

import argparse
from typing import Any

from arpo.cli.output import add_command, print_summary, progress, result_console
from arpo.cli.overrides import add_config_arguments, add_resume_argument, load_recipe_or_run

_EXAMPLES = """\
  arpo train quickstart
  arpo train quickstart --rollout.group_size=8 --seed=1
  arpo train quickstart --dry-run > my_rl.toml             a starting point for your own
  arpo train my_rl.toml
  arpo train --resume runs/quickstart/rl                   goes on from the last checkpoint
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "train", "train a policy with reinforcement learning", _EXAMPLES)
    add_config_arguments(parser, "rl")
    add_resume_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train from a recipe, or go on with a run."""
    from arpo.config import dump_config
    from arpo.training.config import RlRun

    config = load_recipe_or_run(args, RlRun, "rl")
    if args.dry_run:
        result_console().out(dump_config(config), end="")
        return 0
    from arpo.training.rl import train_rl

    try:
        summary = train_rl(config, progress(), resume=args.resume is not None)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on from the last checkpoint with `arpo train --resume {config.out}`") from None
    print_summary(summary)
    return 0
