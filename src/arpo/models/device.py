"""Checks that a device is on this machine."""

import torch

from arpo.errors import ConfigError
from arpo.models.config import check_device_name


def require_device(name: str, key: str = "model.device") -> None:
    """Refuse a device that this machine does not have; `key` is the configuration key or option that named it.

    Raises:
        ConfigError: the name is none of a supported device, or torch finds no such device.
    """
    try:
        check_device_name(name)
    except ValueError as error:
        raise ConfigError(f"{key} = {name!r}: {error}") from error
    if name == "cpu":
        return
    if not torch.cuda.is_available():
        raise ConfigError(
            f"{key} = {name!r}: torch {torch.__version__} finds no CUDA device on this machine; set {key} = 'cpu', or run "
            "where there is an NVIDIA GPU, its driver and a torch built for CUDA"
        )
    count = torch.cuda.device_count()
    if torch.device(name).index is not None and torch.device(name).index >= count:
        present = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"{key} = {name!r}: this machine has {present}; set {key} to a device that it has, or to 'cpu'")
