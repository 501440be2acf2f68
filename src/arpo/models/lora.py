"""Low-rank adapters: small trained matrices beside frozen weights (LoRA, arXiv:2106.09685); needs the extra `peft`."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from arpo.errors import ConfigError, ModelError
from arpo.models.config import LoraConfig

_NAME = "default"
"""peft's name for an adapter without a name."""
_WEIGHTS_FILE = "adapter_model.safetensors"
_WRAPPED = "base_model.model."
"""Prefix of weight names in peft's files."""


def add_adapter(model: PreTrainedModel, config: LoraConfig, seed: int) -> None:
    """Freeze the model and add an adapter to linear layers of its blocks; the outputs do not change at first.

    A layer W x becomes W x + (alpha / rank) B A x with A [rank, in] random and B [out, rank] zero. A and B are float32 at
    least, so that a bfloat16 model does not lose small updates.

    Args:
        model: Changed in place.
        config: Rank, scale and layers.
        seed: Names the random numbers of A.

    Raises:
        ConfigError: peft is not installed, or a target names no linear layer of the model's blocks.
    """
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"model.lora: the package {error.name!r} is not installed: pip install 'arpo[peft]', or remove model.lora"
        ) from error
    layers = {name for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear)}
    kinds = sorted({name.rpartition(".")[2] for name in layers})
    for target in config.targets or ():
        if target not in kinds:
            raise ConfigError(f"model.lora.targets holds {target!r}, but the linear layers of the model are {', '.join(kinds)}")
    targets = list(config.targets or kinds)
    settings = PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets)  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, model)
    model.requires_grad_(False)
    for parameter in adapter_parameters(model).values():
        parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        parameter.requires_grad_(True)


def adapter_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters of the adapter by name; empty without an adapter."""
    return {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether `add_adapter` was called on the model."""
    return bool(adapter_parameters(model))


@contextmanager
def adapter_off(model: PreTrainedModel) -> Iterator[None]:
    """Disable the adapter, if any, within the context."""
    layers = _adapted_layers(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merged_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Each parameter under its name in the ordinary model, with an adapter, if any, merged into the weights it adapts.

    The model does not change: removing a merged adapter would not restore its weights to the bit.
    """
    layers = _adapted_layers(model)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        layer, is_adapted, rest = name.partition(".base_layer")
        weight = parameter.detach()
        if is_adapted and rest == ".weight":
            with torch.no_grad():
                weight = (weight + layers[layer].get_delta_weight(_NAME)).to(weight.dtype)
        yield layer + rest, weight


def merge_adapter(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """The model with the adapter in `directory`, of arpo or any that peft writes, merged into its weights; changed in place.

    Raises:
        ConfigError: peft is not installed.
        ModelError: the adapter is pickled, or does not fit the model.
    """
    try:
        from peft import PeftModel
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{directory}: to merge an adapter, the package {error.name!r} is missing: pip install 'arpo[peft]'"
        ) from error
    if not (directory / _WEIGHTS_FILE).is_file():
        raise ModelError(f"{directory}: no {_WEIGHTS_FILE}; arpo loads no pickled adapter, so save it with safetensors")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            merged = PeftModel.from_pretrained(cast(Any, model), str(directory), local_files_only=True).merge_and_unload()
    except Exception as error:  # peft reads an adapter's files without checks
        reason = str(error).strip().split("\n", 1)[0]
        raise ModelError(
            f"{directory}: this adapter does not fit its base ({reason}); name the model it was trained on"
        ) from error
    return cast(PreTrainedModel, merged)


def save_adapter(model: PreTrainedModel, directory: Path) -> None:
    """Write the adapter into a new directory in peft's format, for `PeftModel.from_pretrained`."""
    directory.mkdir(parents=True)
    settings: dict[str, Any] = model.peft_config[_NAME].to_dict()  # pyright: ignore[reportAttributeAccessIssue]
    text = json.dumps(settings, default=sorted, indent=2, sort_keys=True)  # sets in one order, whatever the process
    (directory / "adapter_config.json").write_text(text, encoding="utf-8")
    tensors = {_name_in_file(name): p.detach().contiguous() for name, p in adapter_parameters(model).items()}
    save_file(tensors, directory / _WEIGHTS_FILE, metadata={"format": "pt"})


def _adapted_layers(model: PreTrainedModel) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def _name_in_file(name: str) -> str:
    return _WRAPPED + name.replace(f".{_NAME}", "")
