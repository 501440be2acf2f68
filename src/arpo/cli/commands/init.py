"""`arpo init`: a folder to begin with."""

import argparse
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, result_console
from arpo.errors import ConfigError

_EXAMPLES = """\
  arpo init shop                                           the folder shop
  arpo init shop --out projects                            the folder projects/shop

The folder holds sft.toml, rl.toml and eval.toml with comments on their keys, a reward (my_reward.py), a tool (my_tools.py), a
few conversations and tasks, and a tiny model, with which everything runs at once on a CPU, offline. Then change one thing after
the other: the model in sft.toml, the data, the tool, the reward. Nothing is ever overwritten.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "init", "write a folder to begin with: configurations, a reward, a tool, data", _EXAMPLES)
    parser.add_argument("name", metavar="NAME", help="name of the new folder")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to make it (default: here)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the folder; print what is in it and what to run."""
    from arpo.cli.starter_files import COMMANDS, write_starter

    if args.name in ("", ".", "..") or Path(args.name).name != args.name:
        raise ConfigError(f"arpo init {args.name!r}: NAME is the name of one new folder; --out DIR says where to make it")
    folder = args.out / args.name
    names = write_starter(folder)
    console = result_console()
    console.print(f"{folder}: {', '.join(names)}", markup=False, soft_wrap=True)
    console.print("\nnext, a minute in all:", markup=False)
    for command in (f"cd {folder}", *COMMANDS):
        console.print(f"  {command}", markup=False, soft_wrap=True)
    return 0
