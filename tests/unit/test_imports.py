"""No circle among imports; whatever does not compute must import, and the command line answer, on a machine without torch."""

import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter

import grimp
import pytest

import arpo

NEEDS_TORCH = {
    "algorithms",
    "batching",
    "distributed",
    "evaluation",
    "inference",
    "lab",
    "models",
    "rollout",
    "training",
    "world",
}
BLOCK = "import sys; sys.modules['torch'] = None; "


def test_no_files_import_each_other():
    """Neither at their top nor inside functions, directly or by way of others."""
    graph = grimp.build_graph("arpo", cache_dir=None)
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def _modules() -> list[str]:
    """Every module outside the packages that compute, and the config modules of all."""
    names = [m.name for m in pkgutil.walk_packages(arpo.__path__, "arpo.", onerror=lambda _: None)]
    own_process = {n for n in names if n.endswith("__main__") or ".jail" in n}
    return [n for n in names if n not in own_process and (n.split(".")[1] not in NEEDS_TORCH or n.endswith(".config"))]


def _run_without_torch(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCK + program], capture_output=True, text=True, timeout=120, check=False)


def test_every_module_that_does_not_compute_imports_without_torch():
    names = _modules()
    assert "arpo.tree.tree" in names
    assert "arpo.cli.main" in names
    optional = ("tensorboard", "wandb", "trackio")
    program = f"""
import importlib
failed = []
for name in {names!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if name.rsplit(".", 1)[-1] not in {optional!r} or error.name == "torch":
            failed.append(f"{{name}}: {{error}}")
print("\\n".join(failed))
"""
    result = _run_without_torch(program)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


@pytest.mark.parametrize("arguments", ["--help", "train --help", "config docs", "train quickstart --dry-run", "algorithms"])
def test_the_command_line_explains_itself_without_torch(arguments: str):
    program = f"""
from arpo.cli.main import main
try:
    code = main({arguments.split()!r})
except SystemExit as stop:
    code = stop.code or 0
sys.exit(code)
"""
    result = _run_without_torch(program)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_official_client_waits_until_a_model_is_asked():
    """It takes longer to import than the command line needs to answer."""
    modules = ("arpo.cli.main", "arpo.tools.build", "arpo.rewards.judge.judge", "arpo.inference.openai_engine")
    program = f"import importlib, sys; [importlib.import_module(m) for m in {modules!r}]; print('openai' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
