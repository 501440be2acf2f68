"""Runs TRL's rollout in a separate virtual environment."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from arpo.lab.bench.programs import run_json
from arpo.lab.bench.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class TrlMeasured:
    """Times of TRL, at its best batch size."""

    serial_seconds: float
    concurrent_seconds: float
    batch_size: int
    version: str


def run_trl(python: Path, model: Path, workload: Workload) -> TrlMeasured:
    """TRL on the workload, by the interpreter `python` of an environment that holds it.

    Raises:
        RunError: the program failed.
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
    program, remedy = Path(__file__).with_name("trl_peer.py"), "; `make bench-peers` sets it up"
    return TrlMeasured(**run_json([python, program], f"{python}: TRL's program", remedy=remedy, stdin=json.dumps(request)))
