"""The machine that a speed program runs on, and the memory of processes."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from arpo.models.device import bfloat16_unit


def machine() -> dict[str, Any]:
    """The machine, for the results."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bfloat16_unit": bfloat16_unit() or "none",
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }


def process_mb(key: str, pid: int | str = "self") -> float | None:
    """A size in /proc/PID/status, e.g. `VmRSS`, in MiB; None where the system does not say."""
    text = _value(Path(f"/proc/{pid}/status"), key)
    return int(text.split()[0]) / 1024 if text else None


def _processor() -> str:
    return _value(Path("/proc/cpuinfo"), "model name") or platform.processor()


def _value(file: Path, key: str) -> str | None:
    """The first value of a key in a file of `key: value` lines; None where there is none."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)
