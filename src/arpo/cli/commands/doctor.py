"""`arpo doctor`: checks what works on this machine, or tells the memory of a run before it starts."""

import argparse
import asyncio
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape

from arpo.cli.memory import show_memory
from arpo.cli.output import add_command, make_table, result_console
from arpo.cli.overrides import to_overrides
from arpo.errors import ConfigError
from arpo.types import ToolResult

_EXAMPLES = """\
  arpo doctor                                              exit code 0 when everything required works
  arpo doctor --config my_rl.toml                          the memory of `arpo train my_rl.toml`, by phase
  arpo doctor --config my_sft.toml --model models/qwen     of another model; its config.json is enough
  arpo doctor --config my_rl.toml --memory 80 --ranks 8    on each of 8 processes with an 80 GB GPU of its own
  arpo doctor --config my_rl.toml --memory 80 --model.device=cuda --model.dtype=bfloat16 --model.lora.rank=16
                                                           what an 80 GB GPU would need, from a machine without one
"""
_MEMORY_HELP = """\
With --config: weights, masters, gradients, optimizer, activations, cache and the rest, by phase of a step, from the run's
configuration and the model's config.json alone; nothing is loaded. Exit code 2 where the largest phase exceeds the device.
Sizes are of tensors, in GB of 10^9 bytes: the program itself takes about 0.4 GB more (docs/memory.md)."""

