"""The search's figures are of the passages they name, and survive the file."""

from itertools import islice
from pathlib import Path

from rich.console import Console

from arpo.lab.bench.report import write_json
from arpo.lab.bench.search import SEARCH_REPORT, SearchBenchOptions, make_passages, make_queries, run
from arpo.tracking.console import make_progress


def test_figures_of_a_small_run_survive_the_file(tmp_path: Path):
    result = run(SearchBenchOptions(sizes=[300], queries=20), make_progress(Console(quiet=True)))
    write_json({"command": "arpo bench search", **result}, tmp_path / "f.json")
    (case,) = SEARCH_REPORT.read_json(tmp_path / "f.json")["cases"]
    assert case["documents"] == 300
    assert 0 < case["query_p50_ms"] <= case["query_p99_ms"]
    assert min(case[key] for key in ("documents_per_s", "build_peak_mb", "index_mb", "queries_per_s")) > 0


def test_passages_are_the_same_each_time_and_queries_stand_in_one():
    few, many = list(make_passages(1200)), list(islice(make_passages(5000), 1200))
    assert few == many
    assert len({p["id"] for p in few}) == 1200
    assert {len(p["text"].split()) for p in few} == {100}
    for query in make_queries(5, 1200):
        assert any(set(query.split()) <= {*p["text"].split(), *p["title"].split()} for p in few)
