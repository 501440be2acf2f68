"""`arpo demos`: demonstrations written by a scripted agent that runs in the real loop."""

import argparse
from typing import Any

from arpo.cli.output import add_command, print_summary, progress, result_console
from arpo.cli.overrides import add_config_arguments, load_recipe

_EXAMPLES = """\
  arpo demos quickstart
  arpo demos quickstart --seed=1 --dry-run
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "demos", "write SFT conversations with a scripted, imperfect demonstrator", _EXAMPLES)
    add_config_arguments(parser, "demos")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demonstrator over the recipe's tasks."""
    from arpo.config import dump_config
    from arpo.demonstrate.config import DemosRun

    config = load_recipe(args, DemosRun, "demos")
    if args.dry_run:
        result_console().out(dump_config(config), end="")
        return 0
    from arpo.demonstrate.run import write_demos

    print_summary(write_demos(config, progress()))
    return 0
