"""Trained weights, moments and steps of an optimizer in a folder, for any number of ranks: torch's distributed checkpoint.

Each rank writes what it holds of each tensor, under the parameter's name; a reader with other shards, or none, takes from the
files what it needs. Weights are the optimizer's own: float32 masters of a network in bfloat16, else the network's.

    weights.<parameter>   exp_avg.<parameter>   exp_avg_sq.<parameter>   step.<parameter>
"""

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from arpo.distributed.world import World
from arpo.errors import CheckpointError
from arpo.training.optimizer import MasterAdamW

_WEIGHTS = "weights"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_STEP = "step"


def save_optimizer(model: nn.Module, optimizer: MasterAdamW, folder: Path, world: World) -> None:
    """Write the trained weights of a model and their optimizer's state into a folder, each rank its part.

    Raises:
        CheckpointError: a rank could not write its part.
    """
    tensors: dict[str, Tensor] = {}
    for name, weight in optimizer.named_weights(model):
        tensors[f"{_WEIGHTS}.{name}"] = weight.detach()
        tensors |= {f"{key}.{name}": value for key, value in optimizer.state.get(weight, {}).items()}
    with _errors_as_ours():
        save(tensors, storage_writer=FileSystemWriter(folder), process_group=world.objects, no_dist=world.size == 1)


@torch.no_grad()
def load_optimizer(model: nn.Module, optimizer: MasterAdamW, folder: Path, world: World) -> None:
    """Read the weights of a model and their optimizer's state from a folder, whatever the ranks that wrote it.

    Raises:
        CheckpointError: a file is missing or damaged, or its weights are not those of the model.
    """
    reader = _Reader(folder)
    with _errors_as_ours():
        stored = reader.read_metadata().state_dict_metadata
    weights = dict(optimizer.named_weights(model))
    _require_fit(stored, weights)
    tensors = {f"{_WEIGHTS}.{name}": weight.detach() for name, weight in weights.items()}
    for name, weight in weights.items():
        state = {key: torch.zeros_like(weight) for key in _MOMENTS if f"{key}.{name}" in stored}
        if state:
            state[_STEP] = torch.zeros((), dtype=torch.float32, device=weight.device)
            optimizer.state[weight] = state
        tensors |= {f"{key}.{name}": value for key, value in state.items()}
    with _errors_as_ours():
        load(cast(Any, tensors), storage_reader=reader, process_group=world.objects, no_dist=world.size == 1)
    optimizer.round_into_network()


def _require_fit(stored: dict[str, Any], weights: dict[str, nn.Parameter]) -> None:
    shapes = {
        key.removeprefix(f"{_WEIGHTS}."): tuple(value.size)
        for key, value in stored.items()
        if key.startswith(f"{_WEIGHTS}.") and isinstance(value, TensorStorageMetadata)
    }
    for name in sorted(shapes.keys() | weights.keys()):
        own = tuple(weights[name].shape) if name in weights else None
        if shapes.get(name) != own:
            raise CheckpointError(
                f"its trained weights do not fit the model: {name!r} has shape {shapes.get(name)} in the files and {own} in "
                f"the model (None: no such weight); set model.path and model.lora as they were"
            )


@contextmanager
def _errors_as_ours() -> Iterator[None]:
    """Turn the errors of the library, not all of which are Exceptions, into one; silence its notes on single processes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CheckpointException as error:
        first = next((failure[0] for failure in error.failures.values()), error)
        raise CheckpointError(str(first).strip().partition("\n")[0]) from error


class _Reader(FileSystemReader):
    """Reads the library's index, a pickle, without running what a foreign one may name."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """As of the base class."""
        with (Path(self.path) / ".metadata").open("rb") as file:
            metadata: Metadata = _Unpickler(file).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


_RECORDS = "torch.distributed.checkpoint."
_PLAIN = {("torch", "Size"), ("torch", "strided"), ("torch.serialization", "_get_layout"), ("pathlib", "PosixPath")}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Records of the library and torch's plain values alone."""
        is_record = module_name.startswith(_RECORDS) and global_name.lstrip("_")[:1].isupper()
        is_format = module_name == "torch" and isinstance(getattr(torch, global_name, None), torch.dtype)
        if is_record or is_format or (module_name, global_name) in _PLAIN:
            return super().find_class(module_name, global_name)
        raise CheckpointError(
            f"its index names {module_name}.{global_name}, which no checkpoint needs; it is damaged or foreign"
        )
