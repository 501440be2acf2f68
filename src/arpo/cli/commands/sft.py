"""`arpo sft`: supervised fine-tuning on conversations, tool results masked from the loss."""

import argparse
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, print_summary, progress
from arpo.cli.runs import add_run_arguments

if TYPE_CHECKING:
    from arpo.training.config import SftRun

_EXAMPLES = """\
  arpo sft quickstart
  arpo sft quickstart --dry-run > my_sft.toml              a starting point for your own
  arpo sft my_sft.toml --optimizer.learning_rate=1e-5
  arpo sft my_sft.toml --validation.fraction=0.05          holds some conversations out; RUN/best is the best on them
  arpo sft my_sft.toml --batch_tokens=32768 --batching.max_tokens=8192
                                                           updates of 32,768 tokens, 8,192 of them in memory at a time
  arpo sft --resume runs/quickstart/sft                    goes on from the last checkpoint
  arpo sft my_sft.toml --resume auto                       goes on with its run if there is one, else starts it

RUN/final is the trained model, a Hugging Face directory. Ctrl-C finishes the update, writes a checkpoint and says how to go on.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "sft", "fine-tune a model on conversations (the cold start)", _EXAMPLES)
    add_run_arguments(parser, "sft", start, resumes=True)


def start(args: argparse.Namespace, config: "SftRun") -> None:
    """Train on the recipe's conversations, or go on with a run."""
    from arpo.training.sft import train_sft

    print_summary(train_sft(config, progress(), resume=args.resume is not None, functions=args.functions))
