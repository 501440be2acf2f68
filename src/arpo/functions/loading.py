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

    def __init__(self, path: Path, root: Path, label: str) -> None:
        self.path = path
        self.root = root
        """Folder of the file; of a package's file, the folder that holds the package."""
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
    """Finds what a user's file imports from its own folder, before the installed packages and after Python's own modules.

    What other code imports it leaves alone.
    """

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder.find_spec`."""
        parent, _, last = name.rpartition(".")
        loader = _loader_of(sys.modules.get(parent)) if parent else _importing_loader()
        if loader is None or (not parent and name in sys.stdlib_module_names):
            return None
        for folder in map(Path, path or ()) if parent else [loader.root]:
            file = _file_of(folder, last)
            if file is not None:
                return _spec(name, file, loader.root, loader.label)
        return None


_FINDER = _Finder()
_own: dict[Path, dict[str, ModuleType]] = {}
"""Folder -> the modules of its files, by their names in `sys.modules`."""


def _importing_loader() -> _Loader | None:
    """The loader of the user's file whose code is importing just now; None: other code is."""
    frame = sys._getframe(2)  # that of `find_spec` is the first
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "importlib":
        frame = frame.f_back
    loader = getattr(frame.f_globals.get("__spec__"), "loader", None) if frame is not None else None
    return loader if isinstance(loader, _Loader) else None


def _file_of(folder: Path, name: str) -> Path | None:
    """The file of a module or package in a folder."""
    return next((file for file in (folder / name / "__init__.py", folder / f"{name}.py") if file.is_file()), None)


def _import_file(path: Path, label: str) -> tuple[ModuleType, tuple[SourceFile, ...]]:
    """The module of a file, and the files of its folder that it imports."""
    if not path.is_file():
        raise ConfigError(
            f"{label}: no such file; a path in a TOML file is relative to that file, on the command line and in Python "
            f"to the working directory"
        )
    require_own(path, label)
    with _imports_from(path.parent) as modules:
        name = _module_name(path, modules)
        module = modules.get(name) or _run(name, path, label)
    return module, tuple(_files_of(path, modules))


def _module_name(path: Path, modules: Mapping[str, ModuleType]) -> str:
    """The file's stem; with a part of a digest where Python or a package has a module of that name."""
    is_taken = path.stem in sys.stdlib_module_names or (path.stem in sys.modules and path.stem not in modules)
    return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}" if is_taken else path.stem


def _run(name: str, path: Path, label: str) -> ModuleType:
    spec = _spec(name, path, path.parent, label)
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


def _spec(name: str, file: Path, root: Path, label: str) -> ModuleSpec:
    places = [str(file.parent)] if file.name == "__init__.py" else None
    loader = _Loader(file, root, label)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=places)
    assert spec is not None
    return spec


@contextmanager
def _imports_from(folder: Path) -> Iterator[dict[str, ModuleType]]:
    """Let files import others of `folder`, each as it is now; yield the folder's modules. Other folders' give way meanwhile."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _collect()
    if any(not loader.is_current for loader in map(_loader_of, _own.get(folder, {}).values()) if loader is not None):
        _forget(_own.pop(folder))
    for other, modules in _own.items():
        if other != folder:
            _forget(modules)
    own = _own.setdefault(folder, {})
    sys.modules.update(own)
    try:
        yield own
    finally:
        _collect()
        for modules in _own.values():
            for name, module in modules.items():
                sys.modules.setdefault(name, module)


def _collect() -> None:
    """Note the modules of users' files that were imported since, inside functions too."""
    for name, module in list(sys.modules.items()):
        loader = _loader_of(module)
        if loader is not None:
            _own.setdefault(loader.root, {})[name] = module


def _forget(modules: Mapping[str, ModuleType]) -> None:
    for name, module in modules.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _loader_of(module: ModuleType | None) -> _Loader | None:
    """The loader of a module of a user's file; None for any other module."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return loader if isinstance(loader, _Loader) else None


def _files_of(main: Path, modules: Mapping[str, ModuleType]) -> Iterator[SourceFile]:
    """A file, and those of its folder that its `import` statements reach, wherever they stand; in the content that was run."""
    run = {loader.path: loader.content for loader in map(_loader_of, modules.values()) if loader is not None}
    waiting, seen = [main], {main}
    while waiting:
        path = waiting.pop()
        file = SourceFile(path, run[path] if path in run else path.read_bytes())
        yield file
        for found in _imported(file, main.parent):
            if found not in seen:
                seen.add(found)
                waiting.append(found)


def _imported(file: SourceFile, root: Path) -> Iterator[Path]:
    """The files below `root` that a file's import statements may mean, packages among them."""
    try:
        tree = ast.parse(file.content)
    except (SyntaxError, ValueError):  # a neighbour that was not run
        return
    for node in ast.walk(tree):
        folder, names = root, list[str]()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = file.path.parents[node.level - 1] if node.level else root
            names = [".".join(filter(None, [node.module, alias.name])) for alias in node.names]
        for name in names:
            yield from _files_on_the_way(folder, name, is_relative=folder != root)


def _files_on_the_way(folder: Path, name: str, *, is_relative: bool) -> Iterator[Path]:
    """The files of a dotted name's packages and module below a folder, as far as they are there."""
    first, *more = name.split(".")
    if not is_relative and first in sys.stdlib_module_names:
        return
    own = folder / "__init__.py"
    if is_relative and own.is_file():
        yield own
    for part in (first, *more):
        file = _file_of(folder, part)
        if file is None:
            return
        yield file
        folder = folder / part


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
