"""No branching: M independent trajectories, as GRPO samples them."""

from collections.abc import Sequence
from random import Random

from arpo.rollout.config import NoBranchingConfig
from arpo.rollout.rules.base import ForkRequest, Opportunity


class NoBranching:
    """Starts every trajectory at the prompt and never forks."""

    def __init__(self, config: NoBranchingConfig):
        self._config = config

    def plan(self, group_size: int, num_initial: int) -> int:
        """All trajectories are initial."""
        return group_size

    def score(self, opportunity: Opportunity) -> None:
        """No score."""
        return None

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """Never a fork."""
        return []
