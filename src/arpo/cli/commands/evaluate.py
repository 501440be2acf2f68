"""`arpo eval`: a policy on held-out tasks."""

import argparse
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, print_summary, progress, result_console
from arpo.cli.runs import add_run_arguments

if TYPE_CHECKING:
    from arpo.evaluation.config import EvalRun

_EXAMPLES = """\
  arpo eval quickstart
  arpo eval quickstart --model.path=runs/quickstart/sft/final --out=runs/quickstart/eval_before
  arpo eval my_eval.toml --dry-run
  arpo eval --resume runs/quickstart/eval_after            goes on with the questions that have no answer yet
  arpo compare runs/quickstart/eval_before runs/quickstart/eval_after
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "eval", "evaluate a policy on held-out tasks", _EXAMPLES)
    add_run_arguments(parser, "eval", start, resumes=True)


def start(args: argparse.Namespace, config: "EvalRun") -> None:
    """Evaluate by the recipe."""
    from arpo.evaluation.run import evaluate

    print_summary(evaluate(config, progress(), resume=args.resume is not None, functions=args.functions))
    result_console().print(f"  {config.out / 'report.html'}", markup=False, soft_wrap=True)
