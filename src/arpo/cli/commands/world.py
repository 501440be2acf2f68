"""`arpo world make`: the offline domain as files a user would bring, and the tiny policy."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, print_summary
from arpo.cli.overrides import to_overrides

_EXAMPLES = """\
  arpo world make --out runs/quickstart/world
  arpo world make --out runs/world-7 --seed 7
  arpo config docs world                                   every key that shapes a world
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "world", "make the offline domain: documents, tasks and a tiny policy", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = add_command(actions, "make", "write a world made from a seed into a folder", _EXAMPLES)
    make.add_argument("--out", type=Path, required=True, help="folder to write; the policy goes to its `policy` folder")
    make.add_argument("--seed", type=int, default=0, help="same seed, same files (default: %(default)s)")
    make.add_argument_group("configuration", "any key of `arpo config docs world` as --key=VALUE")
    make.set_defaults(run=run, takes_overrides=True)


def run(args: argparse.Namespace) -> int:
    """Make the world, then the policy whose tokenizer is trained on its documents."""
    from arpo.config import load_config
    from arpo.models.config import TinyPolicyConfig
    from arpo.world.config import WorldConfig
    from arpo.world.demonstration_texts import world_texts
    from arpo.world.make import make_world
    from arpo.world.tiny_policy import make_tiny_policy

    config = load_config(WorldConfig, None, [f"seed={args.seed}", *to_overrides(args.rest)])
    world = make_world(config, args.out)
    policy = make_tiny_policy(args.out / "policy", world_texts(args.out), TinyPolicyConfig(), config.seed)
    print_summary(asdict(world) | asdict(policy))
    return 0
