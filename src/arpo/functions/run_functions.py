"""The functions of one's own of a run: which may be run, and what the run keeps of them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from arpo.config import Config, function_names, map_functions
from arpo.errors import ConfigError, RunError
from arpo.function_name import FunctionName
from arpo.functions.loading import OwnFunction, load_function
from arpo.functions.record import FOLDER, Record, digest_of, read_record, write_record

C = TypeVar("C", bound=Config)
FunctionFiles = Literal["same", "copies", "files"]
"""Which files of functions a run that goes on may use: `same`: those of its beginning, which must be unchanged; `copies`: the
copies in the run's folder; `files`: those of its beginning as they are now."""


class RunFunctions(Generic[C]):
    """The functions that a run's configuration names, imported.

    Example:
        functions = RunFunctions(config, resume=True, files="same")
        trainer = Trainer(functions.in_force(config))
        functions.keep()
    """

    def __init__(
        self,
        config: C,
        *,
        resume: bool,
        files: FunctionFiles = "same",
        reward_fn: object = None,
        tools: Iterable[str] = (),
        policy: Path | None = None,
    ) -> None:
        """Import the functions, if the run's record allows it.

        Args:
            config: The run, with its folder as `out`.
            resume: Whether it goes on; its functions must then be those of its record.
            files: Where from; `same` demands unchanged files.
            reward_fn: The reward that was given from Python; None: none was.
            tools: Names of the tools that were given from Python.
            policy: The model that is evaluated; where it comes out of a training run, a new evaluation uses the files of that
                run's record only as `files` says.

        Raises:
            ConfigError: a function cannot be imported, or comes with a model or a data set; or `files` has no effect.
            RunError: a file has changed since, or a function is missing that was given from Python.
        """
        if files not in get_args(FunctionFiles):
            raise ConfigError(f"functions = {files!r}: use 'same', 'copies' or 'files'")
        self._run: Path = getattr(config, "out")  # noqa: B009 (not every Config has it, every run's has)
        self._given = [*(["reward_fn"] if reward_fn is not None else []), *sorted(f"tools.{name}" for name in tools)]
        names = function_names(config)
        record = self._own_record(names) if resume else _trained_record(policy, names)
        if files != "same" and (record is None or not (record.functions or names)):
            raise ConfigError(f"functions = {files!r} has no effect: no functions are kept with this run; leave it out")
        if record is not None and files == "same":
            _require_same(record, names if resume else None)
        self._copies = _checked_copies(record) if record is not None and files == "copies" else {}
        self._is_kept = resume and files == "copies"
        self._functions = {key: self._load(config, key, self._copied(name)) for key, name in names.items()}
        if record is not None and files != "files":
            known = {kept.path for kept in record.files}
            self._require_recorded(record, {key for key, name in names.items() if resume or name.source in known})

    def in_force(self, config: C) -> C:
        """The configuration with the files that are run: the copies, where these were asked for."""
        return map_functions(config, lambda _, name: self._copied(name))

    def keep(self) -> None:
        """Copy the files into the run's folder."""
        if not self._is_kept:
            write_record(self._run, self._functions, self._given)

    def _copied(self, name: FunctionName) -> FunctionName:
        copy = self._copies.get(name.source)
        return name if copy is None else FunctionName(str(copy.resolve()), name.name)

    def _load(self, config: Config, key: str, name: FunctionName) -> tuple[str, OwnFunction]:
        label = f"{key} = {str(name)!r}"
        if name.is_file:
            _require_outside_data(config, Path(name.source), label)
        return str(name), load_function(name, label)

    def _own_record(self, names: Mapping[str, FunctionName]) -> Record | None:
        """The record of a run that goes on; an empty one where the run names functions without a record."""
        if not (self._run / "config.toml").is_file():
            return None
        record = read_record(self._run)
        self._require_given(set(record.given) if record is not None else set())
        return record or (Record(self._run / FOLDER) if names else None)

    def _require_given(self, before: set[str]) -> None:
        """Raise where a run goes on without, or with other, functions given from Python."""
        if missing := sorted(before - {*self._given}):
            raise RunError(
                f"{self._run}: began in Python with {', '.join(missing)}, which its configuration does not hold; go on in "
                f"Python with resume=True and the same arguments (functions that the configuration names need none)"
            )
        if added := sorted({*self._given} - before):
            raise RunError(f"{self._run}: began without {', '.join(added)}; go on without, or begin a new run")

    def _require_recorded(self, record: Record, known: set[str]) -> None:
        """Raise where a file was imported that the record has otherwise, or that is new in a folder of its files.

        Args:
            record: Of the run, or of the run that trained the policy.
            known: Keys of the functions whose files the record has; an evaluation may bring others, all of whose files are new.
        """
        digests = {kept.path: kept.sha256 for kept in record.files}
        digests |= {str(copy.resolve()): digests[path] for path, copy in record.copies.items()}
        folders = {Path(path).parent for path in digests}
        for key, (_, function) in self._functions.items():
            for file in function.files:
                is_new = key in known and str(file.path) not in digests and not folders.isdisjoint(file.path.parents)
                if is_new or digests.get(str(file.path), file.digest) != file.digest:
                    raise _changed(record, f"{file.path}, which is imported now, {'is new' if is_new else 'has changed'}")


