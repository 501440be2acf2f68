"""`arpo benchmarks`: the table of benchmarks, and a check of a file of one."""

import argparse
import json
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, make_table, result_console

if TYPE_CHECKING:
    from arpo.data.benchmarks import Benchmark

_EXAMPLES = """\
  arpo benchmarks                                  one row per benchmark
  arpo benchmarks --json                           every column, for programs
  arpo benchmarks gaia                             one benchmark in full
  arpo benchmarks gaia --file data/gaia.jsonl      check a file, and count its questions by group
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "benchmarks", "list the papers' benchmarks, or check a file of one", _EXAMPLES)
    parser.add_argument("name", nargs="?", help="show this one in full")
    parser.add_argument("--file", type=Path, help="check that this file is the benchmark's: JSON lines or parquet")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table, one benchmark, or the check of a file."""
    from arpo.data.benchmarks import BENCHMARKS, find_benchmark
    from arpo.errors import ConfigError

    if args.file is not None and args.name is None:
        raise ConfigError(f"--file {args.file}: name its benchmark, e.g. `arpo benchmarks gaia --file {args.file}`")
    chosen = [find_benchmark(args.name)] if args.name else list(BENCHMARKS.values())
    if args.file is not None:
        _print_file(chosen[0], args.file, args.json)
    elif args.json:
        result_console().out(json.dumps([describe(benchmark) for benchmark in chosen], indent=2, ensure_ascii=False))
    elif args.name:
        _print_one(chosen[0])
    else:
        _print_table(chosen)
    return 0


def describe(benchmark: "Benchmark") -> dict[str, Any]:
    """A benchmark's columns as JSON values; its row forms with their fields alone."""
    plain = {field.name: getattr(benchmark, field.name) for field in fields(benchmark) if field.name != "forms"}
    return plain | {"forms": [{"name": form.name, "fields": dict(form.fields)} for form in benchmark.forms]}


def _print_table(benchmarks: "list[Benchmark]") -> None:
    from rich.box import SIMPLE

    table = make_table("name", "questions", "metric", "grader", "judge", "groups", box=SIMPLE, pad_edge=False)
    for b in benchmarks:
        size = str(b.size) if b.size == b.hub_size else f"{b.size or '?'} of {b.hub_size}"
        table.add_row(b.name, size, b.metric, b.grader, "yes" if b.has_judge else "no", b.group_key or "")
    console = result_console()
    console.print(table)
    console.out("arpo benchmarks NAME: source, split, licence and the fields of its rows")


def _print_one(benchmark: "Benchmark") -> None:
    console = result_console()
    for key, value in describe(benchmark).items():
        if key == "forms":
            for form in value:
                console.out(f"  rows, {form['name']:<10}{', '.join(f'{k}: {v}' for k, v in form['fields'].items())}")
        elif value not in (None, ""):
            console.out(f"  {key:<16}{value}")


def _print_file(benchmark: "Benchmark", path: Path, as_json: bool) -> None:
    from arpo.data.benchmarks import GROUP, read_benchmark

    file = read_benchmark(benchmark.name, path)
    groups = Counter(task.extra[GROUP] for task in file.tasks if GROUP in task.extra)
    console = result_console()
    if as_json:
        counts = {"benchmark": benchmark.name, "questions": len(file.tasks), "groups": dict(sorted(groups.items())),
                  "left_out": [str(bad) for bad in file.bad_rows]}  # fmt: skip
        console.out(json.dumps(counts, indent=2, ensure_ascii=False))
        return
    papers = f"; the papers' set has {benchmark.size}" if benchmark.size not in (None, len(file.tasks)) else ""
    console.out(f"{path}: {len(file.tasks)} questions of {benchmark.title}{papers}")
    for group, count in sorted(groups.items()):
        console.out(f"  {benchmark.group_key} {group}: {count}")
    for reason, count in Counter(bad.reason for bad in file.bad_rows).most_common():
        console.out(f"  left out, {count}: {reason}")
