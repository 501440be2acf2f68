"""The work of every contender: prompts, token counts, turns and tool latencies."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arpo.lab.bench.latency import ToolLatency


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Independent trajectories of fixed token counts; several share a task and so a prompt.

    Every turn samples exactly `turn_tokens`, whatever they are. Each but the last ends in a tool call, whose observation has
    exactly `observation_tokens`. No contender gains by sampling shorter texts.
    """

    num_tasks: int
    group_size: int
    """Trajectories per task."""
    width: int
    """Most trajectories that may generate at once."""
    latency: ToolLatency
    num_turns: int = 3
    prompt_tokens: int = 32
    turn_tokens: int = 32
    observation_tokens: int = 96
    num_ids: int = 512
    """Prompts and observations consist of token ids below this, which every policy's vocabulary has."""
    seed: int = 0

    @property
    def num_trajectories(self) -> int:
        """Trajectories of all tasks."""
        return self.num_tasks * self.group_size

    @property
    def num_calls(self) -> int:
        """Tool calls per trajectory."""
        return self.num_turns - 1

    @property
    def trajectory_tokens(self) -> int:
        """Tokens of a whole trajectory."""
        return self.prompt_tokens + self.num_turns * self.turn_tokens + self.num_calls * self.observation_tokens

    @property
    def sampled_tokens(self) -> int:
        """Sampled tokens of all trajectories."""
        return self.num_trajectories * self.num_turns * self.turn_tokens

    @property
    def prefill_minimum(self) -> int:
        """Given tokens: each prompt once per task, each observation once."""
        return self.num_tasks * self.prompt_tokens + self.num_trajectories * self.num_calls * self.observation_tokens

    @cached_property
    def prompts(self) -> np.ndarray:
        """[tasks, prompt_tokens] token ids, all prompts different."""
        return np.random.default_rng(self.seed).integers(self.num_ids, size=(self.num_tasks, self.prompt_tokens))

    @cached_property
    def observation(self) -> np.ndarray:
        """[observation_tokens] token ids of every observation."""
        return np.random.default_rng(self.seed + 1).integers(self.num_ids, size=self.observation_tokens)

    @cached_property
    def delays(self) -> np.ndarray:
        """[trajectories, calls] seconds each tool call takes."""
        return self.latency.sample((self.num_trajectories, self.num_calls), self.seed)