def _trained_record(policy: Path | None, names: Mapping[str, FunctionName]) -> Record | None:
    """What the training run of a policy keeps of the files that the names name too."""
    if policy is None:
        return None
    runs = (folder for folder in policy.resolve().parents[:3] if (folder / "config.toml").is_file())
    run = next(runs, None)
    record = read_record(run) if run is not None else None
    named = {name.source for name in names.values()}
    return record if record is not None and any(kept.path in named for kept in record.files) else None


def _require_same(record: Record, names: Mapping[str, FunctionName] | None) -> None:
    """Raise where a function or a file is not that of the record; None: another run's names, of which files alone count."""
    for key in sorted({*names, *record.functions}) if names is not None else ():
        now, before = str(names.get(key, "missing")) if names else "missing", record.functions.get(key, "missing")
        if now != before:
            raise _changed(record, f"{key} was {before} and is {now}")
    for kept in record.files:
        digest = digest_of(Path(kept.path))
        if digest != kept.sha256:
            raise _changed(record, f"{kept.path} {'is not there any more' if digest is None else 'has changed'}")


def _changed(record: Record, what: str) -> RunError:
    run, copies = record.folder.parent, ""
    if record.files:
        run, copies = run.parent, f", or --functions=copies to use the copies that the run keeps ({record.folder})"
    return RunError(
        f"{run}: {what} since this run began; restore it, or add --functions=files (in Python functions='files') to use the "
        f"files as they are now{copies}"
    )


def _checked_copies(record: Record) -> dict[str, Path]:
    """The copies of a record by the paths of their files.

    Raises:
        RunError: a copy has changed or is missing; or there are none.
    """
    for kept in record.files:
        if digest_of(record.folder / kept.copy) != kept.sha256:
            raise RunError(
                f"{record.folder / kept.copy}: this copy was changed or removed; restore it, or use --functions=files"
            )
    if not record.files:
        raise RunError(f"{record.folder}: holds no copies of its functions; use --functions=files")
    return record.copies


def _require_outside_data(config: Config, file: Path, label: str) -> None:
    """Raise where a file lies in a folder that the run reads as a model, data or an index.

    Raises:
        ConfigError: it does.
    """
    for key, folder in _folders(config):
        if key != "out" and folder.is_dir() and folder.resolve() in file.resolve().parents:
            raise ConfigError(
                f"{label}: the file lies in the folder of {key} ({folder}); code that comes with a model or a data set is "
                f"never run: keep your functions in another folder"
            )


def _folders(config: Config, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for name, value in config:
        values: list[Any] = list(value.values()) if isinstance(value, dict) else [value]
        for inner in values:
            if isinstance(inner, Config):
                yield from _folders(inner, f"{prefix}{name}.")
            elif isinstance(inner, Path):
                yield f"{prefix}{name}", inner
