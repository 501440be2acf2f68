"""A policy's weights as names and full tensors, for the transfer from a trainer to an engine, and digests that prove it."""

import ctypes
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.errors import ModelError
from arpo.models.loading import load_policy
from arpo.models.lora import merged_weights
from arpo.models.shards import first_misfit


class ModelWeights:
    """The current weights of a model at each iteration, with an adapter merged in."""

    def __init__(self, model: PreTrainedModel) -> None:
        """The weights of `model`, which does not change."""
        self.model = model

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Each parameter's name in the ordinary model, and its tensor."""
        return merged_weights(self.model)


def weight_digests(weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None = None) -> dict[str, str]:
    """A digest of each tensor: its number format, its shape and the CRC-32 of its bytes, `"float32 [2, 3] 1c291ca3"`.

    A change of any one bit shows; any other change but for one in 4e9. (CRC-32 runs at 4 GB/s, so that a start is not delayed.)

    Args:
        weights: Names and full tensors.
        dtype: Number format to which the tensors are rounded first; None: their own.
    """
    return {name: _digest(tensor.detach().to(dtype or tensor.dtype)) for name, tensor in weights}


def _digest(tensor: Tensor) -> str:
    content = tensor.cpu().contiguous()
    # not by way of numpy, after which torch frees the memory of gathered weights no more
    memory = (ctypes.c_ubyte * content.nbytes).from_address(content.data_ptr())
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} {zlib.crc32(memory):08x}"


def copy_weights(source: str | Path | Iterable[tuple[str, Tensor]], model: PreTrainedModel) -> None:
    """Copy weights into a model, all or none; the model keeps its number format and device.

    Args:
        source: A Hugging Face model directory, or names and tensors.
        model: Changed in place; without an adapter.

    Raises:
        ModelError: the directory cannot be loaded, or names and shapes are not those of the model.
    """
    if isinstance(source, str | Path):
        source = ModelWeights(load_policy(source, str(model.dtype).removeprefix("torch."), str(model.device)))
    tensors, parameters = dict(source), dict(model.named_parameters())
    if (misfit := first_misfit(tensors, parameters)) is not None:
        name, given, expected = misfit
        raise ModelError(
            f"weights of another model: {name!r} has shape {given} in the source and {expected} in the model (None: "
            f"no such weight); pass every weight of the same architecture"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
