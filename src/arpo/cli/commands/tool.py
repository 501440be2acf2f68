"""`arpo tool`: one tool call by hand."""

import argparse
import asyncio
from typing import Any

from arpo.cli.output import add_command, result_console
from arpo.cli.overrides import to_overrides
from arpo.cli.tools import ARGUMENTS, call_tool

_EXAMPLES = """\
  arpo tool python "print(2**10)"
  arpo tool python "while True: pass" --python.wall_s=1
  arpo tool search "Ada Moor born" --search.index=runs/quickstart/index --search.top_k=5
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "tool", "run one tool by hand and print what the model would read", _EXAMPLES)
    parser.add_argument("name", metavar="TOOL", choices=list(ARGUMENTS), help=" or ".join(ARGUMENTS))
    parser.add_argument("argument", metavar="ARGUMENT", help="what the model would write between the tool's tags")
    parser.add_argument_group("configuration", "any key of `arpo config docs tools` as --section.key=VALUE")
    parser.set_defaults(run=run, takes_overrides=True)


def run(args: argparse.Namespace) -> int:
    """Run the tool once."""
    result = asyncio.run(call_tool(args.name, args.argument, to_overrides(args.rest)))
    console = result_console()
    console.out(result.content.rstrip("\n"))
    note = f"[{result.status}, {result.seconds * 1000:.0f} ms{', truncated' if result.truncated else ''}]"
    console.print(note, style="dim", markup=False)
    return 0
