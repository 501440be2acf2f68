"""The devices of this machine, and what its processor computes in bfloat16."""

from pathlib import Path

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
