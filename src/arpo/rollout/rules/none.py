"""No branching: M independent trajectories, as in GRPO."""

from arpo.rollout.config import NoBranchingConfig
from arpo.rollout.rules.base import BranchRule, PastGroups, Probe


class NoBranching(BranchRule):
    """Starts every trajectory at the prompt and never forks."""

    def __init__(self, config: NoBranchingConfig):
        self._config = config

    def plan(self, group_size: int, num_initial: int | None, probe: Probe | None, past: PastGroups) -> int:
        """All trajectories are initial."""
        return group_size
