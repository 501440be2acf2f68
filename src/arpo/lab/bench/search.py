"""`arpo bench search`: building an index of synthetic passages, and searching it."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from arpo.errors import ToolError
from arpo.lab.bench.machine import machine
from arpo.lab.bench.programs import run_json
from arpo.lab.bench.report import Report
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.local import LocalIndex
from arpo.tracking.progress import Progress

_NUM_WORDS = 100_000
_ZIPF = 1.0
_PASSAGE_WORDS, _TITLE_WORDS, _QUERY_WORDS = 100, 3, 6
_BLOCK, _QUERY_BLOCKS = 1000, 20
_TOP_K = 3
_SEED = 0

SEARCH_REPORT = Report(
    command="arpo bench search",
    title="Speed of the local search",
    explanation=f"""\
Passages of {_PASSAGE_WORDS} words and titles of {_TITLE_WORDS}, as in wiki-18, drawn from {_NUM_WORDS:,} made-up words whose
frequencies fall as natural ones do (Zipf). *Build*: `arpo index build` from JSONL, in a new process; *peak* is the most
memory of that process, with the pages of the index it maps. A query is {_QUERY_WORDS} words of one passage, common ones
too, and gives {_TOP_K} pages with their best parts. *p50, p99*: one query after another. *Queries/s*: as many at a time as the
machine has cores, as the tool runs them.""",
    columns={
        "cases": {
            "documents": "passages",
            "build_seconds": "build, s",
            "documents_per_s": "passages/s",
            "build_peak_mb": "build's peak, MiB",
            "index_mb": "index, MiB",
            "query_p50_ms": "query, p50 ms",
            "query_p99_ms": "query, p99 ms",
            "queries_per_s": "queries/s",
            "at_a_time": "at a time",
        },
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchBenchOptions:
    """What to measure and how often."""

    sizes: Sequence[int]
    """Passages per index."""
    queries: int = 2000
    """Timed queries per number."""


def run(options: SearchBenchOptions, progress: Progress) -> dict[str, Any]:
    """Measure every size; return the content of the JSON file.

    Raises:
        RunError: a build failed.
    """
    cases: list[dict[str, Any]] = []
    with progress.phase("bench", total=len(options.sizes), unit="size") as phase:
        for size in options.sizes:
            with tempfile.TemporaryDirectory(prefix="arpo-bench-") as folder:
                cases.append(_measure(size, options.queries, Path(folder)))
            phase.advance(queries_per_s=cases[-1]["queries_per_s"])
    return {"machine": machine(), "cases": cases}


def _measure(size: int, num_queries: int, folder: Path) -> dict[str, Any]:
    corpus, out = folder / "corpus.jsonl", folder / "index"
    with corpus.open("w", encoding="utf-8") as file:
        for passage in make_passages(size):
            file.write(json.dumps(passage) + "\n")
    build = _build(corpus, out)
    queries = make_queries(num_queries, size)
    index = LocalIndex(LocalSearchConfig(index=out, top_k=_TOP_K))
    for query in queries[: num_queries // 10 + 1]:  # the index's files are read, and what is mapped once stays mapped
        index.find_now(query, _TOP_K)
    seconds = sorted(_timed(index, query) for query in queries)
    at_a_time = os.cpu_count() or 1
    started = time.perf_counter()
    asyncio.run(_ask_all(index, queries, at_a_time))
    return {
        "documents": size,
        "build_seconds": build["seconds"],
        "documents_per_s": size / build["seconds"],
        "build_peak_mb": build["peak_mb"],
        "index_mb": sum(path.stat().st_size for path in out.iterdir()) / 2**20,
        "query_p50_ms": 1000 * median(seconds),
        "query_p99_ms": 1000 * seconds[99 * len(seconds) // 100],
        "queries_per_s": num_queries / (time.perf_counter() - started),
        "at_a_time": at_a_time,
    }


def make_passages(number: int) -> Iterator[dict[str, str]]:
    """Passages, the same on every call; a larger number begins with those of a smaller one."""
    words = _words()
    for start in range(0, number, _BLOCK):
        drawn = words[_draw((_BLOCK, _TITLE_WORDS + _PASSAGE_WORDS), seed=start)]
        for row in range(min(_BLOCK, number - start)):
            title, text = drawn[row, :_TITLE_WORDS], drawn[row, _TITLE_WORDS:]
            yield {"id": str(start + row), "title": " ".join(title), "text": " ".join(text)}


def make_queries(number: int, num_passages: int) -> list[str]:
    """Queries; the words of each come from one passage."""
    words, rng = _words(), np.random.default_rng([_SEED, number])
    starts = rng.integers(-(-num_passages // _BLOCK), size=_QUERY_BLOCKS) * _BLOCK
    blocks = {start: _draw((_BLOCK, _TITLE_WORDS + _PASSAGE_WORDS), seed=start) for start in starts}
    queries: list[str] = []
    for start in rng.choice(starts, size=number):
        passage = blocks[start][rng.integers(min(_BLOCK, num_passages - start))]
        queries.append(" ".join(words[rng.choice(passage, _QUERY_WORDS, replace=False)]))
    return queries


def _draw(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Indices of words; the probability of the r-th word is proportional to r to the minus `_ZIPF`."""
    chances = np.cumsum(np.arange(1, _NUM_WORDS + 1) ** -_ZIPF)
    return np.searchsorted(chances, np.random.default_rng([_SEED, seed]).random(shape) * chances[-1])


def _words() -> np.ndarray:
    """Made-up words of three to nine letters."""
    rng = np.random.default_rng(_SEED)
    letters = rng.integers(97, 123, size=(_NUM_WORDS, 9), dtype=np.uint8)
    lengths = rng.integers(3, 10, size=_NUM_WORDS)
    return np.array([row[:n].tobytes().decode() for row, n in zip(letters, lengths, strict=True)], dtype=object)


def _build(corpus: Path, out: Path) -> dict[str, float]:
    """Build in a new process; return its seconds and its peak memory."""
    return run_json([sys.executable, "-c", _BUILD, corpus, out], "arpo bench search: the build")


_BUILD = """
import json, re, sys, time
from pathlib import Path
from arpo.tools.search.index import build_index
started = time.perf_counter()
build_index([Path(sys.argv[1])], Path(sys.argv[2]))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"seconds": time.perf_counter() - started, "peak_mb": int(peak.group(1)) / 1024}))
"""


def _timed(index: LocalIndex, query: str) -> float:
    started = time.perf_counter()
    if not index.find_now(query, _TOP_K):
        raise ToolError(f"arpo bench search: {query!r} found nothing")
    return time.perf_counter() - started


async def _ask_all(index: LocalIndex, queries: Sequence[str], at_a_time: int) -> None:
    left = iter(queries)

    async def work() -> None:
        for query in left:
            await index.find(query, _TOP_K)

    await asyncio.gather(*(work() for _ in range(at_a_time)))
