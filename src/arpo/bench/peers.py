"""Runs the programs of peers in their own virtual environments."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from arpo.bench.workload import Workload
from arpo.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrlMeasured:
    """What TRL took, at its best batch size."""

    serial_seconds: float
    concurrent_seconds: float
    batch_size: int
    version: str


def run_trl(python: Path, model: Path, workload: Workload) -> TrlMeasured:
    """TRL on the workload, by the interpreter `python` of an environment that holds it.

    Raises:
        ModelError: the program failed.
    """
    request = {
        "model": str(model),
        "prompts": workload.prompts.tolist(),
        "observation": workload.observation.tolist(),
        "delays": workload.delays.tolist(),
        "group_size": workload.group_size,
        "width": workload.width,
        "num_turns": workload.num_turns,
        "turn_tokens": workload.turn_tokens,
        "observation_tokens": workload.observation_tokens,
        "num_threads": torch.get_num_threads(),
    }
    program = Path(__file__).with_name("trl_peer.py")
    done = subprocess.run([python, program], input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ModelError(
            f"{python}: TRL's program failed ({done.stderr.strip().splitlines()[-1:]}); `make bench-peers` sets it up"
        )
    return TrlMeasured(**json.loads(done.stdout.strip().splitlines()[-1]))
