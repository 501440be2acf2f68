"""`arpo tool`: lists the configured tools, or calls one by hand."""

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, result_console
from arpo.cli.overrides import place_tools, to_overrides

if TYPE_CHECKING:
    from arpo.tools.base import Tool
    from arpo.tools.config import ToolsConfig

EXIT_TOOL_FAILED = 1
_EXAMPLES = """\
  arpo tool call python "print(2**10)"
  arpo tool call python "while True: pass" --python.wall_s=1
  arpo tool call search "Ada Moor born" --search.index=runs/quickstart/index --search.top_k=5
  arpo tool call stock apples --functions.stock=my_tools.py:stock
                                                           a function of your own
  arpo tool list --config rl.toml                          the tools of a run, those of MCP servers too
  arpo tool call fetch --arguments '{"url": "https://example.org", "page": 2}' --config rl.toml
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "tool", "list the configured tools, or call one by hand", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    lists = add_command(actions, "list", "print every configured tool, what it does and its arguments", _EXAMPLES)
    lists.set_defaults(run=run_list)
    call = add_command(actions, "call", "call one tool and print what the model would read", _EXAMPLES)
    call.add_argument("name", metavar="TOOL", help="its name, as the model would write it")
    call.add_argument("text", metavar="TEXT", nargs="?", help="what the model would write between the tool's tags")
    call.add_argument("--arguments", metavar="JSON", help="the arguments as a JSON object, in place of TEXT")
    call.set_defaults(run=run_call)
    for action in (lists, call):
        action.add_argument("--config", type=Path, metavar="FILE", help="a run's TOML file, or one with a section [tools]")
        action.add_argument_group("configuration", "any key of `arpo config docs tools` as --section.key=VALUE")
        action.set_defaults(takes_overrides=True)


def run_list(args: argparse.Namespace) -> int:
    """Print the tools."""
    from arpo.cli.tools import load_tools
    from arpo.tools.config import ToolsConfig

    asyncio.run(_print_tools(load_tools(args.config, place_tools(ToolsConfig, to_overrides(args.rest)))))
    return 0


def run_call(args: argparse.Namespace) -> int:
    """Call one tool; without a file, its section need not be given."""
    from arpo.cli.tools import call_tool, load_tools
    from arpo.tools.config import ToolsConfig

    overrides = place_tools(ToolsConfig, to_overrides(args.rest))
    if args.config is None and args.name in ToolsConfig.model_fields:
        overrides = [f"{args.name}={{}}", *overrides]
    result = asyncio.run(call_tool(load_tools(args.config, overrides), args.name, args.text, args.arguments))
    console = result_console()
    console.out(result.content.rstrip("\n"))
    note = f"[{result.status}, {result.seconds * 1000:.0f} ms{', truncated' if result.truncated else ''}]"
    console.print(note, style="dim", markup=False)
    return 0 if result.status == "success" else EXIT_TOOL_FAILED


async def _print_tools(config: "ToolsConfig") -> None:
    from arpo.cli.tools import open_tools

    console = result_console()
    async with open_tools(config) as tools:
        for tool in tools.values():
            console.print(tool.name, style="bold", markup=False)
            for line in _describe(tool):
                console.print(f"  {line}", markup=False, soft_wrap=True)


def _describe(tool: "Tool") -> list[str]:
    lines = [str(tool.schema.get("description", "")) or "(no description)"]
    required = tool.schema.get("required", ())
    for name, about in tool.schema.get("properties", {}).items():
        kind = about.get("type") or ("one of " + ", ".join(map(str, about["enum"])) if "enum" in about else "see its schema")
        facts = f"{kind}" if name in required else f"{kind}, optional"
        lines.append(f"{name} ({facts})" + (f": {about['description']}" if about.get("description") else ""))
    return [*lines, "results are cached" if tool.is_cacheable else "results are not cached"]
