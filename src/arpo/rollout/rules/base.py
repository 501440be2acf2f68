"""The interface of a branch rule, and the measurements it sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean


@dataclass(slots=True, frozen=True, kw_only=True)
class Probe:
    """The first trajectory of a group, finished before the others start."""

    windows: tuple[tuple[float, ...], ...]
    """Token entropies, nats, of the first k tokens of each of its completions: at the question, then after each tool result."""
    normalizer: float
    """Divisor of entropies, as in `Opportunity`."""


@dataclass(slots=True, frozen=True, kw_only=True)
class PastGroups:
    """The groups of a task in earlier steps, as counts: a rule sees no reward."""

    num_groups: int = 0
    """Groups sampled and scored."""
    num_mixed: int = 0
    """Of these, groups with right and wrong answers."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Opportunity:
    """An observation after which a path could fork, with the measurements before and after it. Entropies are in nats."""

    node: int
    """Id of the observation node."""
    turn: int
    """Observations on the path, this one included."""
    entropies: tuple[float, ...]
    """Entropies of the first k tokens after the tool result; fewer if the turn ended."""
    call_entropies: tuple[float, ...]
    """Entropies of the first k tokens of the completion that made the call, for rules with a lag of one turn."""
    initial_entropies: tuple[float, ...]
    """Entropies of the first k tokens of the path's initial trajectory: the baseline."""
    entropy_delta: float
    """Normalised change of the windowed entropy from the baseline."""
    normalizer: float
    """Divisor of a change of entropy: ln(vocabulary) with `log_vocab`, 1 with `none`, the vocabulary with `paper`."""
    entropies_by_turn: tuple[tuple[float, ...], ...]
    """Windowed entropies of the tree's tool results, turn by turn up to this one, whose results are all among them."""
    consecutive_branches: int
    """Tool results in a row, up to the one before this, at which the path forked or began as a fork."""
    consecutive_rounds: int
    """Rounds in a row, up to the one before this, in which the tree gained a path. A round is a turn of all paths that grow
    together; a trajectory that fills the group and may branch is gained in the round in which the last of the others ended."""

    @property
    def entropy(self) -> float:
        """The windowed entropy: the mean over `entropies`, nats."""
        return fmean(self.entropies)


@dataclass(slots=True, frozen=True, kw_only=True)
class CompletionView:
    """A finished completion, inside which paths could fork."""

    node: int
    """Id of the completion node."""
    entropies: tuple[float, ...]
    """Entropy of every token, nats."""
    logprobs: tuple[float, ...] = ()
    """Log-prob of every token as the engine drew it."""
    path: tuple[int, ...] = ()
    """Names the path that sampled it; one number where that path began at the prompt. Completions of one path are neighbours,
    in its order."""

    def forkable(self) -> list[tuple[int, float]]:
        """Offset and entropy of each token before which a fork is new.

        The first token is excluded: a fork there is a branch after the tool result, or a fresh trajectory. So are tokens of
        entropy 0, which cannot differ.
        """
        return [(offset, entropy) for offset, entropy in enumerate(self.entropies) if offset > 0 and entropy > 0]


@dataclass(slots=True, frozen=True, kw_only=True)
class NodeView:
    """A node after which a path of a tree took a step: the prompt or an observation."""

    tree: int
    """Number of the initial trajectory that the path grew from; nodes of one tree are neighbours."""
    turn: int
    """Observations on the path up to the node; 0 at the prompt."""


@dataclass(slots=True, frozen=True, kw_only=True)
class ForkRequest:
    """A request for new paths from a node; granted by priority while leaves are missing."""

    node: int
    count: int
    """New paths, the original excluded."""
    priority: float
    """Higher is served first; ties go to the opportunity listed first."""
    offset: int | None = None
    """Fork after this many tokens of the node; None means at its end."""


class BranchRule:
    """Decides how many trajectories start at the prompt and where paths fork. Pure: state lives on the tree.

    The base class starts the configured number of initial trajectories and never forks.
    """

    max_branches: int = 0
    """Most new paths `decide` requests at one opportunity; bounds the leaves that branching can still bring."""
    forks_inside: bool = False
    """Whether the group calls `decide_inside`; it then keeps the prefixes of finished paths."""
    forks_at_nodes: bool = False
    """Whether the group calls `choose_nodes`; it then keeps the prefixes before every step."""
    fills_branch: bool = False
    """Whether trajectories that fill the group start one at a time, each once every path has ended, and may branch."""
    uses_past_groups: bool = False
    """Whether `plan` reads the groups of earlier steps; training then counts them."""

    def plan(self, group_size: int, num_initial: int | None, probe: Probe | None, past: PastGroups) -> int | None:
        """Number of initial trajectories, in [1, group_size]; None asks for a probe.

        Args:
            group_size: Leaves of the group.
            num_initial: The configured number; None: the rule derives it.
            probe: None in the first call. After None, the rule is called again with the first trajectory once that has ended;
                the number includes it.
            past: Earlier groups of the task; none in a first step, and wherever nothing is trained.
        """
        return num_initial

    def score(self, opportunity: Opportunity) -> float | None:
        """The value the rule decides by, stored on the node as `branch_score`; None when it computes none."""
        return None

    def decide(self, opportunities: Sequence[Opportunity], rng: Random) -> list[ForkRequest]:
        """Fork requests for the opportunities of one group at one turn; `rng` is seeded by task and turn."""
        return []

    def decide_inside(self, completions: Sequence[CompletionView], num_missing: int, rng: Random) -> list[ForkRequest]:
        """Fork requests inside completions, once every path has ended and `num_missing` leaves are missing.

        `rng` is seeded by task and `num_missing`.
        """
        return []

    def choose_nodes(self, nodes: Sequence[NodeView], num_missing: int, rng: Random) -> list[int]:
        """Positions in `nodes` where a new path starts, once every path has ended and `num_missing` leaves are missing.

        A position may occur more often than once; those after the first `num_missing` have no effect. `rng` is seeded by task
        and `num_missing`.
        """
        return []
