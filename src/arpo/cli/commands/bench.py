"""`arpo bench`: speed programs."""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from arpo.cli.output import add_command, make_table, progress, result_console
from arpo.errors import ConfigError, DataError
from arpo.files.whole import write_text

if TYPE_CHECKING:
    from arpo.lab.bench.report import Report
    from arpo.lab.bench.rollout import Shape

_ROLLOUT_EXAMPLES = """\
  arpo bench rollout --trajectories 256 --width 64 --model tiny
  arpo bench rollout --json runs/bench/rollout.json --curve
  arpo bench rollout --from runs/bench/rollout.json --markdown docs/results/rollout_speed.md
  arpo bench rollout --trl-python .venv-trl/bin/python
  arpo bench rollout --model DIR --dtype bfloat16 --trajectories 64 --width 64 --turn-tokens 50 --result-tokens 120 --only ours
  arpo bench rollout --model DIR --decoding 64 --decoding 16 --decoding 4 --repeats 1
"""
_TRAIN_EXAMPLES = """\
  arpo bench train --model tiny
  arpo bench train --trees runs/quickstart/rl/rollouts/step_000005.jsonl.zst --json runs/bench/train.json
  arpo bench train --case synthetic --leaf-length 1024 --leaf-length 4096 --sharing 2
  arpo bench train --from runs/bench/train.json --markdown runs/bench/training_speed.md
  arpo bench train --trl-python .venv-trl/bin/python
  arpo bench train --model MODEL_DIR --dtype bfloat16 --case agent --groups 1 --no-memory
  arpo bench train --device cuda --model 0.6b --leaf-length 16384 --peak-tflops 989
"""
_STEP_EXAMPLES = """\
  arpo bench step --model DIR --dtype float32 --dtype bfloat16 --trajectories 32 --json runs/bench/step.json
"""
_SANDBOX_EXAMPLES = """\
  arpo bench sandbox --json runs/bench/sandbox.json
  arpo bench sandbox --leak-calls 10000
  arpo bench sandbox --from runs/bench/sandbox.json --markdown docs/results/sandbox_speed.md
"""
_SEARCH_EXAMPLES = """\
  arpo bench search --json runs/bench/search.json
  arpo bench search --documents 100000 --queries 5000
  arpo bench search --from runs/bench/search.json --markdown docs/results/search_speed.md
"""
_GRADE_EXAMPLES = """\
  arpo bench grade --json runs/bench/grade.json
  arpo bench grade --answers 2000 --no-hostile
  arpo bench grade --from runs/bench/grade.json --markdown docs/results/graders.md
"""
_MEMORY_EXAMPLES = """\
  arpo bench memory --model 20m --model models/smollm2
  arpo bench memory --model models/smollm2 --dtype bfloat16 --variant full --phase update --json runs/bench/memory.json
  arpo bench memory --from runs/bench/memory.json --markdown docs/results/memory.md
"""
_Measure = Callable[[argparse.Namespace], Iterable[dict[str, Any]]]
_SIZES = ((64, 16), (256, 64), (1024, 256))
_CURVE = tuple((n, 64) for n in (64, 128, 256, 512, 1024, 2048, 4096))


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "bench",
        "measure speed against the bare model and against peers",
        _ROLLOUT_EXAMPLES
        + _TRAIN_EXAMPLES
        + _STEP_EXAMPLES
        + _SANDBOX_EXAMPLES
        + _SEARCH_EXAMPLES
        + _GRADE_EXAMPLES
        + _MEMORY_EXAMPLES,
    )
    programs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    _add_rollout(programs)
    _add_train(programs)
    _add_step(programs)
    _add_sandbox(programs)
    _add_search(programs)
    _add_grade(programs)
    _add_memory(programs)


def _add_rollout(programs: Any) -> None:
    parser = add_command(programs, "rollout", "sampling trajectories with tools", _ROLLOUT_EXAMPLES)
    parser.add_argument("--trajectories", type=int, help="trajectories of the one size to measure, a multiple of 16")
    parser.add_argument("--width", type=int, help="slots of that size, a multiple of 16 (default: a quarter of them)")
    parser.add_argument("--model", action="append", help="tiny, 20m, or as model.path; repeatable (default: tiny and 20m)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the weights (default: float32)")
    _add_shape(parser)
    parser.add_argument(
        "--decoding", action="append", type=int, metavar="BATCH",
        help="compare ours and the limit on one turn of BATCH trajectories at once instead, repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", choices=["ours", "limit", "naive", "one_turn"], help="contenders, repeatable (default: all)"
    )
    parser.add_argument("--limit-width", type=int, help="of the limit's batches (default: the fastest of some)")
    parser.add_argument("--latency", action="append", choices=["0", "long_tailed"], help="repeatable (default: both)")
    parser.add_argument(
        "--curve", action="store_true", help="also measure ours alone, without latency, from 64 to 4096 trajectories"
    )
    _add_common(parser, repeats=3)
    _add_files(parser, _measure_rollout, "rollout_report:ROLLOUT_REPORT")


