"""`arpo data`: checks files of tasks and conversations, and converts them."""

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, make_table, print_summary, progress, result_console
from arpo.cli.shown_rows import print_row
from arpo.errors import ConfigError

if TYPE_CHECKING:
    from arpo.data.check import CheckReport, Encoder, Finding, Kind, Lengths
    from arpo.data.overlap import OverlapIndex
    from arpo.data.rendering import RenderedRow

_EXAMPLES = """\
  arpo data check train.parquet valid.parquet --against benchmarks/*.jsonl
  arpo data check conversations.jsonl --model Qwen2.5-7B-Instruct --json
  arpo data check conversations.jsonl --config my_sft.toml --show 1
  arpo data check hf://datasets/OWNER/NAME/data/train
  arpo data convert saved_to_disk/ train.parquet
  arpo data convert valid.parquet clean.parquet --without benchmarks/*.jsonl
"""
_SOURCE = "a .parquet, .jsonl, .arrow or .json file, a folder of `datasets`, or hf://datasets/OWNER/NAME[@REVISION][/PATH]"
_BAR_WIDTH = 40
_FIRST_ROWS = 6


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "data", "check files of tasks and conversations, and convert them", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = add_command(
        actions, "check", "count rows, types and lengths; find bad rows, duplicates and overlap with evaluation sets", _EXAMPLES
    )
    check.add_argument("files", type=Path, nargs="+", metavar="FILE", help=_SOURCE)
    check.add_argument(
        "--against", type=Path, nargs="+", metavar="FILE",
        help="evaluation files whose questions must not be in FILE (default: those of the public release found beside it)",
    )  # fmt: skip
    check.add_argument(
        "--config", metavar="RECIPE",
        help="recipe or TOML file of a run: check rows as that run reads them (default: tags with search and python)",
    )  # fmt: skip
    check.add_argument(
        "--model", type=Path, metavar="DIR",
        help="model: lengths in its tokens, not characters, and its chat template (default: the model of --config)",
    )  # fmt: skip
    check.add_argument(
        "--show", type=int, default=0, metavar="N",
        help="print the first N rows after rendering, coloured by which tokens train; needs --config or --model",
    )  # fmt: skip
    check.add_argument("--json", action="store_true", help="print one JSON object with every finding, by file and row")
    check.set_defaults(run=run_check)
    convert = add_command(actions, "convert", "write the usable rows in the public RL schema, or as OpenAI messages", _EXAMPLES)
    convert.add_argument("input", type=Path, metavar="IN", help=_SOURCE)
    convert.add_argument("out", type=Path, metavar="OUT", help=".parquet or .jsonl file; a file already there is replaced")
    convert.add_argument(
        "--without", type=Path, nargs="+", metavar="FILE",
        help="leave out rows whose question is in these files, or nearly",
    )  # fmt: skip
    convert.set_defaults(run=run_convert)


def run_check(args: argparse.Namespace) -> int:
    """Check files; 1 when one of them holds nothing usable."""
    from arpo.cli.encoders import Encoders
    from arpo.data.check import check_data
    from arpo.data.overlap import OverlapIndex, find_benchmarks

    if args.show < 0:
        raise ConfigError(f"--show {args.show}: a number of rows, 1 or more")
    if args.show and args.config is None and args.model is None:
        raise ConfigError(
            "--show: rendering needs a protocol and a tokenizer; give --config RECIPE, for its protocol, tools and model, or "
            "--model DIR, with the tag protocol and its search and python"
        )
    against = args.against or sorted({benchmark for file in args.files for benchmark in find_benchmarks(file)})
    encoders = Encoders(args.config, args.model)
    shown: dict[Path, list[RenderedRow]] = {}
    with progress().phase("check", total=len(against) + len(args.files), unit="files") as phase, _quiet():
        evaluation = OverlapIndex.of_files(against) if against else None
        phase.advance(len(against))
        reports: list[CheckReport] = []
        for file in args.files:
            encoder = encoders.of_file(file)
            reports.append(check_data(file, evaluation, encoder and _token_counter(encoder), encoder))
            if encoder is not None and args.show:
                shown[file] = _render(file, encoder, args.show, reports[-1].kind)
            phase.advance()
    if args.json:
        result_console().out(json.dumps(_to_json(reports, evaluation, shown), ensure_ascii=False, indent=1))
    else:
        for report in reports:
            _print_report(report, compares=args.config is not None)
            for row in shown.get(report.path, ()):
                print_row(report.path, row, is_task=report.kind == "tasks")
        _print_evaluation(reports, evaluation)
    return int(any(report.num_usable == 0 for report in reports))