Status = Literal["ok", "absent", "broken"]
_STYLES = {"ok": "green", "absent": "yellow", "broken": "bold red"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check."""

    status: Status
    """`absent`: optional and not installed; `broken`: required and not working."""
    detail: str
    advice: str = ""
    """What to do; empty: nothing."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "doctor", "check what works on this machine, or what memory a run takes", _EXAMPLES)
    options = "--config FILE [--model DIR] [--memory GB] [--ranks N] [--json] [--section.key=VALUE ...]"
    parser.usage = f"{parser.prog}\n       {parser.prog} {options}"
    memory = parser.add_argument_group("memory of a run", _MEMORY_HELP)
    memory.add_argument("--config", metavar="FILE", help="TOML file of `arpo train` or `arpo sft`, or a recipe of `arpo train`")
    memory.add_argument("--model", metavar="DIR", help="directory with the model's config.json (default: model.path of FILE)")
    memory.add_argument("--memory", type=float, metavar="GB", help="what the device has (default: what this machine's has)")
    memory.add_argument(
        "--ranks", type=int, metavar="N", help="processes that torchrun starts; --memory is of each one's device (default: 1)"
    )
    memory.add_argument("--json", action="store_true", help="print one JSON object, sizes in bytes")
    parser.set_defaults(run=run, takes_overrides=True)


def run(args: argparse.Namespace) -> int:
    """Tell the memory of a run, or run every check and print the table.

    Raises:
        ConfigError: an option of the memory without --config, or as `show_memory`.
    """
    overrides = to_overrides(args.rest)
    if args.config is not None:
        if args.ranks is not None and args.ranks < 1:
            raise ConfigError(f"arpo doctor --ranks={args.ranks}: give the number of processes, 1 or more")
        return show_memory(args.config, args.model, args.memory, args.ranks or 1, overrides, as_json=args.json)
    given = {"--model": args.model, "--memory": args.memory, "--ranks": args.ranks, "--json": args.json or None}
    without = [*(name for name, value in given.items() if value is not None), *(f"--{o.partition('=')[0]}" for o in overrides)]
    if without:
        raise ConfigError(f"arpo doctor {without[0]}: needs --config FILE, the configuration of the run whose memory is told")
    return _check_machine_parts()


def _check_machine_parts() -> int:
    console = result_console()
    table = make_table("", "status", "found", "what to do")
    findings = {name: _examine(check) for name, check in CHECKS.items()}
    for name, finding in findings.items():
        status = f"[{_STYLES[finding.status]}]{finding.status}[/]"
        table.add_row(name, status, escape(finding.detail), escape(finding.advice))
    console.print(table)
    broken = [name for name, finding in findings.items() if finding.status == "broken"]
    console.print(
        f"broken: {', '.join(broken)}" if broken else "everything required works: try `arpo quickstart`", markup=False
    )
    return 1 if broken else 0


def _examine(check: Callable[[], Finding]) -> Finding:
    """The check's finding; an exception means that the part does not work here."""
    try:
        return check()
    except Exception as error:  # a diagnosis must outlive any fault of what it examines
        return Finding(
            status="broken", detail=f"{type(error).__name__}: {error}", advice="reinstall with `make clean quickstart`"
        )


def _check_python() -> Finding:
    return Finding(status="ok", detail=f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _check_machine() -> Finding:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    advice = "the quickstart needs about 3 GiB" if gib < 3.5 else ""
    return Finding(status="ok", detail=f"{len(os.sched_getaffinity(0))} CPU cores, {gib:.0f} GiB memory", advice=advice)


def _check_bfloat16() -> Finding:
    from arpo.models.device import bfloat16_unit

    unit = bfloat16_unit()
    if unit is None:
        return Finding(status="absent", detail="none: bfloat16 halves memory and saves no time on this CPU")
    return Finding(status="ok", detail=unit)


def _check_torch() -> Finding:
    import torch

    loss = (torch.ones(2, 2, requires_grad=True) @ torch.ones(2, 2)).sum()
    loss.backward()
    return Finding(status="ok", detail=f"{torch.__version__}, {torch.get_num_threads()} threads")


def _check_transformers() -> Finding:
    from transformers import Qwen3ForCausalLM

    return Finding(status="ok", detail=f"{metadata.version('transformers')}, {Qwen3ForCausalLM.__name__} imports")


def _check_sandbox() -> Finding:
    from arpo.tools.python_sandbox import describe_isolation

    rows = describe_isolation()
    works = [f"{name}: {detail}" for name, is_working, detail in rows if is_working]
    advice = "\n".join(f"{name}: {detail}" for name, is_working, detail in rows if not is_working)
    return Finding(status="ok" if works else "broken", detail="\n".join(works) or "no isolation works", advice=advice)


def _check_python_call() -> Finding:
    result = _call("python", "print(sum(range(10)))")
    if result.status != "success" or result.content.strip() != "45":
        return Finding(status="broken", detail=f"{result.status}: {result.content}", advice="see the line `sandbox`")
    return Finding(status="ok", detail=f"sum(range(10)) -> 45 in {result.seconds * 1000:.0f} ms")


def _call(tool: str, text: str, *overrides: str) -> ToolResult:
    from arpo.cli.tools import call_tool, load_tools

    return asyncio.run(call_tool(load_tools(None, [f"{tool}={{}}", *overrides]), tool, text, None))


def _check_index() -> Finding:
    from arpo.tools.search.index import build_index

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus.jsonl")
        corpus.write_text('{"title": "Ada Moor", "text": "Ada Moor was born in Kelford."}\n', encoding="utf-8")
        build_index([corpus], Path(folder, "index"))
        result = _call("search", "Moor born", f"search.index={folder}/index")
    if "Kelford" not in result.content:
        return Finding(status="broken", detail=f"{result.status}: {result.content}", advice="reinstall tantivy")
    return Finding(status="ok", detail=f"tantivy {metadata.version('tantivy')}: built, searched and found")


def _check_extra(name: str, *packages: str) -> Finding:
    """Whether the packages of the extra `name` are installed; with none given, the package of the same name."""
    try:
        versions = [(package, metadata.version(package)) for package in packages or (name,)]
    except metadata.PackageNotFoundError:
        return Finding(status="absent", detail="optional", advice=f"pip install 'arpo[{name}]'")
    return Finding(status="ok", detail=", ".join(f"{p} {v}" if packages else v for p, v in versions))


def _check_gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(status="absent", detail="no CUDA device: training runs on the CPU")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding(status="ok", detail=", ".join(names))


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": _check_python,
    "machine": _check_machine,
    "bfloat16 matrix unit": _check_bfloat16,
    "torch": _check_torch,
    "transformers": _check_transformers,
    "sandbox": _check_sandbox,
    "python tool": _check_python_call,
    "search index": _check_index,
    **{extra: partial(_check_extra, extra) for extra in ("peft", "tensorboard", "wandb", "trackio", "mcp")},
    "gguf": partial(_check_extra, "gguf", "gguf", "accelerate"),
    "serve": partial(_check_extra, "serve", "starlette", "uvicorn"),
    "dense": partial(_check_extra, "dense", "sentence-transformers"),
    "web": partial(_check_extra, "web", "trafilatura", "lxml-html-clean", "pypdf"),
    "gpu": _check_gpu,
}
