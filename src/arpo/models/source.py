"""Turns what a user writes for a model into a complete Hugging Face directory on this machine.

A directory is taken as it is. A GGUF file is converted once into arpo's cache. OWNER/NAME is fetched from the Hugging Face hub
into its cache. Whatever loads a model or a tokenizer afterwards sees a directory.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from arpo.errors import ConfigError, ModelError
from arpo.files.whole import whole
from arpo.models.config import ModelConfig
from arpo.models.directory import check_directory
from arpo.models.hub import fetch_model, is_hub_name
from arpo.tracking.progress import Progress, SilentProgress

M = TypeVar("M", bound=ModelConfig)
_DIGITS = 16
"""Digits of a file's digest in the name of its directory in the cache."""


def find_model(
    name: Path,
    revision: str | None = None,
    *,
    label: str | None = None,
    revision_key: str = "model.revision",
    progress: Progress | None = None,
    needs_weights: bool = True,
) -> Path:
    """The complete model directory that a name stands for; a directory or file here wins over a hub name of the same spelling.

    Args:
        name: A Hugging Face directory, a GGUF file, or OWNER/NAME of the hub.
        revision: Branch, tag or commit of a hub model.
        label: What messages call it; None: `model.path = <name>`.
        revision_key: What messages call the revision.
        progress: Shows fetching and converting.
        needs_weights: False: for its tokenizer alone.

    Raises:
        ConfigError: the package that reads GGUF files is not installed, or a revision is given for a model of this machine.
        ModelError: there is no such model, it cannot be fetched or read, or it is incomplete.

    Example:
        find_model(Path("Qwen/Qwen2.5-0.5B"))  # ~/.cache/huggingface/hub/models--Qwen--Qwen2.5-0.5B/snapshots/060db64…
    """
    progress = progress or SilentProgress()
    label = label or f"model.path = {str(name)!r}"
    if name.exists():
        if revision is not None:
            kind = "directory" if name.is_dir() else "file"
            raise ConfigError(
                f"{label}: {revision_key} = {revision!r} has no effect on a {kind} of this machine; leave it out, or name a "
                f"model of the hub (OWNER/NAME)"
            )
        directory = name if name.is_dir() else _from_file(name, label, progress)
    elif is_hub_name(name):
        directory = fetch_model(str(name), revision, label, progress, needs_weights=needs_weights)
    else:
        raise ModelError(
            f"{label}: no such directory or file here, and no hub name either, which is OWNER/NAME; name a Hugging Face model "
            f"directory, a .gguf file or a model of the hub"
        )
    check_directory(directory, label, needs_weights=needs_weights)
    return directory


def find_run_model(model: M, progress: Progress | None = None, *, needs_weights: bool = True) -> tuple[M, M]:
    """The model of a run: as its records name it, and as a directory of this machine.

    Records name a hub model with its commit, so that a resumed run goes on with the very same files.

    Raises:
        ConfigError, ModelError: as `find_model`.
    """
    directory = find_model(model.path, model.revision, progress=progress, needs_weights=needs_weights)
    local = model.model_copy(update={"path": directory, "revision": None})
    if model.path.exists():
        return model, local
    return model.model_copy(update={"revision": directory.name}), local


def _from_file(path: Path, label: str, progress: Progress) -> Path:
    """The directory made from a GGUF file, in the cache: made whole or not at all, once per content."""
    from arpo.models.gguf import convert_gguf, is_gguf, read_gguf

    if not is_gguf(path):
        raise ModelError(f"{label}: a file, but no GGUF file; name a Hugging Face model directory, a .gguf file or OWNER/NAME")
    file = read_gguf(path, label)
    directory = cache_folder() / f"{file.name}-{file.quantisation}-{file.sha256[:_DIGITS]}"
    with _locked(directory.with_name(f"{directory.name}.lock")):
        if not directory.is_dir():
            progress.line(f"{path.name}: converting {file.quantisation} to float32, once, into {directory}")
            with whole(directory) as partial:
                convert_gguf(file, partial, label)
    return directory


def cache_folder() -> Path:
    """Where converted models lie: `arpo/models` in XDG_CACHE_HOME, which is `~/.cache` by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arpo" / "models"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process converts the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
