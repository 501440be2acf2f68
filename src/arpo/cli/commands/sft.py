"""`arpo sft`: supervised fine-tuning on conversations, tool results masked from the loss."""

import argparse
from typing import Any

from arpo.cli.output import add_command, print_summary, progress, result_console
from arpo.cli.overrides import add_config_arguments, load_recipe

_EXAMPLES = """\
  arpo sft quickstart
  arpo sft quickstart --optimizer.learning_rate=1e-3
  arpo sft my_sft.toml --dry-run
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "sft", "fine-tune a model on conversations (the cold start)", _EXAMPLES)
    add_config_arguments(parser, "sft")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train on the recipe's conversations."""
    from arpo.config import dump_config
    from arpo.training.config import SftRun

    config = load_recipe(args, SftRun, "sft")
    if args.dry_run:
        result_console().out(dump_config(config), end="")
        return 0
    from arpo.training.sft import train_sft

    print_summary(train_sft(config, progress()))
    return 0
