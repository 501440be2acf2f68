"""`arpo train`: reinforcement learning, new or resumed."""

import argparse
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, print_summary, progress
from arpo.cli.runs import add_run_arguments

if TYPE_CHECKING:
    from arpo.training.config import RlRun

_EXAMPLES = """\
  arpo train quickstart
  arpo train quickstart --rollout.group_size=8 --seed=1
  arpo train quickstart --dry-run > my_rl.toml             a starting point for your own
  arpo train my_rl.toml
  arpo train my_rl.toml --reward=my_reward.py:correct      a reward of your own
  arpo train --resume runs/quickstart/rl                   goes on from the last checkpoint
  arpo train --resume runs/mine --num_steps=200            makes the run longer
  arpo train --resume runs/mine --batching.max_tokens=16384 --tracking=wandb
                                                           changes what cannot change its past
  arpo train my_rl.toml --resume auto                      goes on with its run if there is one, else starts it
  arpo train --resume runs/mine --functions=copies         with the run's copies of functions that you changed since

A resumed run may change checkpoint, tracking, batching, threads and device; --num_steps=N makes it longer if its learning rate
is constant or optimizer.schedule_steps was set.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "train", "train a policy with reinforcement learning", _EXAMPLES)
    add_run_arguments(parser, "rl", start, resumes=True)


def start(args: argparse.Namespace, config: "RlRun") -> None:
    """Train from a recipe, or go on with a run."""
    from arpo.training.rl import train_rl

    print_summary(train_rl(config, progress(), resume=args.resume is not None, functions=args.functions))
