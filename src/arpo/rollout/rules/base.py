"""What a branch rule is."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol


@dataclass(slots=True, frozen=True, kw_only=True)
class Opportunity:
    """A place where a path could fork: the observation it has just read."""

    node: int
    """Id of the observation node."""
    turn: int
    """Observations on the path, this one included."""
    entropy_delta: float
    """Normalised change of the windowed entropy from the baseline."""


@dataclass(slots=True, frozen=True, kw_only=True)
class ForkRequest:
    """A wish for new paths from a node; granted by priority while the group has leaves left."""

    node: int
    count: int
    """New paths, the original excluded."""
    priority: float
    """Higher is served first; ties go to the opportunity listed first."""
    offset: int | None = None
    """Fork after this many tokens of the node; None means at its end."""


class BranchRule(Protocol):
    """Decides how many trajectories start at the prompt and where paths fork. Pure: state lives on the tree."""

    def plan(self, group_size: int, num_initial: int) -> int:
        """Initial trajectories to start, in [1, group_size]."""
        ...

    def score(self, opportunity: Opportunity) -> float | None:
        """What is compared with the threshold, stored on the node as `branch_score`; None for a rule without a score."""
        ...

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """Fork requests for the opportunities of one group at one turn; `rng` is seeded by task and turn."""
        ...
