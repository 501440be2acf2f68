"""The copies of one's own functions in a run's folder, and their digests.

<run>/functions/1/functions.json        the functions by key, and each file's path, copy and SHA-256
<run>/functions/1/my_reward.py          the copy of a file
<run>/functions/2/                      the same after a resumption with changed files
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from arpo.errors import RunError
from arpo.files.whole import whole
from arpo.functions.loading import OwnFunction, SourceFile

FOLDER = "functions"
_FILE = "functions.json"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of code and its copy."""

    path: str
    """Absolute path of the file that was run."""
    copy: str
    """Path of its copy, below the record's folder."""
    sha256: str
    """Digest of its content."""


@dataclass(frozen=True, slots=True)
class Record:
    """The functions of one's own that a run uses."""

    folder: Path
    """Holds the record and the copies."""
    functions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Dotted key of the configuration -> name of the function; without the arguments of Python."""
    given: Sequence[str] = ()
    """What was given from Python: `reward_fn`, and `tools.NAME` for each tool."""
    files: Sequence[KeptFile] = ()
    files_of: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Dotted key -> paths of the files that its function uses."""

    @property
    def copies(self) -> dict[str, Path]:
        """Path of each file -> path of its copy."""
        return {kept.path: self.folder / kept.copy for kept in self.files}


def read_record(run: Path) -> Record | None:
    """The newest record of a run; None: it has none.

    Raises:
        RunError: the record is damaged.
    """
    folder = max(_records(run), key=lambda path: int(path.name), default=None)
    if folder is None:
        return None
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        files = [KeptFile(**kept) for kept in data["files"]]
        return Record(folder, data["functions"], data["given"], files, data["files_of"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{folder / _FILE}: cannot read this record of functions ({error}); restore it, or begin a new run"
        ) from error


def code_identities(run: Path) -> dict[str, str]:
    """Dotted key -> what a run's function is, wherever its file lies: its name, and the digest of the code it uses.

    Example: {"reward.rule": "my_reward.py:correct, code 1f6c9d20a4be"}; for a reward from Python "a function given in Python".
    """
    record = read_record(run)
    if record is None:
        return {}
    digests = {kept.path: kept.sha256 for kept in record.files}
    found = {"reward.rule": "a function given in Python"} if "reward_fn" in record.given else {}
    for key, text in record.functions.items():
        code = hashlib.sha256(
            "".join(sorted(digests.get(path, path) for path in record.files_of.get(key, ()))).encode()
        ).hexdigest()
        found[key] = f"{Path(text).name}, code {code[:12]}"
    return found


def write_record(run: Path, functions: Mapping[str, tuple[str, OwnFunction]], given: Sequence[str]) -> None:
    """Keep the files of functions with a run, unless its newest record has the same.

    Args:
        run: Its folder.
        functions: Dotted key -> name and function.
        given: As in `Record`.
    """
    files: dict[Path, SourceFile] = {file.path: file for _, function in functions.values() for file in function.files}
    if not functions and not given:
        return
    names = {key: text for key, (text, _) in functions.items()}
    kept = [KeptFile(str(path), copy, files[path].digest) for path, copy in _places(list(files)).items()]
    former = read_record(run)
    if former is not None and (former.functions, list(former.given), list(former.files)) == (names, list(given), kept):
        return
    number = 1 + max((int(path.name) for path in _records(run)), default=0)
    with whole(run / FOLDER / str(number)) as partial:
        for file in kept:
            copy = partial / file.copy
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(files[Path(file.path)].content)
        partial.mkdir(exist_ok=True)
        files_of = {key: [str(file.path) for file in function.files] for key, (_, function) in functions.items()}
        data = {"functions": names, "given": list(given), "files": [asdict(file) for file in kept], "files_of": files_of}
        (partial / _FILE).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def digest_of(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _records(run: Path) -> list[Path]:
    return [path.parent for path in (run / FOLDER).glob(f"*/{_FILE}") if path.parent.name.isdecimal()]


def _places(paths: Sequence[Path]) -> dict[Path, str]:
    """A place for the copy of each file: as they lie below the highest folder with one; further folders are numbered."""
    tops: list[Path] = []
    for path in sorted(paths, key=lambda p: len(p.parts)):
        if not any(top in path.parents for top in tops):
            tops.append(path.parent)
    places: dict[Path, str] = {}
    for path in paths:
        number, top = next((n, top) for n, top in enumerate(tops) if top in path.parents)
        relative = path.relative_to(top)
        places[path] = str(relative) if number == 0 else str(Path(f"folder_{number + 1}") / relative)
    return places
