"""`arpo view`: a run as one self-contained HTML page."""

import argparse
import json
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, result_console
from arpo.errors import ConfigError, DataError

_EXAMPLES = """\
  arpo view runs/quickstart/rl                             writes runs/quickstart/rl/report.html
  arpo view runs/quickstart/rl/rollouts/step_000010.jsonl.zst --out step_10.html
  arpo view runs/quickstart/rl --eval before=runs/quickstart/eval_before --eval after=runs/quickstart/eval_after
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "view", "write a run's curves and rollout trees as one HTML page", _EXAMPLES)
    parser.add_argument("run_path", type=Path, metavar="RUN", help="run directory, or one file of rollout trees")
    parser.add_argument("--out", type=Path, help="file to write (default: report.html in the run directory)")
    parser.add_argument("--title", default="arpo run", help="heading of the page (default: %(default)s)")
    parser.add_argument(
        "--eval",
        dest="evaluations",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="a row NAME of the comparison table, from the evaluation in DIR; repeatable",
    )
    parser.add_argument("--summary", type=Path, help="JSON file of values to show beside those of the run's summary.json")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="also draw accuracy and entropy as one picture")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    from arpo.viewer.report import write_report

    rows = [_read_evaluation(text) for text in args.evaluations]
    summary = _read_summary(args.summary, "`arpo quickstart` writes one") if args.summary else None
    folder = args.run_path if args.run_path.is_dir() else args.run_path.parent
    out = write_report(
        args.out or folder / "report.html", run=args.run_path, title=args.title, evaluations=rows, summary=summary
    )
    result_console().print(f"  {out}", markup=False, soft_wrap=True)
    if args.picture:
        from arpo.viewer.picture import write_picture

        result_console().print(f"  {write_picture(args.picture, args.run_path, summary)}", markup=False, soft_wrap=True)
    return 0


def _read_evaluation(text: str) -> dict[str, Any]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise ConfigError(f"--eval {text!r}: write it as NAME=DIR, e.g. --eval before=runs/quickstart/eval_before")
    summary = _read_summary(Path(folder, "summary.json"), "`arpo eval` writes it")
    return {"name": name, **summary}


def _read_summary(path: Path, origin: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read this summary ({error}); {origin}") from error
