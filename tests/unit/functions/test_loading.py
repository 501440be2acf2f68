"""Functions by file and module: what is imported, once for each content, and what is refused in one line."""

import py_compile
import sys
from pathlib import Path

import pytest

from arpo.errors import ConfigError
from arpo.function_name import FunctionName
from arpo.functions.loading import load_function


def load(path: Path, name: str = "f"):
    return load_function(FunctionName(str(path), name), f"reward.rule = '{path.name}:{name}'")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, r"no such file; a path in a TOML file is relative to that file"),
        ("def f(:", r"importing mine\.py raised SyntaxError: .*mine\.py:1 \(def f\(:\)"),
        ("import no_such_package", r"raised ModuleNotFoundError: No module named 'no_such_package' at .*mine\.py:1"),
        ("x = 1\nlimit = {}['max']", r"raised KeyError: 'max' at .*mine\.py:2 \(limit = "),
        ("raise SystemExit(0)", r"raised SystemExit: 0 at .*mine\.py:1"),
        ("\0", r"importing mine\.py raised (SyntaxError|ValueError): "),
        ("x = '\udcff'", r"importing mine\.py raised (SyntaxError|UnicodeDecodeError): "),
        ("def g(t): return 1", r"mine\.py has no 'f'; its functions are \['g'\]"),
        ("def ff(t): return 1", r"did you mean 'ff'\?"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_in_one_line(tmp_path: Path, source, words):
    if source is not None:
        (tmp_path / "mine.py").write_bytes(source.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=words) as error:
        load(tmp_path / "mine.py")
    assert str(error.value).startswith("reward.rule = 'mine.py:f': ")
    assert "\n" not in str(error.value)
    if " raised " in str(error.value):
        assert getattr(sys.modules.get("mine"), "__file__", None) != str(tmp_path / "mine.py"), "no half module stays"


def test_a_file_is_imported_once_and_again_when_it_changed(tmp_path: Path):
    file = write(tmp_path / "mine.py", "calls = []\ndef f(): calls.append(1); return len(calls)\ndef g(): return len(calls)\n")
    assert load(file).value() == 1
    assert load(file, "g").value() == 1, "one module"
    write(file, "def f(): return 'new'\n")
    assert load(file).value() == "new"


def test_a_compiled_copy_is_not_run(tmp_path: Path):
    """Python itself runs a `.pyc` whose time and size fit, whatever the source says; and none is left behind."""
    file = write(tmp_path / "mine.py", "def f(): return 'bad'\n")
    compiled = py_compile.compile(str(file), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    write(file, "def f(): return 'own'\n")
    assert load(file).value() == "own"
    assert load(write(tmp_path / "other.py", "import mine\nf = mine.f\n")).value() == "own"
    assert [str(p) for p in tmp_path.rglob("*.pyc")] == [compiled]


def test_files_of_the_folder_are_imported_without_any_path(tmp_path: Path):
    write(tmp_path / "helpers.py", "import kit.deep\nfrom kit import two\nONE = kit.deep.ONE + two.ZERO\n")
    write(tmp_path / "kit/__init__.py", "from . import deep\n")
    write(tmp_path / "kit/deep.py", "ONE = 1\n")
    write(tmp_path / "kit/two.py", "from .deep import ONE\nZERO = ONE - 1\n")
    write(tmp_path / "unused.py", "")
    write(tmp_path / "json.py", "raise RuntimeError('Python has a json of its own')\n")
    file = write(tmp_path / "mine.py", "import json\nfrom helpers import ONE\ndef f(): return json.dumps(ONE)\n")
    before = list(sys.path)
    loaded = load(file)
    assert loaded.value() == "1"
    assert sys.path == before
    names = ["mine.py", "helpers.py", "kit/__init__.py", "kit/deep.py", "kit/two.py"]
    assert {str(f.path.relative_to(tmp_path)) for f in loaded.files} == set(names)
    assert all(f.content == f.path.read_bytes() for f in loaded.files)
    assert {str(f.path.relative_to(tmp_path)) for f in load(tmp_path / "unused.py", "__doc__").files} == {"unused.py"}
    write(tmp_path / "kit/deep.py", "ONE = 2\n")
    assert load(file).value() == "3", "2 + (2 - 1): what it imports has changed"


def test_imports_inside_functions_find_the_folder_too(tmp_path: Path):
    write(tmp_path / "late.py", "VALUE = 5\n")
    file = write(tmp_path / "mine.py", "def f():\n    import late\n    return late.VALUE\n")
    loaded = load(file)
    assert {f.path.name for f in loaded.files} == {"mine.py", "late.py"}, (
        "it belongs to the function, though it was not run yet"
    )
    assert "late" not in sys.modules
    assert loaded.value() == 5
    write(tmp_path / "late.py", "VALUE = 6\n")
    assert load(file).value() == 6


def test_installed_code_does_not_find_files_of_the_folder(tmp_path: Path, monkeypatch):
    """A library that asks for an optional module must not get a file of that name beside the function."""
    write(tmp_path / "site/a_library.py", "try:\n    import optional_part\nexcept ImportError:\n    optional_part = None\n")
    write(tmp_path / "own/optional_part.py", "raise RuntimeError('not meant')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    file = write(tmp_path / "own/mine.py", "import a_library\ndef f(): return a_library.optional_part\n")
    assert load(file).value() is None


def test_folders_do_not_mix_up_files_of_one_name(tmp_path: Path):
    for folder, value in (("a", 1), ("b", 2)):
        write(tmp_path / folder / "helpers.py", f"VALUE = {value}\n")
        write(
            tmp_path / folder / "mine.py",
            "import helpers\ncalls = []\ndef f(): calls.append(1); return helpers.VALUE, len(calls)\n",
        )
    a, b = tmp_path / "a" / "mine.py", tmp_path / "b" / "mine.py"
    assert [load(file).value() for file in (a, b, a, b)] == [(1, 1), (2, 1), (1, 2), (2, 2)]


def test_a_file_named_like_an_installed_module_hides_nothing(tmp_path: Path):
    import numpy

    assert load(write(tmp_path / "numpy.py", "def f(): return 'mine'\n")).value() == "mine"
    assert load(write(tmp_path / "math.py", "def f(): return 'mine'\n")).value() == "mine"
    assert sys.modules["numpy"] is numpy
    import math

    assert math.sqrt(4) == 2


def test_a_module_by_its_name(tmp_path: Path, monkeypatch):
    write(tmp_path / "own_pkg/__init__.py", "")
    write(tmp_path / "own_pkg/mod.py", "def f(): return 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = load_function(FunctionName("own_pkg.mod", "f"), "x")
    assert (loaded.value(), [file.path.name for file in loaded.files]) == (7, ["mod.py"])
    assert load_function(FunctionName("math", "sqrt"), "x").files == (), "written in C"
    with pytest.raises(ConfigError, match=r"x: No module named 'own_pkg.none'; .*PYTHONPATH"):
        load_function(FunctionName("own_pkg.none", "f"), "x")
    with pytest.raises(ConfigError, match=r"x: .*mod\.py has no 'g'; its functions are \['f'\]"):
        load_function(FunctionName("own_pkg.mod", "g"), "x")
