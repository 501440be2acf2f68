"""`arpo sft`: supervised fine-tuning on conversations, tool results masked from the loss."""

import argparse
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, print_summary, progress
from arpo.cli.runs import add_run_arguments

if TYPE_CHECKING:
    from arpo.training.config import SftRun

_EXAMPLES = """\
  arpo sft quickstart
  arpo sft quickstart --optimizer.learning_rate=1e-3
  arpo sft my_sft.toml --dry-run
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "sft", "fine-tune a model on conversations (the cold start)", _EXAMPLES)
    add_run_arguments(parser, "sft", start)


def start(args: argparse.Namespace, config: "SftRun") -> None:
    """Train on the recipe's conversations."""
    from arpo.training.sft import train_sft

    print_summary(train_sft(config, progress()))
