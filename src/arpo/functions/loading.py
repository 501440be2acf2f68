"""Imports functions of one's own by file or module."""

import ast
import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from arpo.errors import ConfigError
from arpo.function_name import FunctionName
from arpo.functions.trust import require_own


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of code as it was run."""

    path: Path
    """Absolute."""
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """A function of one's own, or what else stands under its name."""

    value: Any
    files: tuple[SourceFile, ...]
    """Its file, and those of the same folder that it imports; of a module, the module's file alone. Empty for one in C."""


def load_function(name: FunctionName, label: str) -> OwnFunction:
    """The function of a name; its file is imported once for each content.

    A file may import others of its folder; no folder need be on `sys.path`. Compiled copies (`__pycache__`) are not used.

    Args:
        name: Its file's path is absolute.
        label: What messages call it, `reward.rule = 'my_reward.py:correct'`.

    Raises:
        ConfigError: file, module or function is not there; the file came with a model or a data set; or it cannot be imported.
    """
    module, files = _import_file(Path(name.source), label) if name.is_file else _import_module(name.source, label)
    where = name.source if name.is_file else str(getattr(module, "__file__", None) or module.__name__)
    if not hasattr(module, name.name):
        public = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        near = difflib.get_close_matches(name.name, public, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"its functions are {public}"
        raise ConfigError(f"{label}: {where} has no {name.name!r}; {hint}")
    return OwnFunction(getattr(module, name.name), files)


def describe_error(error: BaseException) -> str:
    """An error of foreign code on one line: type, message, and the last line of the file that was called first."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = (Path(__file__).parents[1], Path(importlib.__file__).parent)
    foreign = [frame for frame in frames if not any(folder in Path(frame.filename).parents for folder in own)]
    last = ([frame for frame in foreign if frame.filename == foreign[0].filename] or frames)[-1:]
    places = [(frame.filename, frame.lineno, frame.line) for frame in last]
    if isinstance(error, SyntaxError):
        places = [(error.filename, error.lineno, (error.text or "").strip())]
    where = "".join(f" at {file}:{number} ({line})" for file, number, line in places)
    return f"{' '.join(traceback.format_exception_only(error)[-1].split())}{where}"


class _Loader(Loader):
    """Runs the source of one file, which it keeps; `importlib`'s own would take a compiled copy beside it."""

    def __init__(self, path: Path, label: str) -> None:
        self.path = path
        self.label = label
        self.content = b""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the file."""
        require_own(self.path, self.label)
        self.content = self.path.read_bytes()
        exec(compile(self.content, str(self.path), "exec", dont_inherit=True), module.__dict__)

    @property
    def is_current(self) -> bool:
        """Whether the file still has the content that was run."""
        return self.path.is_file() and self.path.read_bytes() == self.content


class _Finder(MetaPathFinder):
    """Finds what a file imports from its own folder, before the installed packages and after Python's own modules."""

    def __init__(self, folder: Path, label: str) -> None:
        self._folder = folder
        self._label = label

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder.find_spec`."""
        parent, _, last = name.rpartition(".")
        if _loader_of(sys.modules.get(parent)) is not None or (not parent and name not in sys.stdlib_module_names):
            for folder in map(Path, path or ()) if parent else [self._folder]:
                for file in (folder / last / "__init__.py", folder / f"{last}.py"):
                    if file.is_file():
                        return _spec(name, file, self._label)
        return None


_own: dict[Path, dict[str, ModuleType]] = {}
"""Folder -> the modules of its files, by their names in `sys.modules`."""


def _import_file(path: Path, label: str) -> tuple[ModuleType, tuple[SourceFile, ...]]:
    """The module of a file, and the files of its folder that it imports."""
    if not path.is_file():
        raise ConfigError(
            f"{label}: no such file; a path in a TOML file is relative to that file, on the command line and in Python "
            f"to the working directory"
        )
    require_own(path, label)
    with _imports_from(path.parent, label) as modules:
        name = _module_name(path, modules)
        module = modules.get(name) or _run(name, path, label)
    return module, tuple(_files_of(module, modules))


def _module_name(path: Path, modules: Mapping[str, ModuleType]) -> str:
    """The file's stem; with a part of a digest where Python or a package has a module of that name."""
    is_taken = path.stem in sys.stdlib_module_names or (path.stem in sys.modules and path.stem not in modules)
    return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}" if is_taken else path.stem


def _run(name: str, path: Path, label: str) -> ModuleType:
    spec = _spec(name, path, label)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)  # pyright: ignore[reportOptionalMemberAccess]
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ConfigError) or not isinstance(error, Exception | SystemExit):
            raise
        raise ConfigError(f"{label}: importing {path.name} raised {describe_error(error)}") from error
    return module


def _spec(name: str, file: Path, label: str) -> ModuleSpec:
    places = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, loader=_Loader(file, label), submodule_search_locations=places)
    assert spec is not None
    return spec


@contextmanager
def _imports_from(folder: Path, label: str) -> Iterator[dict[str, ModuleType]]:
    """Let files import others of `folder`, each as it is now; yield the folder's modules. Other folders' give way meanwhile."""
    if any(not loader.is_current for loader in map(_loader_of, _own.get(folder, {}).values()) if loader is not None):
        _forget(_own.pop(folder))
    for other, modules in _own.items():
        if other != folder:
            _forget(modules)
    own = _own.setdefault(folder, {})
    sys.modules.update(own)
    finder = _Finder(folder, label)
    sys.meta_path.insert(0, finder)
    try:
        yield own
    finally:
        sys.meta_path.remove(finder)
        for name in sorted(name for name, module in list(sys.modules.items()) if _loader_of(module) is not None):
            parent = name.rpartition(".")[0]
            if parent in own or (not parent and _is_in(folder, sys.modules[name])):
                own[name] = sys.modules[name]
        for modules in _own.values():
            for name, module in modules.items():
                sys.modules.setdefault(name, module)


def _is_in(folder: Path, module: ModuleType) -> bool:
    """Whether a top-level module is a file or a package of a folder."""
    loader = _loader_of(module)
    return loader is not None and loader.path in (folder / loader.path.name, folder / loader.path.parent.name / "__init__.py")


def _forget(modules: Mapping[str, ModuleType]) -> None:
    for name, module in modules.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _loader_of(module: ModuleType | None) -> _Loader | None:
    """The loader of a module of a user's file; None for any other module."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return loader if isinstance(loader, _Loader) else None


def _files_of(main: ModuleType, modules: Mapping[str, ModuleType]) -> Iterator[SourceFile]:
    """The file of a module, and those of its folder that its `import` statements reach."""
    waiting, seen = [main], {main.__name__}
    while waiting:
        module = waiting.pop()
        loader = _loader_of(module)
        assert loader is not None
        yield SourceFile(loader.path, loader.content)
        for name in _imported(loader.content, module.__package__ or ""):
            if name in modules and name not in seen:
                seen.add(name)
                waiting.append(modules[name])


def _imported(content: bytes, package: str) -> Iterator[str]:
    """The dotted names that a file's import statements may mean, packages among them."""
    for node in ast.walk(ast.parse(content)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _import_module(name: str, label: str) -> tuple[ModuleType, tuple[SourceFile, ...]]:
    """A module by its dotted name, its packages one by one, each once it is known to be no download."""
    parts = name.split(".")
    module: ModuleType | None = None
    for end in range(1, len(parts) + 1):
        module = _import_part(".".join(parts[:end]), name, label)
    assert module is not None
    file = Path(getattr(module, "__file__", None) or "")
    return module, (SourceFile(file, file.read_bytes()),) if file.suffix == ".py" and file.is_file() else ()


def _import_part(part: str, name: str, label: str) -> ModuleType:
    try:
        if part in sys.modules:
            origin = getattr(sys.modules[part], "__file__", None)
        else:
            spec = importlib.util.find_spec(part)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {part!r}")
            origin = spec.origin if spec.has_location else None
        if origin is not None:
            require_own(Path(origin), label)
        return importlib.import_module(part)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{label}: {error}; the module's folder must be on PYTHONPATH or its package installed; a file needs neither: "
            f"{name.replace('.', '/')}.py:NAME"
        ) from error
    except (Exception, SystemExit) as error:  # foreign code
        raise ConfigError(f"{label}: importing {name} raised {describe_error(error)}") from error