def run_convert(args: argparse.Namespace) -> int:
    """Convert a file."""
    from arpo.data.convert import convert_data
    from arpo.data.overlap import OverlapIndex

    with progress().phase("convert", total=None, unit="rows") as phase, _quiet():
        without = OverlapIndex.of_files(args.without) if args.without else None
        converted = convert_data(args.input, args.out, without)
        phase.advance(converted.num_rows)
    for bad in converted.dropped:
        result_console().print(f"left out: {bad}", markup=False, soft_wrap=True)
    counts = {"rows": converted.num_rows, "written": converted.num_written, "left out": len(converted.dropped)}
    print_summary({**counts, "file": str(args.out)})
    return 0


def _token_counter(encoder: "Encoder") -> Callable[[str], int]:
    return lambda text: len(encoder.tokenizer.encode_untrusted(text))


def _render(file: Path, encoder: "Encoder", number: int, kind: "Kind") -> "list[RenderedRow]":
    from arpo.data.rendering import render_rows
    from arpo.files.sources import open_source

    return render_rows(open_source(file), encoder.protocol, encoder.tokenizer, number, are_tasks=kind == "tasks")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the readers' warnings about repairs: the report has them, or the new file holds the repaired rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _to_json(
    reports: "Iterable[CheckReport]", evaluation: "OverlapIndex | None", shown: "Mapping[Path, list[RenderedRow]]"
) -> dict[str, Any]:
    files = [
        {
            "file": str(report.path), "kind": report.kind, "num_rows": report.num_rows, "num_usable": report.num_usable,
            "num_questions": report.num_questions,
            "schema": report.schema, "groups": report.groups, "counts": report.counts(),
            "overlaps": {str(path): counts for path, counts in report.overlaps.items()},
            "lengths": None if report.lengths is None else asdict(report.lengths),
            **({"shown": list(map(asdict, shown[report.path]))} if report.path in shown else {}),
            "findings": [{**asdict(finding), "path": str(finding.path)} for finding in report.findings],
        }
        for report in reports
    ]  # fmt: skip
    against = {} if evaluation is None else {str(path): number for path, number in evaluation.num_questions.items()}
    return {"files": files, "evaluation_questions": against}


def _print_report(report: "CheckReport", *, compares: bool) -> None:
    from arpo.data.check import FINDINGS
    from arpo.data.tasks import count_questions

    console = result_console()
    console.print(
        f"{report.path}: {report.num_usable} of {report.num_rows} rows are usable {report.kind}", style="bold", markup=False
    )
    if report.kind == "tasks" and (repeated := count_questions(report.num_usable, report.num_questions)):
        console.print(repeated, soft_wrap=True)
    _print_bad_rows([finding for finding in report.findings if finding.kind == "bad_row"])
    _print_system_messages(report, compares=compares)
    schema = make_table("key", "types")
    for key, types in report.schema.items():
        schema.add_row(key, ", ".join(types))
    console.print(schema)
    groups = make_table("source / ability" if report.kind == "tasks" else "tool results", ">rows")
    for group, number in report.groups.items():
        groups.add_row(group, str(number))
    console.print(groups)
    if report.lengths is not None:
        _print_lengths(report.lengths)
    findings = make_table("finding", ">rows", "first rows", "meaning")
    for kind, number in report.counts().items():
        rows = [str(finding.row) for finding in report.findings if finding.kind == kind][: _FIRST_ROWS + 1]
        first = ", ".join(rows[:_FIRST_ROWS]) + (", …" if len(rows) > _FIRST_ROWS else "")
        findings.add_row(kind, str(number), first, FINDINGS[kind])
    console.print(findings if findings.row_count else "no findings")
    console.print()


