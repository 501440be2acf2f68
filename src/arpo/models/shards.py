"""The weights of a model directory: one safetensors file, or several and the index that names them. Checked without loading."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from arpo.errors import ModelError
from arpo.files.lfs import is_lfs_pointer

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
"""Size above which weights are written in several files: 5 GB, as most checkpoints of the hub have them."""
_LARGEST_HEADER = 100_000_000
"""Bytes; the safetensors library reads no larger header."""
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a safetensors file, by its header."""

    file: Path
    dtype: str
    """As safetensors names it: `F32`, `BF16`, `I64`."""
    shape: tuple[int, ...]
    num_bytes: int

    @property
    def num_values(self) -> int:
        """Number of its values."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers of 16 bits or more."""
        return self.dtype in _NAMES.values()


def weight_files(directory: Path) -> list[Path]:
    """The files that hold the weights of a directory, each once, in the order of the index.

    Raises:
        ModelError: there are none; the index is broken or names files that are not there.
    """
    single, index = directory / SINGLE_FILE, directory / INDEX_FILE
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ModelError(f"{directory}: no weights ({SINGLE_FILE}, or {INDEX_FILE} and the files that it names)")
    _refuse_pointer(index)
    try:
        names = list(dict.fromkeys(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [directory / str(name) for name in names]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{index}: not an index of weights ({type(error).__name__}: {error}); fetch or write the model again"
        ) from error
    for file in files:
        if file.parent != directory or file.suffix != ".safetensors":
            raise ModelError(
                f"{index}: names {file.name!r}, which is no safetensors file of this folder; fetch the model again"
            )
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{directory}: {len(missing)} of its {len(files)} weight files are missing, {missing[0]} first; fetch or copy the "
            f"missing ones ({INDEX_FILE} names them all)"
        )
    return files


def stored_tensors(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of a directory by name, read from the headers alone.

    Raises:
        ModelError: as `weight_files`; or a file is a Git LFS pointer, cut off, or no safetensors file.
    """
    return {name: tensor for file in weight_files(directory) for name, tensor in read_header(file).items()}


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name; the file has the size that its header says.

    Raises:
        ModelError: the file is a Git LFS pointer, cut off, or no safetensors file.
    """
    _refuse_pointer(file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= min(_LARGEST_HEADER, max(size - 8, 0)):
            raise ModelError(f"{file}: cut off within its header, or no safetensors file ({size} bytes); fetch it again")
        text = stream.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        tensors = {name: _stored(file, entry) for name, entry in entries.items()}
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ModelError(f"{file}: no safetensors file (its header is broken); fetch it again") from error
    if size != end:
        raise ModelError(f"{file}: cut off or damaged: it has {size} bytes, its header says {end}; fetch it again")
    return tensors


def _stored(file: Path, entry: dict[str, Any]) -> StoredTensor:
    start, end = entry["data_offsets"]
    return StoredTensor(file, str(entry["dtype"]), tuple(map(int, entry["shape"])), int(end) - int(start))


def _refuse_pointer(file: Path) -> None:
    if is_lfs_pointer(file):
        raise ModelError(
            f"{file}: a Git LFS pointer, not the weights it stands for; run `git lfs pull` in its folder, or fetch the model "
            f"with `arpo model get`"
        )


def iter_tensors(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and values of each tensor, one at a time: no more than one is in memory here.

    Raises:
        ModelError: as `stored_tensors`.
    """
    tensors = stored_tensors(directory)  # every fault is found before the first tensor is given
    for file in dict.fromkeys(tensor.file for tensor in tensors.values()):
        with safe_open(file, "pt") as stream:
            for name in stream.keys():  # noqa: SIM118 (no dictionary)
                yield name, stream.get_tensor(name)


def copy_weights_as(
    source: Path, target: Path, dtype: torch.dtype | None = None, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write the weights of `source` into the folder `target`, with floating-point tensors in another number format.

    Names, order and values stay; a value is rounded to nearest even. One output file is in memory at a time.

    Args:
        source: A model directory.
        target: An existing folder without weights.
        dtype: None keeps each tensor's.
        max_shard_bytes: Size above which the weights are written in several files.

    Raises:
        ModelError: as `stored_tensors`; or a number is too large for `dtype`.
    """
    tensors = stored_tensors(source)
    shards = _plan(tensors, dtype, max_shard_bytes)
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = [SINGLE_FILE]
    for file_name, members in zip(names, shards, strict=True):
        values = {name: _cast(name, value, dtype) for name, value in _read(tensors, members)}
        save_file(values, target / file_name, metadata={"format": "pt"})
    if len(shards) > 1:
        where = {name: file for file, members in zip(names, shards, strict=True) for name in members}
        total = sum(_size(tensor, dtype) for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (target / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _plan(tensors: dict[str, StoredTensor], dtype: torch.dtype | None, max_bytes: int) -> list[list[str]]:
    """The names of each output file; a tensor above `max_bytes` has a file of its own."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        size = _size(tensor, dtype)
        if shards[-1] and filled + size > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _size(tensor: StoredTensor, dtype: torch.dtype | None) -> int:
    return tensor.num_values * dtype.itemsize if dtype is not None and tensor.is_float else tensor.num_bytes


def _read(tensors: dict[str, StoredTensor], names: list[str]) -> Iterator[tuple[str, Tensor]]:
    for file in dict.fromkeys(tensors[name].file for name in names):
        with safe_open(file, "pt") as stream:
            for name in names:
                if tensors[name].file == file:
                    yield name, stream.get_tensor(name)


def _cast(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or value.dtype not in _NAMES:
        return value
    cast_value = value.to(dtype)
    if bool(cast_value.isinf().any()) and not bool(value.isinf().any()):
        largest = float(value.abs().max())
        limit = torch.finfo(dtype).max
        raise ModelError(
            f"{name}: holds {largest:g}, more than {str(dtype).removeprefix('torch.')} can ({limit:g}); use bfloat16 or float32"
        )
    return cast_value


def first_misfit(
    found: Mapping[str, Tensor | StoredTensor], expected: Mapping[str, Tensor]
) -> tuple[str, tuple[int, ...] | None, tuple[int, ...] | None] | None:
    """The first name, in order, whose shapes differ, with both shapes, None where the side lacks it; None: all are equal."""
    for name in sorted(found.keys() | expected.keys()):
        shapes = [tuple(side[name].shape) if name in side else None for side in (found, expected)]
        if shapes[0] != shapes[1]:
            return name, shapes[0], shapes[1]
    return None
