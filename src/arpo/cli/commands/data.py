"""`arpo data`: checks files of tasks and conversations, and converts them."""

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, make_table, print_summary, progress, result_console

if TYPE_CHECKING:
    from arpo.data.check import CheckReport, Encoder, Lengths
    from arpo.data.overlap import OverlapIndex

_EXAMPLES = """\
  arpo data check train.parquet valid.parquet --against benchmarks/*.jsonl
  arpo data check conversations.jsonl --tokenizer Qwen2.5-7B-Instruct --json
  arpo data check conversations.jsonl --config my_sft.toml
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
    check.add_argument("--tokenizer", type=Path, metavar="DIR", help="model: lengths in its tokens, not characters")
    check.add_argument(
        "--config", metavar="RECIPE",
        help="sft recipe or TOML file: check conversations as that run reads them (default: tags with search and python)",
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
    from arpo.data.check import check_data
    from arpo.data.overlap import OverlapIndex, find_benchmarks

    against = args.against or sorted({benchmark for file in args.files for benchmark in find_benchmarks(file)})
    count_tokens = _token_counter(args.tokenizer)
    encoder = _encoder(args.config) if args.config else None
    with progress().phase("check", total=len(against) + len(args.files), unit="files") as phase, _quiet():
        evaluation = OverlapIndex.of_files(against) if against else None
        phase.advance(len(against))
        reports: list[CheckReport] = []
        for file in args.files:
            reports.append(check_data(file, evaluation, count_tokens, encoder))
            phase.advance()
    if args.json:
        result_console().out(json.dumps(_to_json(reports, evaluation), ensure_ascii=False, indent=1))
    else:
        for report in reports:
            _print_report(report)
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


def _token_counter(directory: Path | None) -> Callable[[str], int] | None:
    if directory is None:
        return None
    from arpo.models.source import find_model
    from arpo.protocols.encoding import PolicyTokenizer

    label = f"--tokenizer {directory}"
    tokenizer = PolicyTokenizer.load(find_model(directory, label=label, progress=progress(), needs_weights=False))
    return lambda text: len(tokenizer.encode_untrusted(text))


def _encoder(recipe: str) -> "Encoder":
    """The protocol and tokenizer of a supervised run."""
    from arpo.config import load_config
    from arpo.data.check import Encoder
    from arpo.models.source import find_run_model
    from arpo.protocols.build import build_protocol
    from arpo.protocols.encoding import PolicyTokenizer
    from arpo.recipes import find_recipe
    from arpo.tools.build import tool_schemas
    from arpo.training.config import SftRun

    config = load_config(SftRun, find_recipe(recipe, "sft"))
    _, local = find_run_model(config.model, progress(), needs_weights=False)
    tokenizer = PolicyTokenizer.load(local.path)
    return Encoder(build_protocol(config.protocol, tokenizer, tool_schemas(config.tools)), tokenizer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the readers' warnings about repairs: the report has them, or the new file holds the repaired rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _to_json(reports: "Iterable[CheckReport]", evaluation: "OverlapIndex | None") -> dict[str, Any]:
    files = [
        {
            "file": str(report.path), "kind": report.kind, "num_rows": report.num_rows, "num_usable": report.num_usable,
            "num_questions": report.num_questions,
            "schema": report.schema, "groups": report.groups, "counts": report.counts(),
            "overlaps": {str(path): counts for path, counts in report.overlaps.items()},
            "lengths": None if report.lengths is None else asdict(report.lengths),
            "findings": [{**asdict(finding), "path": str(finding.path)} for finding in report.findings],
        }
        for report in reports
    ]  # fmt: skip
    against = {} if evaluation is None else {str(path): number for path, number in evaluation.num_questions.items()}
    return {"files": files, "evaluation_questions": against}


def _print_report(report: "CheckReport") -> None:
    from arpo.data.check import FINDINGS
    from arpo.data.tasks import count_questions

    console = result_console()
    console.print(
        f"{report.path}: {report.num_usable} of {report.num_rows} rows are usable {report.kind}", style="bold", markup=False
    )
    if report.kind == "tasks" and (repeated := count_questions(report.num_usable, report.num_questions)):
        console.print(repeated, soft_wrap=True)
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
    bad_rows = [finding for finding in report.findings if finding.kind == "bad_row"]
    for bad in bad_rows[:_FIRST_ROWS]:
        console.print(f"{bad.path.name}, row {bad.row}: {bad.detail}", markup=False, soft_wrap=True)
    if len(bad_rows) > _FIRST_ROWS:
        console.print(f"and {len(bad_rows) - _FIRST_ROWS} more bad rows; --json has them all", soft_wrap=True)
    console.print()


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