def _print_bad_rows(bad_rows: "Sequence[Finding]") -> None:
    """Print each reason for which rows are dropped, with the first rows."""
    reasons: dict[tuple[Path, str], list[int]] = {}
    for bad in bad_rows:
        reasons.setdefault((bad.path, bad.detail), []).append(bad.row)
    for (path, reason), rows in list(reasons.items())[:_FIRST_ROWS]:
        result_console().print(f"dropped: {path.name}, {_rows(rows)}: {reason}", markup=False, soft_wrap=True)
    if len(reasons) > _FIRST_ROWS:
        rest = sum(map(len, list(reasons.values())[_FIRST_ROWS:]))
        result_console().print(f"dropped: {rest} more rows for other reasons; --json has them all", soft_wrap=True)


def _rows(rows: Sequence[int]) -> str:
    """Numbers of rows, for a reader: `row 7`, `8 rows (1, 2, 3, 4, 5, 6, …)`."""
    first = ", ".join(map(str, rows[:_FIRST_ROWS])) + (", …" if len(rows) > _FIRST_ROWS else "")
    return f"row {first}" if len(rows) == 1 else f"{len(rows)} rows ({first})"


def _print_system_messages(report: "CheckReport", *, compares: bool) -> None:
    """Print how many rows bring a system message, and what in prompts contradicts the protocol."""
    if number := sum(report.system_messages.values()):
        different = f" ({len(report.system_messages)} different)" if len(report.system_messages) > 1 else ""
        hint = "" if compares else "; --config RECIPE compares it with the protocol of a run"
        text = f"system message of their own: {number} of {report.num_usable} rows{different}{hint}"
        result_console().print(text, markup=False, soft_wrap=True)
    faults = Counter(finding.detail for finding in report.findings if finding.kind == "contradicts_protocol")
    for fault, number in faults.most_common(_FIRST_ROWS):
        result_console().print(f"in {number} prompts {fault}", markup=False, soft_wrap=True)


def _print_lengths(lengths: "Lengths") -> None:
    facts = [f"mean {lengths.mean:.0f}", *(f"{name} {value}" for name, value in lengths.quantiles.items())]
    table = make_table(f">{lengths.unit} from", ">rows", ", ".join(facts))
    most = max(number for _, number in lengths.bins)
    for first, number in lengths.bins:
        table.add_row(str(first), str(number), "█" * -(-number * _BAR_WIDTH // most))
    result_console().print(table)


def _print_evaluation(reports: "Iterable[CheckReport]", evaluation: "OverlapIndex | None") -> None:
    """Print how many questions of each evaluation file are in each file."""
    console = result_console()
    if evaluation is None:
        console.print(
            "overlap with evaluation sets: not checked, as none lie beside the files; name some with --against", soft_wrap=True
        )
        return
    for bad in evaluation.bad_rows:
        console.print(f"not compared: {bad}", markup=False, soft_wrap=True)
    table = make_table("evaluation set", ">questions", "file", ">same", ">nearly the same")
    for path, number in evaluation.num_questions.items():
        for report in reports:
            same, near = (report.overlaps.get(path, {}).get(kind, 0) for kind in ("overlap", "near_overlap"))
            style = "bold red" if same or near else None
            table.add_row(str(path), str(number), str(report.path), str(same), str(near), style=style)
    console.print(table)
