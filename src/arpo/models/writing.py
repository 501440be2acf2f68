"""Writes a model directory from another one, a hub name or a GGUF file, in a chosen number format, whole or not at all."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from arpo.errors import ConfigError
from arpo.files.whole import whole
from arpo.models.directory import CONFIG_FILES, forget_origin, read_config
from arpo.models.gguf import SOURCE_CARD, convert_gguf, is_gguf, read_gguf
from arpo.models.loading import copy_companions
from arpo.models.shards import INDEX_FILE, MAX_SHARD_BYTES, copy_weights_as, weight_files
from arpo.models.source import find_model
from arpo.tracking.progress import Progress

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def get_model(
    name: Path,
    out: Path,
    progress: Progress,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    licence: Path | None = None,
    card: Path | None = None,
    max_shard_bytes: int | None = None,
) -> Path:
    """Write the model that a name stands for as a directory of its own; return it.

    Args:
        name: OWNER/NAME of the hub, a GGUF file, or a model directory.
        out: A new or empty folder.
        progress: Shows fetching and converting.
        revision: Branch, tag or commit of a hub model.
        dtype: A key of `DTYPES`; None keeps the source's, which is float32 for a GGUF file.
        licence: Licence text to go along as `LICENSE`, where the source brings none.
        card: Model card to go along, where the source brings none.
        max_shard_bytes: Size above which the weights are written in several files; None: as the source has them, or 5 GB.

    Raises:
        ConfigError: `out` holds files; or the option has no effect.
        ModelError: as `find_model`.
    """
    require_new(out)
    label = f"model {str(name)!r}"
    if is_gguf(name) and revision is None:
        file = read_gguf(name, label)
        with whole(out) as partial:
            progress.line(f"{name.name}: {file.title}")
            if dtype in (None, "float32"):
                convert_gguf(file, partial, label, max_shard_bytes or MAX_SHARD_BYTES)
            else:
                with TemporaryDirectory(dir=partial.parent) as folder:
                    convert_gguf(file, Path(folder) / "model", label)
                    copy_model(Path(folder) / "model", partial, dtype, max_shard_bytes)
            _add_texts(partial, {"LICENSE": licence, SOURCE_CARD: card})
        return out
    directory = find_model(name, revision, label=label, revision_key="--revision", progress=progress)
    with whole(out) as partial:
        copy_model(directory, partial, dtype, max_shard_bytes)
        _add_texts(partial, {"LICENSE": licence, "README.md": card})
    return out


def copy_model(source: Path, directory: Path, dtype: str | None = None, max_shard_bytes: int | None = None) -> None:
    """Write a new directory with the model of `source`: weights, configuration, tokenizer, template, licence and card.

    Args:
        source: A complete model directory.
        directory: To make.
        dtype: A key of `DTYPES`; None keeps the weights' formats.
        max_shard_bytes: Size above which the weights are written in several files; None: as `source` has them unless their
            format changes, then 5 GB.

    Raises:
        ModelError: a number is too large for `dtype`.
    """
    directory.mkdir(parents=True)
    for name in CONFIG_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    copy_companions(source, directory)
    forget_origin(directory)
    if dtype is None and max_shard_bytes is None:
        for file in [*weight_files(source), source / INDEX_FILE]:
            if file.is_file():
                shutil.copyfile(file, directory / file.name)
        return
    copy_weights_as(source, directory, DTYPES[dtype] if dtype else None, max_shard_bytes or MAX_SHARD_BYTES)
    if dtype is not None:
        config = _with_dtype(read_config(directory), dtype)
        (directory / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def require_new(out: Path) -> None:
    """Raise where a folder to write holds files.

    Raises:
        ConfigError: it does, or is a file.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"--out {out}: holds files already; name a new folder, or remove this one")


def _add_texts(directory: Path, texts: dict[str, Path | None]) -> None:
    for name, text in texts.items():
        if text is None:
            continue
        if not text.is_file():
            raise ConfigError(f"{text}: no such file; name the text that is to go along, or leave the option out")
        if (directory / name).exists():
            raise ConfigError(f"{text}: has no effect, as the model brings a {name} of its own; leave the option out")
        shutil.copyfile(text, directory / name)


def _with_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """The configuration with another number format, in sections of it too."""
    changed = {key: _with_dtype(value, dtype) if key.endswith("_config") and isinstance(value, dict) else value
               for key, value in config.items() if key != "torch_dtype"}  # fmt: skip
    return changed | {"dtype": dtype} if "dtype" in config or "torch_dtype" in config or "model_type" in config else changed