def _add_shape(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turns", type=int, default=3, help="turns per trajectory (default: 3)")
    parser.add_argument("--prompt-tokens", type=int, default=32, help="of each task (default: 32)")
    parser.add_argument("--turn-tokens", type=int, default=32, help="sampled in each turn (default: 32)")
    parser.add_argument("--result-tokens", type=int, default=96, help="of each tool result (default: 96)")


def _add_step(programs: Any) -> None:
    parser = add_command(programs, "step", "a whole step of RL: rollout and training", _STEP_EXAMPLES)
    parser.add_argument("--model", default="tiny", help="tiny, 20m or a model directory (default: tiny)")
    parser.add_argument(
        "--dtype", action="append", choices=["float32", "bfloat16"], help="of the weights, repeatable (default: float32)"
    )
    parser.add_argument("--trajectories", type=int, default=64, help="a multiple of 16, all sampled at once (default: 64)")
    _add_shape(parser)
    parser.add_argument("--max-tokens", type=int, default=2048, help="of one forward pass of training (default: 2048)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    _add_files(parser, _measure_step, "step_report:STEP_REPORT")


def _add_train(programs: Any) -> None:
    parser = add_command(programs, "train", "one step's forward and backward passes over trees", _TRAIN_EXAMPLES)
    parser.add_argument(
        "--model", action="append", metavar="NAME|DIR",
        help="tiny, 20m, 0.6b or 1.7b with random weights, or a model directory; repeatable (default: tiny and 20m)",
    )  # fmt: skip
    parser.add_argument(
        "--case", action="append", choices=["quickstart", "synthetic", "agent"],
        help="trees of a quickstart step, one tree of 16 leaves, or groups of 16 with a real model's lengths; repeatable "
        "(default: quickstart and synthetic)",
    )  # fmt: skip
    parser.add_argument("--groups", type=int, help="groups of 16 of --case agent (default: 4)")
    parser.add_argument(
        "--contender", action="append", choices=["tree", "flat", "padded", "limit"], help="repeatable (default: all)"
    )
    parser.add_argument("--batch-tokens", type=int, metavar="N", help="tokens per pass (default: what suits each contender)")
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory, in two more processes per case")
    parser.add_argument(
        "--trees", type=Path, metavar="FILE",
        help="a quickstart run's rollouts/step_*.jsonl.zst (default: made-up trees of the same shape)",
    )  # fmt: skip
    parser.add_argument("--leaf-length", action="append", type=int, help="of synthetic trees, repeatable (default: 256)")
    parser.add_argument("--sharing", action="append", type=float, help="of synthetic trees, repeatable (default: 1 1.5 2 4)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float64"], help="of the weights (default: bfloat16 on a GPU, else float32)"
    )
    parser.add_argument("--peak-tflops", type=float, help="of the device in that format, for the model-FLOPs utilisation")
    _add_common(parser, repeats=5)
    _add_files(parser, _measure_train, "training_report:TRAINING_REPORT")


def _add_sandbox(programs: Any) -> None:
    parser = add_command(programs, "sandbox", "calls of the Python tool", _SANDBOX_EXAMPLES)
    parser.add_argument(
        "--isolation", action="append", choices=["bubblewrap", "landlock"], help="repeatable (default: those that work here)"
    )
    parser.add_argument("--calls", type=int, default=200, help="timed calls per number (default: 200)")
    parser.add_argument("--leak-calls", type=int, default=0, help="also count the leftovers of this many calls (default: 0)")
    _add_files(parser, _measure_sandbox, "sandbox:SANDBOX_REPORT")


def _add_search(programs: Any) -> None:
    parser = add_command(programs, "search", "building and searching an index", _SEARCH_EXAMPLES)
    parser.add_argument(
        "--documents", action="append", type=int, metavar="N",
        help="passages of an index, repeatable (default: 10000 100000 1000000)",
    )  # fmt: skip
    parser.add_argument("--queries", type=int, default=2000, help="timed queries per number (default: 2000)")
    _add_files(parser, _measure_search, "search:SEARCH_REPORT")


def _add_grade(programs: Any) -> None:
    parser = add_command(programs, "grade", "grading answers, hostile formulas too", _GRADE_EXAMPLES)
    parser.add_argument("--answers", type=int, default=20_000, help="answers per grader (default: 20000)")
    parser.add_argument("--no-hostile", action="store_true", help="skip the hostile formulas, which take half a minute")
    parser.add_argument("--references", type=int, metavar="N", help="references to rewrite and change (default: all)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the release's data, for its references")
    _add_files(parser, _measure_grade, "grade:GRADE_REPORT")


def _add_memory(programs: Any) -> None:
    parser = add_command(programs, "memory", "peak memory of training by phase, beside what doctor predicts", _MEMORY_EXAMPLES)
    parser.add_argument("--model", action="append", help="20m, tiny or a model directory, repeatable (default: 20m)")
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16"], help="repeatable (default: both)")
    variants = ["full", "full, checkpointing", "LoRA", "LoRA, checkpointing"]
    parser.add_argument("--variant", action="append", choices=variants, help="repeatable (default: all)")
    phases = ["sampling", "log-probs", "update"]
    parser.add_argument("--phase", action="append", choices=phases, help="repeatable (default: all)")
    parser.add_argument("--tokens", type=int, default=1024, help="packed tokens of a pass (default: 1024)")
    parser.add_argument("--repeats", type=int, default=3, help="runs, the largest counts (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    _add_files(parser, _measure_memory, "memory:MEMORY_REPORT")


def _add_common(parser: argparse.ArgumentParser, repeats: int) -> None:
    parser.add_argument("--repeats", type=int, default=repeats, help=f"runs in turn, the fastest counts (default: {repeats})")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    parser.add_argument("--trl-python", type=Path, help="interpreter of an environment with TRL; without it TRL is left out")


def _add_files(parser: argparse.ArgumentParser, measure: _Measure, report: str) -> None:
    """Let a program write and read files; `report` is `module:name` below `arpo.lab.bench`."""
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="show FILE of an earlier run instead of measuring"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write them as a page to FILE")
    parser.set_defaults(run=run, measure=measure, report=f"arpo.lab.bench.{report}")


def run(args: argparse.Namespace) -> int:
    """Measure, or read earlier results; then show them."""
    report: Report = resolve_name(args.report)
    return show_results(args, report, [report.read_json(args.source)] if args.source else args.measure(args))


def show_results(args: argparse.Namespace, report: "Report", results: Iterable[dict[str, Any]]) -> int:
    """Write the results each time there are more; print the last."""
    from arpo.lab.bench.report import write_json

    result: dict[str, Any] = {}
    for measured in results:
        result = {"command": shlex.join(["arpo", *sys.argv[1:]]), **measured}
        if args.json:
            write_json(result, args.json)
    for lines in report.tables(result):
        is_wide = len(lines[0]) >= len(lines)  # then a case is a column
        headings, *rows = zip(*lines, strict=True) if is_wide else lines
        table = make_table(*headings)
        for row in rows:
            table.add_row(*row)
        result_console().print(table)
    if args.markdown:
        write_text(args.markdown, report.markdown(result))
    return 0


def _measure_rollout(args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    from arpo.lab.bench.rollout import CONTENDERS, BenchOptions, make_cases, make_decoding_cases, run

    _prepare(args)
    _require("--limit-width", args.limit_width or 1, 1)
    sizes, shape = _SIZES, _shape(args)
    if args.trajectories:
        sizes = ((args.trajectories, args.width or max(16, args.trajectories // 64 * 16)),)
    models = [_rollout_model(name) for name in args.model or ["tiny", "20m"]]
    options = BenchOptions(
        cases=() if args.decoding else make_cases(models, sizes, args.latency or ["0", "long_tailed"], shape),
        curve=make_cases(models[:1], _CURVE, ["0"], shape) if args.curve else (),
        decoding=make_decoding_cases(models, args.decoding or (), shape),
        trl_python=args.trl_python,
        repeats=args.repeats,
        dtype=args.dtype,
        only=args.only or CONTENDERS,
        limit_width=args.limit_width,
    )
    return run(options, progress())


def _shape(args: argparse.Namespace) -> "Shape":
    from arpo.lab.bench.rollout import Shape

    for option in ("turns", "prompt_tokens", "turn_tokens", "result_tokens"):
        _require(f"--{option.replace('_', '-')}", getattr(args, option), 1)
    return Shape(
        num_turns=args.turns,
        prompt_tokens=args.prompt_tokens,
        turn_tokens=args.turn_tokens,
        observation_tokens=args.result_tokens,
    )


def _measure_step(args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    from arpo.lab.bench.rollout import make_cases
    from arpo.lab.bench.step import StepBenchOptions, run

    _set_threads(args)
    size = (args.trajectories, args.trajectories)
    (case,) = make_cases([_rollout_model(args.model)], [size], ["0"], _shape(args))
    _require("--max-tokens", args.max_tokens, case.workload().trajectory_tokens)
    return run(StepBenchOptions(case=case, dtypes=args.dtype or ["float32"], max_tokens=args.max_tokens), progress())


def _rollout_model(name: str) -> str:
    from arpo.models.source import find_model

    if name in ("tiny", "20m"):
        return name
    return str(find_model(Path(name), label=f"--model {name} (or tiny, 20m)", progress=progress()))


def _measure_train(args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    from arpo.lab.bench.train import TrainingBenchOptions, make_training_cases, run
    from arpo.models.device import require_device

    _prepare(args)
    args.device = require_device(args.device, "--device")
    cases = args.case or ["quickstart", "synthetic"]
    if args.trees and "quickstart" not in cases:
        raise ConfigError(f"--trees {args.trees} has no effect with --case synthetic; add --case quickstart or leave it out")
    if args.leaf_length and "synthetic" not in cases:
        raise ConfigError("--leaf-length has no effect without --case synthetic; add it or leave it out")
    if args.sharing and not {"synthetic", "agent"} & set(cases):
        raise ConfigError("--sharing has no effect with --case quickstart; add --case synthetic or --case agent")
    if args.groups is not None and "agent" not in cases:
        raise ConfigError(f"--groups {args.groups} has no effect without --case agent; add it or leave it out")
    for option, number in (("--groups", args.groups), ("--batch-tokens", args.batch_tokens)):
        _require(option, 1 if number is None else number, 1)
    contenders = args.contender or ["tree", "flat", "padded", "limit"]
    if not args.no_memory and not {"tree", "flat"} <= set(contenders):
        raise ConfigError("--contender: peak memory is that of tree and flat; name both, or add --no-memory")
    models, lengths = args.model or ["tiny", "20m"], args.leaf_length or [256]
    sharings = args.sharing or ([1.5, 2] if "agent" in cases else [1, 1.5, 2, 4])
    options = TrainingBenchOptions(
        cases=make_training_cases(models, cases, lengths, sharings, has_trees=args.trees is not None),
        contenders=contenders,
        batch_tokens=args.batch_tokens,
        groups=args.groups or 4,
        memory=not args.no_memory,
        trees=args.trees,
        trl_python=args.trl_python,
        repeats=args.repeats,
        device=args.device,
        dtype=args.dtype or ("float32" if args.device == "cpu" else "bfloat16"),
        peak_tflops=args.peak_tflops,
    )
    return run(options, progress())


def _measure_sandbox(args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    from arpo.lab.bench.sandbox import ISOLATIONS, SandboxBenchOptions, run

    _require("--calls", args.calls, 1)
    _require("--leak-calls", args.leak_calls, 0)
    options = SandboxBenchOptions(
        isolations=args.isolation or ISOLATIONS, calls=args.calls, leak_calls=args.leak_calls
    )  # fmt: skip
    return [run(options, progress())]


def _measure_search(args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    from arpo.lab.bench.search import SearchBenchOptions, run

    sizes = args.documents or [10_000, 100_000, 1_000_000]
    _require("--queries", args.queries, 1)
    _require("--documents", min(sizes), 1)
    return [run(SearchBenchOptions(sizes=sizes, queries=args.queries), progress())]


def _measure_grade(args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    from arpo.lab.bench.grade import GradeBenchOptions, run

    _require("--answers", args.answers, 100)
    if args.data is not None and not args.data.is_dir():
        raise DataError(f"--data {args.data}: no such folder; it holds train_10k.parquet, valid.parquet and benchmarks/")
    options = GradeBenchOptions(
        num_answers=args.answers, has_hostile=not args.no_hostile, num_references=args.references, data=args.data
    )
    return [run(options, progress())]


def _measure_memory(args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    from arpo.lab.bench.memory import PHASES, VARIANTS, MemoryBenchOptions, run

    _require("--tokens", args.tokens, 256)
    _require("--repeats", args.repeats, 1)
    _require("--threads", args.threads, 1)
    options = MemoryBenchOptions(
        models=args.model or ["20m"],
        dtypes=args.dtype or ["float32", "bfloat16"],
        variants=args.variant or tuple(VARIANTS),
        phases=args.phase or PHASES,
        max_tokens=args.tokens,
        repeats=args.repeats,
        num_threads=args.threads,
    )
    return run(options, progress())


def _prepare(args: argparse.Namespace) -> None:
    _require("--repeats", args.repeats, 1)
    _set_threads(args)


def _set_threads(args: argparse.Namespace) -> None:
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)


def _require(option: str, number: int, least: int) -> None:
    if number < least:
        raise ConfigError(f"{option} {number}: must be at least {least}")
