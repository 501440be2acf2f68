"""`arpo config docs`: every configuration key with its type, default and meaning."""

import argparse
from collections import Counter
from collections.abc import Callable
from typing import Any

from arpo.cli.output import add_command, result_console
from arpo.config import Config, config_keys

_EXAMPLES = """\
  arpo config docs                                         every key of every command
  arpo config docs rl                                      the keys of `arpo train`
  arpo config docs rl --markdown > rl.md
"""


def _world() -> type[Config]:
    from arpo.data.world.config import WorldConfig

    return WorldConfig


def _demos() -> type[Config]:
    from arpo.demonstrate.config import DemosRun

    return DemosRun


def _sft() -> type[Config]:
    from arpo.training.config import SftRun

    return SftRun


def _rl() -> type[Config]:
    from arpo.training.config import RlRun

    return RlRun


def _eval() -> type[Config]:
    from arpo.evaluation.config import EvalRun

    return EvalRun


def _rollout() -> type[Config]:
    from arpo.evaluation.config import RolloutRun

    return RolloutRun


def _tools() -> type[Config]:
    from arpo.tools.config import ToolsConfig

    return ToolsConfig


def _study() -> type[Config]:
    from arpo.study.config import StudyConfig

    return StudyConfig


SECTIONS: dict[str, tuple[str, Callable[[], type[Config]]]] = {
    "world": ("arpo world make", _world),
    "demos": ("arpo demos", _demos),
    "sft": ("arpo sft", _sft),
    "rl": ("arpo train", _rl),
    "rollout": ("arpo rollout", _rollout),
    "eval": ("arpo eval", _eval),
    "tools": ("arpo tool", _tools),
    "study": ("arpo study", _study),
}
"""Section name -> (the command it configures, where its class is)."""


_HEADING = "# Configuration\n\nEvery key of every command; `make docs` writes this page from the code.\n"


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "config", "explain configuration keys", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    docs = add_command(actions, "docs", "print every key with its type, default and meaning", _EXAMPLES)
    docs.add_argument("section", nargs="?", choices=list(SECTIONS), help="one command's keys (default: all)")
    docs.add_argument("--markdown", action="store_true", help="print the tables of docs/config.md")
    docs.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the keys."""
    names = [args.section] if args.section else list(SECTIONS)
    render = _markdown if args.markdown else _plain
    parts = [render(name, *SECTIONS[name]) for name in names]
    if args.markdown and not args.section:
        parts.insert(0, _HEADING)
    result_console().out("\n".join(parts), end="")
    return 0


def _plain(name: str, command: str, section: Callable[[], type[Config]]) -> str:
    lines = [f"{name}: the keys of `{command}`", ""]
    for key, kind, default, meaning in _rows(section):
        lines.append(f"  --{key}=  {kind}  [{default}]")
        lines += [f"      {line}" for line in meaning.splitlines()]
    return "\n".join(lines) + "\n"


def _markdown(name: str, command: str, section: Callable[[], type[Config]]) -> str:
    lines = [f"## {name}: `{command}`", "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, meaning in _rows(section):
        cells = [f"`{key}`", f"`{kind}`", f"`{default}`", " ".join(meaning.split())]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _rows(section: Callable[[], type[Config]]) -> list[tuple[str, str, str, str]]:
    """Key, type, default and meaning; a key that all types of a section share stands once."""
    keys = config_keys(section())
    rows = [(key, kind, "none" if default is None else str(default), meaning) for key, kind, default, meaning in keys]
    num_types = Counter(key.removesuffix(".type") for key, *_ in rows if key.endswith(".type"))
    times = Counter(rows)
    shared = {row for row in rows for name, n in num_types.items() if row[0].startswith(f"{name}.") and times[row] == n > 1}
    return [row for i, row in enumerate(rows) if row not in shared or row not in rows[:i]]
