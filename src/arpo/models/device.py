"""The devices of this machine, and what its processor computes in bfloat16."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from arpo.errors import ConfigError
from arpo.models.config import ModelConfig, check_device_name

M = TypeVar("M", bound=ModelConfig)


def choose_device(name: str) -> str:
    """The device that a name means on this machine: `auto` is `cuda` where torch finds one, else `cpu`; others stay."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def settle_device(model: M, report: Callable[[str], None]) -> M:
    """The model with its device as the run's records name it; `report` gets a line where `auto` was chosen.

    Raises:
        ConfigError: as `require_device`.
    """
    device = require_device(model.device)
    if device == model.device:
        return model
    report(f"device: {device} (model.device = {model.device!r})")
    return model.model_copy(update={"device": device})


def require_device(name: str, key: str = "model.device") -> str:
    """The device that a name means; one that this machine does not have is refused.

    Args:
        name: A device, or `auto`.
        key: The configuration key or option that named it.

    Raises:
        ConfigError: the name is none of a supported device, or torch finds no such device.
    """
    try:
        check_device_name(name)
    except ValueError as error:
        raise ConfigError(f"{key} = {name!r}: {error}") from error
    name = choose_device(name)
    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        raise ConfigError(
            f"{key} = {name!r}: torch {torch.__version__} finds no CUDA device on this machine; set {key} = 'cpu', or run "
            "where there is an NVIDIA GPU, its driver and a torch built for CUDA"
        )
    count = torch.cuda.device_count()
    if torch.device(name).index is not None and torch.device(name).index >= count:
        present = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"{key} = {name!r}: this machine has {present}; set {key} to a device that it has, or to 'cpu'")
    return name


def drain_device_peak_mb(device: torch.device) -> float | None:
    """Most memory that torch has held on a GPU since the last call, MiB; None on a CPU, whose memory is the process's."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return peak


_BFLOAT16_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "bf16": "Arm BF16"}
"""Flag in /proc/cpuinfo -> name, the fastest first."""


def bfloat16_unit(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The processor's unit for matrix products in bfloat16; None: it has none, or the system does not say.

    Without one, bfloat16 halves memory and saves no time on the CPU.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return next((name for flag, name in _BFLOAT16_UNITS.items() if flag in flags), None)
