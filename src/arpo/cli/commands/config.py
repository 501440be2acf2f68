"""`arpo config docs`: every configuration key with its type, default and meaning."""

import argparse
from collections import Counter
from typing import Any

from arpo.cli.kinds import KINDS, config_class
from arpo.cli.output import add_command, result_console
from arpo.config import config_keys

_EXAMPLES = """\
  arpo config docs                                         every key of every command
  arpo config docs rl                                      the keys of `arpo train`
  arpo config docs rl --markdown > rl.md
"""


_HEADING = "# Configuration\n\nEvery key of every command; `make docs` writes this page from the code.\n"


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "config", "explain configuration keys", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    docs = add_command(actions, "docs", "print every key with its type, default and meaning", _EXAMPLES)
    docs.add_argument("section", nargs="?", choices=list(KINDS), help="one command's keys (default: all)")
    docs.add_argument("--markdown", action="store_true", help="print the tables of docs/config.md")
    docs.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the keys."""
    names = [args.section] if args.section else list(KINDS)
    render = _markdown if args.markdown else _plain
    parts = [render(name) for name in names]
    if args.markdown and not args.section:
        parts.insert(0, _HEADING)
    result_console().out("\n".join(parts), end="")
    return 0


def _plain(name: str) -> str:
    lines = [f"{name}: the keys of `{KINDS[name][0]}`", ""]
    for key, kind, default, meaning in _rows(name):
        lines.append(f"  --{key}=  {kind}  [{default}]")
        lines += [f"      {line}" for line in meaning.splitlines()]
    return "\n".join(lines) + "\n"


def _markdown(name: str) -> str:
    lines = [f"## {name}: `{KINDS[name][0]}`", "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, meaning in _rows(name):
        cells = [f"`{key}`", f"`{kind}`", f"`{default}`", " ".join(meaning.split())]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _rows(name: str) -> list[tuple[str, str, str, str]]:
    """Key, type, default and meaning; a key that all types of a section share stands once."""
    keys = config_keys(config_class(name))
    rows = [(key, kind, "none" if default is None else str(default), meaning) for key, kind, default, meaning in keys]
    num_types = Counter(key.removesuffix(".type") for key, *_ in rows if key.endswith(".type"))
    times = Counter(rows)
    shared = {row for row in rows for name, n in num_types.items() if row[0].startswith(f"{name}.") and times[row] == n > 1}
    return [row for i, row in enumerate(rows) if row not in shared or row not in rows[:i]]
