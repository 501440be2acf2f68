"""`arpo train`: reinforcement learning, new or resumed."""

import argparse
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, print_summary, progress, result_console
from arpo.cli.overrides import add_config_arguments, load_recipe
from arpo.errors import ConfigError, RunError

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
    parser.usage = f"{parser.prog} RECIPE [--dry-run] [--section.key=VALUE ...]\n       {parser.prog} --resume RUN"
    parser.add_argument("--resume", type=Path, metavar="RUN", help="run directory to go on with, by its own configuration")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train from a recipe, or go on with a run."""
    from arpo.config import dump_config
    from arpo.training.config import RlRun

    config = _resumed_config(args) if args.resume else load_recipe(args, RlRun, "rl")
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


def _resumed_config(args: argparse.Namespace) -> Any:
    from arpo.config import load_config
    from arpo.training.config import RlRun

    if args.recipe or args.rest:
        given = args.recipe or args.rest[0]
        raise ConfigError(f"arpo train --resume: {given!r} has no place here; a resumed run keeps its own configuration")
    path = args.resume / "config.toml"
    if not path.is_file():
        raise RunError(f"{args.resume}: not a run directory (it has no config.toml)")
    return load_config(RlRun, path).model_copy(update={"out": args.resume})  # it may have been moved
