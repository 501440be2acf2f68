"""Writing whole or not at all: after success, after every kind of error, and after a kill at any moment."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arpo.errors import DataError
from arpo.files.whole import whole, write_json, write_text


def write_file(partial: Path) -> None:
    partial.write_text("new")


def write_folder(partial: Path) -> None:
    partial.mkdir()
    (partial / "inside.txt").write_text("new")


def write_link(partial: Path) -> None:
    partial.symlink_to("target")


def content(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    return {p.name: p.read_text() for p in path.iterdir()} if path.is_dir() else path.read_text()


WRITERS = {"file": write_file, "folder": write_folder, "link": write_link}
WRITTEN: dict[str, object] = {"file": "new", "folder": {"inside.txt": "new"}, "link": Path("target")}


def write_former(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("former")
    elif kind == "folder":
        path.mkdir()
        (path / "former.txt").write_text("former")
    else:
        path.symlink_to("former")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_written_appears_at_the_end_of_the_block(tmp_path: Path, kind: str):
    path = tmp_path / "a" / "b" / "out.x"
    with whole(path) as partial:
        WRITERS[kind](partial)
        assert names(path.parent) == ["out.x.partial"]
    assert content(path) == WRITTEN[kind]
    assert names(path.parent) == ["out.x"]


@pytest.mark.parametrize(("former", "kind"), [("file", "file"), ("folder", "folder"), ("link", "link"), ("link", "folder")])
def test_it_replaces_what_was_there(tmp_path: Path, former: str, kind: str):
    path = tmp_path / "a" / "out"
    write_former(path, former)
    with whole(path) as partial:
        WRITERS[kind](partial)
    assert content(path) == WRITTEN[kind]
    assert names(path.parent) == ["out"]


def test_a_link_to_a_folder_is_replaced_and_its_folder_left_alone(tmp_path: Path):
    write_former(tmp_path / "a" / "precious", "folder")
    (tmp_path / "a" / "out").symlink_to("precious")
    for write in (write_link, write_folder):
        with whole(tmp_path / "a" / "out") as partial:
            write(partial)
    assert content(tmp_path / "a" / "precious") == {"former.txt": "former"}
    assert content(tmp_path / "a" / "out") == {"inside.txt": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, DataError])
@pytest.mark.parametrize("kind", WRITERS)
def test_an_error_leaves_what_was_there(tmp_path: Path, kind: str, error: type[BaseException]):
    path = tmp_path / "a" / "out"
    write_former(path, kind)
    before = content(path)

    def write() -> None:
        with whole(path) as partial:
            WRITERS[kind](partial)
            raise error

    with pytest.raises(error):
        write()
    assert content(path) == before
    assert names(path.parent) == ["out"]


def test_a_file_does_not_replace_a_folder(tmp_path: Path):
    write_former(tmp_path / "a" / "out", "folder")
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "a" / "out", "new")
    assert names(tmp_path / "a") == ["out"]


def test_a_folder_whose_last_rename_fails_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a" / "out"
    write_former(path, "folder")
    rename = Path.rename

    def fail(source: Path, target: Path) -> Path:
        if source.name == "out.partial":
            raise OSError("no space")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail)

    def write() -> None:
        with whole(path) as partial:
            write_folder(partial)

    with pytest.raises(OSError, match="no space"):
        write()
    assert content(path) == {"former.txt": "former"}
    assert names(path.parent) == ["out"]


DIES = """
import os, sys
from pathlib import Path
from arpo.files.whole import whole
path, when = Path(sys.argv[1]), sys.argv[2]
rename = Path.rename
def die_before(source, target):
    if source.name == when:
        os._exit(9)
    return rename(source, target)
Path.rename = die_before
with whole(path) as partial:
    partial.mkdir()
    (partial / "inside.txt").write_text("ne")
    if when == "write":
        os._exit(9)
    (partial / "inside.txt").write_text("new")
"""


@pytest.mark.parametrize(
    ("when", "left"),
    [("write", ["out", "out.partial"]), ("out", ["out", "out.partial"]), ("out.partial", ["out.partial", "out.replaced"])],
)
def test_a_kill_leaves_a_whole_folder_and_the_next_attempt_tidies_up(tmp_path: Path, when: str, left: list[str]):
    path = tmp_path / "a" / "out"
    write_former(path, "folder")
    assert subprocess.run([sys.executable, "-c", DIES, str(path), when], check=False).returncode == 9
    assert names(path.parent) == left
    assert content(path.parent / (set(left) - {"out.partial"}).pop()) == {"former.txt": "former"}
    with whole(path) as partial:
        write_folder(partial)
    assert content(path) == {"inside.txt": "new"}
    with whole(path) as partial:
        write_folder(partial)
    assert names(path.parent) == ["out"]


def _attempt(path: Path, error: Callable[[], BaseException] | None) -> list[str]:
    with whole(path, is_resumable=True) as partial:
        partial.mkdir(exist_ok=True)
        found = names(partial)
        (partial / str(len(found))).touch()
        if error:
            raise error()
        return found


def test_a_resumable_write_goes_on_unless_what_it_wrote_is_no_use(tmp_path: Path):
    path = tmp_path / "out"
    for error in (KeyboardInterrupt, OSError):
        with pytest.raises(error):
            _attempt(path, error)
    assert _attempt(path, None) == ["0", "1"]
    assert names(path) == ["0", "1", "2"]
    with pytest.raises(DataError):
        _attempt(path, DataError)
    assert names(tmp_path) == ["out"]


def test_json_is_indented_and_has_no_nan(tmp_path: Path):
    path = write_json(tmp_path / "a" / "x.json", {"é": [1.5, None]})
    assert json.loads(path.read_text("utf-8")) == {"é": [1.5, None]}
    assert path.read_bytes().startswith('{\n  "é"'.encode())
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, float("nan"))
    assert names(tmp_path / "a") == ["x.json"]
