"""docs/equations.md names only functions, keys and tests that exist."""

import ast
from pathlib import Path

import pytest

from arpo.config import config_keys
from arpo.evaluation.config import EvalRun
from arpo.training.config import RlRun

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/equations.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| equation")
]


def test_every_row_has_its_four_cells():
    assert len(ROWS) >= 10
    assert all(len(row) == 4 for row in ROWS)


@pytest.mark.parametrize("function", [row[1] for row in ROWS])
def test_the_function_exists(function: str):
    path, _, name = function.partition(":")
    module = ast.parse((ROOT / "src/arpo" / path).read_text(encoding="utf-8"))
    assert name in {n.name for n in module.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("key", [row[2] for row in ROWS if row[2]])
def test_the_key_exists(key: str):
    assert key in {k for run in (RlRun, EvalRun) for k, *_ in config_keys(run)}


@pytest.mark.parametrize("test", [row[3] for row in ROWS])
def test_the_test_exists(test: str):
    assert (ROOT / test).is_file()
