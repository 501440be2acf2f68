"""Atomic writes: a file or folder appears whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from arpo.errors import ArpoError


@contextmanager
def whole(path: Path, *, is_resumable: bool = False) -> Iterator[Path]:
    """Yield `<path>.partial`, where the caller writes a file, a folder or a link; when the block ends, it replaces `path`.

    If the block raises, the partial is removed and `path` stays as it was. A kill leaves the partial, which the next attempt
    removes. A file or link is replaced in one step. A folder at `path` is first renamed to `<path>.replaced` and then removed,
    so a kill between the two renames leaves the former folder under that name.

    Args:
        path: What to write; its parent folders are made.
        is_resumable: Yield the partial of a former attempt as it is, and keep the partial unless the block raises an ArpoError.

    Example:
        with whole(Path("a/b.json")) as partial:
            partial.write_text("{}")  # a/b.json.partial
    """
    partial = partial_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not is_resumable:
        _remove(partial)
    try:
        yield partial
        _replace(path, partial)
    except BaseException as error:
        if not is_resumable or isinstance(error, ArpoError):
            _remove(partial)
        raise


def partial_path(path: Path) -> Path:
    """The path that `whole` yields for `path`."""
    return path.with_name(f"{path.name}.partial")


def write_json(path: Path, data: Any) -> Path:
    """Write `data` as indented JSON, whole or not at all; return the path. NaN raises ValueError: JSON has no NaN."""
    return write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 file, whole or not at all; return the path."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _replace(path: Path, partial: Path) -> None:
    if not (_is_folder(partial) and os.path.lexists(path)):
        partial.replace(path)
        return
    old = path.with_name(f"{path.name}.replaced")
    _remove(old)
    path.rename(old)
    try:
        partial.rename(path)
    except BaseException:  # raised again, once the former folder is back
        old.rename(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    """Remove a file, link or folder as far as possible; the next step fails and names what is left."""
    if _is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
