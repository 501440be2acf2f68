"""`arpo eval`: a policy on held-out tasks."""

import argparse
from typing import Any

from arpo.cli.output import add_command, print_summary, progress, result_console
from arpo.cli.overrides import add_config_arguments, load_recipe

_EXAMPLES = """\
  arpo eval quickstart
  arpo eval quickstart --model=runs/quickstart/sft --out=runs/quickstart/eval_before
  arpo eval my_eval.toml --dry-run
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "eval", "evaluate a policy on held-out tasks", _EXAMPLES)
    add_config_arguments(parser, "eval")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate by the recipe."""
    from arpo.config import dump_config
    from arpo.evaluation.config import EvalRun

    config = load_recipe(args, EvalRun, "eval")
    if args.dry_run:
        result_console().out(dump_config(config), end="")
        return 0
    from arpo.evaluation.run import evaluate

    print_summary(evaluate(config, progress()))
    return 0
