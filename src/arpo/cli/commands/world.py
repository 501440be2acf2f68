"""`arpo world`: the offline domain as files a user would bring, and the tiny policy."""

import argparse
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, print_summary, result_console
from arpo.cli.overrides import to_overrides

_EXAMPLES = """\
  arpo world make --out runs/quickstart/world
  arpo world make --out runs/world-7 --seed 7
  arpo world make --out runs/prose --style=natural         English prose for a pretrained model; no tiny policy
  arpo world make --recipe smollm2 --out runs/prose        by the keys of a recipe, or of a TOML file
  arpo world show runs/prose                               demonstrations, and how varied the texts are
  arpo config docs world                                   every key that shapes a world
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "world", "make the offline domain: documents, tasks and a tiny policy", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = add_command(actions, "make", "write a world made from a seed into a folder", _EXAMPLES)
    make.add_argument("--recipe", help="name of a shipped recipe, or a TOML file, with keys of the world (default: none)")
    make.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder to write; the tiny policy goes to its `policy` folder; none is made with --style=natural",
    )
    make.add_argument("--seed", type=int, default=0, help="same seed, same files (default: %(default)s)")
    make.add_argument_group("configuration", "any key of `arpo config docs world` as --key=VALUE")
    make.set_defaults(run=run_make, takes_overrides=True)
    show = add_command(actions, "show", "print demonstrations of a world and how varied its texts are", _EXAMPLES)
    show.add_argument("world", type=Path, help="folder that `arpo world make` wrote")
    show.add_argument(
        "--tasks", type=int, default=2, choices=range(101), metavar="N", help="training tasks to show (default: %(default)s)"
    )
    show.set_defaults(run=run_show)


def run_make(args: argparse.Namespace) -> int:
    """Make the world and, in the plain style, the policy whose tokenizer is trained on its documents."""
    from arpo.config import load_config
    from arpo.models.config import TinyPolicyConfig
    from arpo.recipes import find_recipe
    from arpo.world.config import WorldConfig
    from arpo.world.demonstration_texts import world_texts
    from arpo.world.make import make_world
    from arpo.world.tiny_policy import make_tiny_policy

    recipe = find_recipe(args.recipe, "world") if args.recipe is not None else None
    config = load_config(WorldConfig, recipe, [f"seed={args.seed}", *to_overrides(args.rest)])
    world = make_world(config, args.out)
    if config.style == "plain":
        policy = asdict(make_tiny_policy(args.out / "policy", world_texts(args.out), TinyPolicyConfig(), config.seed))
    else:
        policy = {"policy": f"none: style {config.style!r} is for a pretrained model"}
    print_summary(asdict(world) | policy)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print the first demonstrations, then the counts."""
    from arpo.world.variety import demonstrate, measure_variety

    variety = measure_variety(args.world)
    for texts in islice(demonstrate(args.world), args.tasks):
        result_console().print("\n".join(texts), "\n", markup=False, highlight=False, soft_wrap=True)
    print_summary(asdict(variety))
    return 0
