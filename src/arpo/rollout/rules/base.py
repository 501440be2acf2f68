"""What a branch rule is, and what it may know."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(slots=True, frozen=True, kw_only=True)
class Probe:
    """The first trajectory of a group, grown whole before the others start."""

    windows: tuple[tuple[float, ...], ...]
    """Token entropies, nats, of the first k tokens of each of its completions: at the question, then after each tool result."""
    normalizer: float
    """What entropies are divided by: as in `Opportunity`."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Opportunity:
    """A place where a path could fork: the observation it has just read, and what led there. Entropies are in nats."""

    node: int
    """Id of the observation node."""
    turn: int
    """Observations on the path, this one included."""
    entropies: tuple[float, ...]
    """Of the first k tokens after the tool result, fewer if the turn ended."""
    call_entropies: tuple[float, ...]
    """Of the first k tokens of the completion that made the call: what a rule with a lag of one turn looks at."""
    initial_entropies: tuple[float, ...]
    """Of the first k tokens of the path's initial trajectory: the baseline."""
    entropy_delta: float
    """Normalised change of the windowed entropy from the baseline."""
    normalizer: float
    """What a change of entropy is divided by: ln(vocabulary) with `log_vocab`, 1 with `none`, the vocabulary with `paper`."""
    recent_entropies: tuple[float, ...]
    """Windowed entropies of the tree's tool results before this one, in logical order: by turn, then by path."""
    consecutive_branches: int
    """Tool results in a row, up to the one before this, at which the path forked or began as a fork."""
    consecutive_turns: int
    """Turns in a row, up to the one before this, at which any path of the tree forked."""

    @property
    def entropy(self) -> float:
        """The windowed entropy: the mean over `entropies`, nats."""
        return math.fsum(self.entropies) / len(self.entropies)


@dataclass(slots=True, frozen=True, kw_only=True)
class CompletionView:
    """A finished completion, inside which paths could fork."""

    node: int
    """Id of the completion node."""
    entropies: tuple[float, ...]
    """Of every token, nats."""


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


class BranchRule:
    """Decides how many trajectories start at the prompt and where paths fork. Pure: state lives on the tree.

    What a rule does not override means: as many initial trajectories as configured, and no fork.
    """

    max_branches: int = 0
    """Most new paths `decide` asks for at one opportunity; bounds how many leaves branching can still bring."""
    forks_inside: bool = False
    """Whether `decide_inside` is to be asked, for which the prefixes of finished paths are kept."""

    def plan(self, group_size: int, num_initial: int | None, probe: Probe | None) -> int | None:
        """Initial trajectories in all, in [1, group_size].

        Args:
            group_size: Leaves of the group.
            num_initial: The configured number; None: the rule is to find it.
            probe: None when first asked. A rule that answers None is asked again with the first trajectory, once it has ended;
                that trajectory counts.
        """
        return num_initial

    def score(self, opportunity: Opportunity) -> float | None:
        """What the rule computes at a place, stored on the node as `branch_score`; None when it computes nothing."""
        return None

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """Fork requests for the opportunities of one group at one turn; `rng` is seeded by task and turn."""
        return []

    def decide_inside(self, completions: Sequence[CompletionView], num_missing: int, rng: Random) -> list[ForkRequest]:
        """Fork requests inside completions, asked when every path has ended and `num_missing` leaves are missing.

        `rng` is seeded by task and by how many are missing.
        """
        return []
