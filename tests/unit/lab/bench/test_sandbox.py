"""The sandbox's figures are measured where it works, and a leak would show."""

from pathlib import Path

import pytest
from rich.console import Console

from arpo.errors import ToolError
from arpo.lab.bench import sandbox
from arpo.lab.bench.report import write_json
from arpo.lab.bench.sandbox import SANDBOX_REPORT, SandboxBenchOptions, run
from arpo.tracking.console import make_progress


@pytest.mark.slow
def test_figures_of_a_small_run_survive_the_file_and_nothing_is_left(tmp_path: Path):
    try:
        result = run(SandboxBenchOptions(calls=10, leak_calls=10), make_progress(Console(quiet=True)))
    except ToolError as error:
        pytest.skip(str(error))
    write_json({"command": "arpo bench sandbox", **result}, tmp_path / "f.json")
    read = SANDBOX_REPORT.read_json(tmp_path / "f.json")
    for case, leak in zip(read["cases"], read["leaks"], strict=True):
        assert 0 < case["call_median_ms"] <= case["call_p95_ms"]
        assert case["session_median_ms"] < case["branch_median_ms"]  # five programs are run again
        assert (leak["calls"], leak["processes"], leak["descriptors"], leak["folders"]) == (10, 0, 0, 0)


def test_isolation_that_does_not_work_is_left_out_and_none_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "PythonSandbox", _refuse)
    with pytest.raises(ToolError, match="install it"):
        run(SandboxBenchOptions(isolations=("bubblewrap",)), make_progress(Console(quiet=True)))


def _refuse(config: object) -> None:
    raise ToolError("install it")
