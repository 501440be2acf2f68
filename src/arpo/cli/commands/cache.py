"""`arpo cache`: statistics, import, export and pruning of a result cache."""

import argparse
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, make_table, print_summary, result_console
from arpo.errors import ConfigError, DataError

_EXAMPLES = """\
  arpo cache stats runs/cache.sqlite
  arpo cache import runs/cache.sqlite search_cache.json
  arpo cache export runs/cache.sqlite results.jsonl
  arpo cache prune runs/cache.sqlite --older-than-days 30 --max-mb 500
"""
_DAY_S = 86_400.0


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "cache", "inspect, fill and prune a cache of tool results", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    stats = _add_action(actions, "stats", "count the results by tool")
    stats.set_defaults(run=run_stats)
    taken = _add_action(actions, "import", "add the results of a file")
    taken.add_argument(
        "file", type=Path, metavar="FILE",
        help="lines of `arpo cache export`, or one JSON object of query and result, as the public release's search_cache.json",
    )  # fmt: skip
    taken.add_argument("--tool", default="search", help="tool of an object's results (default: search)")
    taken.add_argument("--argument", default="query", help="argument of the tool that an object's keys hold (default: query)")
    taken.set_defaults(run=run_import)
    given = _add_action(actions, "export", "write the results as JSONL, without recordings")
    given.add_argument("file", type=Path, metavar="FILE", help="JSONL file to write")
    given.set_defaults(run=run_export)
    prune = _add_action(actions, "prune", "delete results and free their space")
    prune.add_argument("--older-than-days", type=float, metavar="DAYS", help="results older than this")
    prune.add_argument("--max-mb", type=float, metavar="MB", help="the least recently used, until this many MiB remain")
    prune.add_argument("--tool", help="results of this tool: all of them, or those of the age given")
    prune.add_argument("--recordings", action="store_true", help="every recorded call")
    prune.set_defaults(run=run_prune)


def _add_action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser = add_command(actions, name, summary, _EXAMPLES)
    parser.add_argument("cache", type=Path, metavar="CACHE", help="the cache's file: `tools.cache.path` of a run")
    return parser


def run_stats(args: argparse.Namespace) -> int:
    """Print the statistics."""
    from arpo.cache import Cache

    table = make_table("tool", "results", "MiB", "hits", "recorded calls")
    for name, tool in Cache(args.cache, "offline").statistics().items():
        table.add_row(name, f"{tool.entries}", f"{tool.bytes / 2**20:.2f}", f"{tool.hits}", f"{tool.recorded}")
    result_console().print(table)
    print_summary({"file": str(args.cache), "MiB on disk": _bytes_on_disk(args.cache) / 2**20})
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Add a file's results."""
    from arpo.cache import Cache
    from arpo.cache.transfer import import_results

    report = import_results(Cache(args.cache), args.file, args.tool, args.argument)
    for damage in report.damaged:
        result_console().print(f"left out: {damage}", markup=False, soft_wrap=True)
    print_summary({"imported": report.imported, "already there": report.already_there, "left out": len(report.damaged)})
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write the results."""
    from arpo.cache import Cache
    from arpo.cache.transfer import export_jsonl

    print_summary({"exported": export_jsonl(Cache(args.cache, "offline"), args.file), "file": str(args.file)})
    return 0


def run_prune(args: argparse.Namespace) -> int:
    """Delete results."""
    from arpo.cache import Cache

    if args.older_than_days is None and args.max_mb is None and args.tool is None and not args.recordings:
        raise ConfigError("arpo cache prune: name what to delete: --older-than-days, --max-mb, --tool or --recordings")
    if not args.cache.is_file():
        raise DataError(f"{args.cache}: there is no such cache")
    removed = Cache(args.cache).prune(
        max_age_s=args.older_than_days * _DAY_S if args.older_than_days is not None else None,
        max_bytes=int(args.max_mb * 2**20) if args.max_mb is not None else None,
        tool=args.tool,
        recordings=args.recordings,
    )
    print_summary({"deleted": removed, "MiB on disk": _bytes_on_disk(args.cache) / 2**20})
    return 0


def _bytes_on_disk(path: Path) -> int:
    return sum(p.stat().st_size for p in (path, path.with_name(path.name + "-wal")) if p.is_file())
