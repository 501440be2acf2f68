"""`arpo compare`: compares evaluations, with a test of each difference."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, result_console

if TYPE_CHECKING:
    from arpo.evaluation.compare import ComparedPair, Comparison

_EXAMPLES = """\
  arpo compare runs/quickstart/eval_before runs/quickstart/eval_after
  arpo compare runs/grpo runs/arpo runs/aepo --metric pass@4 --markdown
  arpo compare runs/a runs/b --metric tool_calls --json > comparison.json
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "compare", "compare evaluations on the questions they share", _EXAMPLES)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder that `arpo eval` wrote; two or more")
    parser.add_argument(
        "--metric",
        default="score",
        help="metric to compare: score, accuracy, exact_match, f1, tool_calls, tool_productivity, tokens, seconds, pass@K, "
        "maj@K, for instance (default: %(default)s)",
    )
    parser.add_argument(
        "--mode", choices=("greedy", "sampled"), help="which answers (default: greedy, where all runs have them)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON for programs")
    output.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare, and print the tables."""
    from dataclasses import asdict

    from arpo.evaluation.compare import compare

    comparison = compare(args.runs, metric=args.metric, mode=args.mode)
    if args.json:
        result_console().out(json.dumps(asdict(comparison), indent=2, ensure_ascii=False))
    elif args.markdown:
        result_console().out("\n".join(_markdown(comparison)))
    else:
        _print_tables(comparison)
    return 0


def _print_tables(comparison: "Comparison") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    console = result_console()
    for title, header, rows in _tables(comparison):
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        num_names = header.index("shared") if "shared" in header else 1
        for index, column in enumerate(header):
            is_name = index < num_names or column == "folder"
            is_number = not is_name and index < len(header) - 1
            table.add_column(column, justify="right" if is_number else "left", no_wrap=not is_name, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
    for sentence in _sentences(comparison):
        console.print(f"  {sentence}", markup=False, soft_wrap=True)


def _markdown(comparison: "Comparison") -> Iterator[str]:
    from arpo.viewer.markdown import markdown_table

    for title, header, rows in _tables(comparison):
        yield f"**{title}**\n"
        yield markdown_table(header, rows)
        yield ""
    yield from _sentences(comparison)


def _tables(comparison: "Comparison") -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows): the runs, then the pairs."""
    runs = [[r.name, _number(r.value), f"{r.num_questions:,}", r.path] for r in comparison.runs]
    yield f"{comparison.figure}, {comparison.mode} answers", ["run", "value", "questions", "folder"], runs
    header = ["A", "B", "shared", "of A", "of B", "B - A", "95 %", "p", "verdict"]
    yield "On the questions they share", header, [_pair_row(pair) for pair in comparison.pairs]


def _pair_row(pair: "ComparedPair") -> list[str]:
    interval = f"{_signed(pair.low)} {_signed(pair.high)}"
    numbers = [_number(pair.value_a), _number(pair.value_b), _signed(pair.difference), interval, _p(pair.p_holm)]
    verdict = "not shown" if not pair.is_real else ("B higher" if pair.difference > 0 else "A higher")
    return [pair.a, pair.b, f"{pair.num_shared:,}", *numbers, verdict]


def _sentences(comparison: "Comparison") -> Iterator[str]:
    """Sentences on different rules, on what was left out, and on how to read the table."""
    for key, values in comparison.different_rules.items():
        listed = ", ".join(f"{run}: {'not set' if value is None else value}" for run, value in values.items())
        yield f"different rules: {key} ({listed})"
    for pair in comparison.pairs:
        if pair.num_only_a or pair.num_only_b:
            yield (
                f"left out: {pair.num_only_a:,} questions of {pair.a} and {pair.num_only_b:,} of {pair.b} that the other has "
                "not (same id and text), or that say nothing of the figure there"
            )
    tests = {pair.test for pair in comparison.pairs}
    names = [name for key, name in (("mcnemar", "exact McNemar"), ("swap", "permutation that swaps the runs")) if key in tests]
    correction = f", corrected for {len(comparison.pairs)} pairs (Holm)" if len(comparison.pairs) > 1 else ""
    yield (
        f"test: {' or '.join(names)}{correction}; a difference is called real below p 0.05; intervals: paired bootstrap over "
        "questions, pair by pair"
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) < 10 else f"{value:+,.1f}"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
