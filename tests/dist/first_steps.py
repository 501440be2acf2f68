"""The first steps of somebody who installed the wheel: run by `make test-dist` with the Python of an empty environment.

Usage: python first_steps.py WHEEL SOURCE, with SOURCE the folder src/arpo that the wheel was built from.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

STEPS = (
    "arpo --version",
    "arpo doctor",
    "arpo init shop",
    "arpo sft sft.toml --num_epochs=1 --num_threads=1",
    "arpo train rl.toml --num_steps=2 --num_threads=1",
    "arpo eval eval.toml --num_samples=2 --num_threads=1",
    "arpo train quickstart --dry-run",
    "arpo train quickstart --algorithm=aepo --dry-run",
    "arpo eval react --dry-run",
)
"""In order; those after `arpo init` run in its folder."""


def check_files(wheel: Path, source: Path) -> None:
    """Raise unless the wheel holds every file of the source: recipes, presets, templates, prompts, and `py.typed`."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("arpo/") for name in archive.namelist() if name.startswith("arpo/")}
    files = {str(f.relative_to(source)) for f in source.rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    assert packed == files, f"missing: {sorted(files - packed)}; too many: {sorted(packed - files)}"
    assert "py.typed" in packed
    print(f"{wheel.name}: all {len(files)} files")


def take_steps(folder: Path) -> None:
    """Run the steps and check what they leave."""
    binary = Path(sys.executable).parent / "arpo"
    place = folder
    for step in STEPS:
        print(f"$ {step}", flush=True)
        done = subprocess.run([binary, *step.split()[1:]], cwd=place, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\n{done.stderr}\n{step}: exit code {done.returncode}")
        if step.startswith("arpo init"):
            place = folder / "shop"
    summary = json.loads((place / "runs" / "rl" / "summary.json").read_text())
    assert summary["num_steps"] == 2, summary
    where = subprocess.run(
        [sys.executable, "-c", "import arpo; print(arpo.__file__)"], cwd=place, capture_output=True, text=True, check=True
    )
    assert "site-packages" in where.stdout, where.stdout


if __name__ == "__main__":
    check_files(Path(sys.argv[1]), Path(sys.argv[2]))
    with tempfile.TemporaryDirectory() as temporary:
        take_steps(Path(temporary))
    print("the wheel works")
