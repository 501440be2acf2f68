"""Peak memory of one training step in a new process: `python -m arpo.lab.bench.training_memory REQUEST`."""

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from arpo.batching.config import Packing
from arpo.lab.bench.machine import process_mb
from arpo.lab.bench.programs import run_json
from arpo.lab.bench.training_data import count_trees
from arpo.lab.bench.training_models import load_or_make
from arpo.lab.bench.training_steps import RUN, packed
from arpo.models.policy import PolicyModel
from arpo.training.credit import assign_credit
from arpo.tree.serialize import read_trees


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRequest:
    """The step to measure."""

    trees: str
    """File of trees with rewards and old log-probs."""
    model: str
    num_ids: int
    packing: Packing
    budget: int
    dtype: str
    device: str
    num_threads: int


def peak_memory_mb(request: MemoryRequest) -> float:
    """Peak memory of a new process that makes the model and takes the step, MB: the GPU's on a GPU, resident memory else.

    Raises:
        RunError: the process failed.
    """
    command = [sys.executable, "-m", "arpo.lab.bench.training_memory", json.dumps(asdict(request))]
    return run_json(command, "measuring memory")


def _measure(request: MemoryRequest) -> float:
    torch.set_num_threads(request.num_threads)
    policy = PolicyModel(load_or_make(request.model, request.num_ids, request.dtype, request.device))
    trees = list(read_trees(Path(request.trees)))
    credits = assign_credit(trees, RUN.advantage, RUN.loss)
    packed(policy, trees, credits, request.packing, count_trees(trees)).measure(request.budget)
    if policy.device.type == "cuda":
        return torch.cuda.max_memory_allocated(policy.device) / 2**20
    # `ru_maxrss` would go on from the process that started this one
    return process_mb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(_measure(MemoryRequest(**json.loads(sys.argv[1]))))
