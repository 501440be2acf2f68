"""Peak memory of one phase of training in a new process: `python -m arpo.lab.bench.memory_phase REQUEST`."""

import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from arpo.batching.packing import PackNode, pack_trees
from arpo.config import parse_config
from arpo.inference.build import PolicySource, build_engine
from arpo.lab.bench.machine import process_mb
from arpo.lab.bench.programs import run_json
from arpo.lab.bench.training_data import draw_rewards, synthetic_tree
from arpo.lab.bench.training_models import make_model, model_config
from arpo.models.loading import load_trained_policy
from arpo.models.policy import PolicyModel
from arpo.protocols.encoding import PolicyTokenizer
from arpo.training.config import RlRun
from arpo.training.credit import assign_credit
from arpo.training.learner import Learner
from arpo.training.update import compute_logprobs, make_minibatches
from arpo.tree import RolloutTree
from arpo.types import SamplingParams

_LAST_TOKENS = 16
"""Tokens sampled at the end of each trajectory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRequest:
    """The phase to measure."""

    phase: str
    """`sampling`, `log-probs` or `update`."""
    run: dict[str, Any]
    """Configuration of a reinforcement-learning run, whose tasks are never read."""
    num_threads: int = 1


def measure_phase(request: PhaseRequest, environment: dict[str, str]) -> dict[str, float]:
    """Growth of resident memory at the phase's peak, `mb`, and `seconds` of its last pass, in a new process.

    Raises:
        RunError: the process failed.
    """
    command = ["env", *(f"{k}={v}" for k, v in environment.items()), sys.executable, "-m", __name__]
    return run_json([*command, json.dumps(asdict(request))], f"measuring the memory of the phase {request.phase}")


def _measure(request: PhaseRequest) -> dict[str, float]:
    torch.set_num_threads(request.num_threads)
    config = parse_config(RlRun, request.run, "the request")
    _warm_up(config.model.dtype)
    before = _resident("VmRSS")
    seconds = _PHASES[request.phase](config)
    return {"mb": _resident("VmHWM") - before, "seconds": seconds}


def _warm_up(dtype: str) -> None:
    """Let the libraries load what they load at their first pass, forward and backward, by a model of 1 M parameters."""
    policy = PolicyModel(make_model(model_config("tiny"), dtype, "cpu"))
    logprobs, _ = policy(pack_trees([[PackNode(None, list(range(64)), [False] + [True] * 63)]]))
    logprobs.sum().backward()


def _resident(key: str) -> float:
    size = process_mb(key)
    if size is None:
        raise SystemExit("the system does not tell the memory of a process in /proc/self/status")
    return size


def _forget_peak() -> None:
    """Begin a new peak: that of reading the file, whose pages count while it is read, is no phase's."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def _sampling(config: RlRun) -> float:
    """Every slot reads a prompt of its own and samples the rest of the longest trajectory."""
    policy = PolicyModel(load_trained_policy(config.model, config.seed))
    _forget_peak()
    longest = config.agent.limits.max_trajectory_tokens
    tokenizer = PolicyTokenizer.load(config.model.path)
    source = PolicySource(config=config.model, tokenizer=tokenizer, max_tokens=longest, model=policy.network)
    engine = build_engine(config.engine, source)
    sampling = SamplingParams(temperature=1.0, max_tokens=_LAST_TOKENS)

    async def trajectory(index: int) -> None:
        prefix = await engine.prefill(None, [index % 100 + 10] * (longest - _LAST_TOKENS))
        _, longer = await engine.generate(prefix, sampling, seed=index)
        prefix.release()
        longer.release()

    async def sample() -> None:
        await asyncio.gather(*(trajectory(i) for i in range(config.tasks_per_step * config.rollout.group_size)))
        await engine.aclose()

    start = time.perf_counter()
    asyncio.run(sample())
    return time.perf_counter() - start


def _logprobs(config: RlRun) -> float:
    policy = PolicyModel(load_trained_policy(config.model, config.seed))
    _forget_peak()
    trees = _trees(config)
    credits = assign_credit(trees, config.advantage, config.loss)
    start = time.perf_counter()
    compute_logprobs(policy, make_minibatches(trees, credits, config, policy.device)[0].batches)
    return time.perf_counter() - start


def _update(config: RlRun) -> float:
    """Two updates of several passes each: the second has the optimizer's moments."""
    learner = Learner(config)
    _forget_peak()
    trees, start = _trees(config), 0.0
    for _ in range(2):
        start = time.perf_counter()
        learner.learn(trees)
    return time.perf_counter() - start


def _trees(config: RlRun) -> list[RolloutTree]:
    """Trees of 16 leaves of the longest length, in which half of the tokens are shared."""
    longest = config.agent.limits.max_trajectory_tokens
    trees = [synthetic_tree(longest, 2.0, 1000, seed=seed) for seed in range(config.tasks_per_step)]
    draw_rewards(trees)
    for node in (node for tree in trees for node in tree.nodes if node.is_sampled):
        node.logprobs = node.entropies = [0.0] * len(node.token_ids)
    return trees


_PHASES = {"sampling": _sampling, "log-probs": _logprobs, "update": _update}


if __name__ == "__main__":
    print(json.dumps(_measure(PhaseRequest(**json.loads(sys.argv[1])))))
