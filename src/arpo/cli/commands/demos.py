"""`arpo demos`: demonstrations written by a scripted agent that runs in the real loop."""

import argparse
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, print_summary, progress
from arpo.cli.runs import add_run_arguments

if TYPE_CHECKING:
    from arpo.world.config import DemosRun

_EXAMPLES = """\
  arpo demos quickstart
  arpo demos quickstart --seed=1 --dry-run
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "demos", "write SFT conversations with a scripted, imperfect demonstrator", _EXAMPLES)
    add_run_arguments(parser, "demos", start)


def start(args: argparse.Namespace, config: "DemosRun") -> None:
    """Run the demonstrator over the recipe's tasks."""
    from arpo.world.demonstrations import write_demos

    print_summary(write_demos(config, progress()))
