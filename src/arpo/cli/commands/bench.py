"""`arpo bench`: speed programs."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from arpo.cli.output import add_command, progress, result_console

_EXAMPLES = """\
  arpo bench rollout --trajectories 256 --width 64 --model tiny
  arpo bench rollout --json runs/bench/rollout.json --curve
  arpo bench rollout --from runs/bench/rollout.json --markdown docs/results/rollout_speed.md
  arpo bench rollout --trl-python .venv-trl/bin/python
"""
_SIZES = ((64, 16), (256, 64), (1024, 256))
_CURVE = tuple((n, 64) for n in (64, 128, 256, 512, 1024, 2048, 4096))


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "bench", "measure speed against the bare model and against peers", _EXAMPLES)
    parser.add_argument("what", choices=["rollout"], help="`rollout`: growing trajectories with tools")
    parser.add_argument("--trajectories", type=int, help="trajectories of the one size to measure, a multiple of 16")
    parser.add_argument("--width", type=int, help="slots of that size, a multiple of 16 (default: a quarter of them)")
    parser.add_argument("--model", action="append", choices=["tiny", "20m"], help="repeatable (default: both)")
    parser.add_argument("--latency", action="append", choices=["0", "long_tailed"], help="repeatable (default: both)")
    parser.add_argument("--curve", action="store_true", help="also ours alone, without latency, from 64 to 4096 trajectories")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="show an earlier FILE instead of measuring")
    parser.add_argument("--repeats", type=int, default=3, help="runs of ours and of the limit, the fastest counts (default: 3)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    parser.add_argument("--trl-python", type=Path, help="interpreter of an environment with TRL; without it TRL is left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write them as a page for people to FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from rich.table import Table

    from arpo.bench.report import markdown, read_json, tables, write_json

    result = read_json(args.source) if args.source else {"command": shlex.join(["arpo", *sys.argv[1:]]), **_measure(args)}
    for lines in tables(result):
        first, *rest = zip(*lines, strict=True)  # a case per column: there are more figures than cases
        shown = Table(*first)
        for figures in rest:
            shown.add_row(*figures)
        result_console().print(shown)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(result, args.json)
    if args.markdown:
        args.markdown.write_text(markdown(result), encoding="utf-8")
    return 0


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from arpo.bench.rollout import BenchOptions, make_cases, run

    if args.threads:
        torch.set_num_threads(args.threads)
    sizes = _SIZES
    if args.trajectories:
        sizes = ((args.trajectories, args.width or max(16, args.trajectories // 64 * 16)),)
    models = args.model or ["tiny", "20m"]
    options = BenchOptions(
        cases=make_cases(models, sizes, args.latency or ["0", "long_tailed"]),
        curve=make_cases(models[:1], _CURVE, ["0"]) if args.curve else (),
        trl_python=args.trl_python,
        repeats=args.repeats,
    )
    return run(options, progress())
