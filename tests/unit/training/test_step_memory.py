"""What a step of training leaves in memory."""

import json
from pathlib import Path

from arpo.config import parse_config
from arpo.training.config import RlRun
from arpo.training.rl import train_rl
from arpo.tree import Trajectory


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024


class Hoarding:
    """A reward that leaves 100 MiB freed below blocks in use, 50 kB each, which glibc does not give back by itself."""

    def __init__(self) -> None:
        self.kept: list[bytearray] = []
        self.resident: list[float] = []

    def __call__(self, trajectory: Trajectory) -> float:
        self.resident.append(resident_mb())
        if not self.kept:
            blocks = [(bytearray(50_000), bytearray(600)) for _ in range(2_000)]
            self.kept = [small for _, small in blocks]
        return float(len(self.resident) % 2)


def test_a_step_gives_freed_pages_back(policy: Path, tmp_path: Path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"question": "1+1", "answer": "2"}) + "\n")
    section = {
        "out": str(tmp_path / "run"), "tasks": str(tmp_path / "t.jsonl"), "num_steps": 2, "tasks_per_step": 1,
        "model": {"path": str(policy)}, "optimizer": {"learning_rate": 1e-6}, "rollout": {"group_size": 2},
        "agent": {
            "protocol": {"system_prompt": "", "tools": []}, "limits": {"max_turn_tokens": 8, "max_trajectory_tokens": 64}
        },
    }  # fmt: skip
    reward = Hoarding()
    train_rl(parse_config(RlRun, section, "test"), reward_fn=reward)
    assert len(reward.resident) == 4, "two trajectories in each of two steps"
    assert reward.resident[1] > reward.resident[0] + 60, "this C library gives freed pages back by itself"
    assert reward.resident[2] < reward.resident[1] - 40
