"""`arpo doctor`: checks what works on this machine, and says how to mend the rest."""

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
from rich.table import Table

from arpo.cli.output import add_command, result_console
from arpo.types import ToolResult

_EXAMPLES = """\
  arpo doctor                                              exit code 0 when everything required works
"""

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
    parser = add_command(subparsers, "doctor", "check what works on this machine", _EXAMPLES)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run every check and print the table."""
    console = result_console()
    table = Table("", "status", "found", "what to do")
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
    **{extra: partial(_check_extra, extra) for extra in ("peft", "gguf", "tensorboard", "wandb", "trackio", "mcp")},
    "serve": partial(_check_extra, "serve", "starlette", "uvicorn"),
    "dense": partial(_check_extra, "dense", "sentence-transformers"),
    "web": partial(_check_extra, "web", "trafilatura", "lxml-html-clean", "pypdf"),
    "gpu": _check_gpu,
}
