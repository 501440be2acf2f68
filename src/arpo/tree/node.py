"""One node of a rollout tree: the tokens it adds, and their measurements."""

from dataclasses import dataclass, field
from enum import StrEnum

from arpo.types import Message, Parse, Reward, StopReason, ToolCall, ToolResult


class NodeKind(StrEnum):
    """Where a node's tokens come from; the loss mask derives from this alone."""

    PROMPT = "prompt"
    COMPLETION = "completion"
    OBSERVATION = "observation"


@dataclass(slots=True, kw_only=True)
class Node:
    """The tokens one completion or observation adds to its parent's prefix.

    Example: a prompt of 5 tokens, a completion of 3 that calls a tool, and its observation of 4 are three nodes;
    the prefix that ends with the observation has 12 tokens, and `is_sampled` is True on tokens 5 to 7 only.
    """

    id: int
    """Index in the tree's node list; parents come before children."""
    parent: int | None
    """Id of the parent; None for the prompt."""
    kind: NodeKind
    token_ids: list[int]
    """[T] the ids this node adds, exactly as the model saw or sampled them."""
    text: str = ""
    """The ids decoded, for people; never encoded again."""

    logprobs: list[float] | None = None
    """[T] log-probs at the sampling temperature; None unless sampled."""
    entropies: list[float] | None = None
    """[T] nats, full vocabulary, at the sampling temperature; None unless sampled."""
    stop_reason: StopReason | None = None
    """Why sampling ended; None unless sampled."""
    parse: Parse | None = None
    """The protocol's parse of a completion; None unless sampled and complete."""
    results: tuple[ToolResult, ...] = ()
    """On an observation: the results its tokens show, one per call of the turn before, in their order."""
    messages: tuple[Message, ...] = ()
    """On an observation: messages other than tool results, in order."""
    step_reward: float | None = None
    """On a completion: the environment's reward for the turn it ends; None when it gave none."""
    step_metrics: dict[str, float] = field(default_factory=dict[str, float])
    """On a completion: the environment's metrics for the turn, by name."""
    is_done: bool = False
    """On a leaf: True where the environment ended the episode; False where a limit did."""
    policy_version: int = 0
    """Number of optimizer updates behind the weights that sampled this node."""

    turn: int = 0
    """Observations on the path up to and including this node."""
    is_branch: bool = False
    """True on the first completion of a forked path."""
    branch_score: float | None = None
    """On an observation: the branch rule's score; None when it computed none."""
    branches_requested: int | None = None
    """On an observation: new paths the branch rule requested there, granted or not; None when it was not asked."""
    entropy_delta: float | None = None
    """On an observation: normalised change of the windowed entropy from the baseline; positive: the policy is less sure."""

    reward: Reward | None = None
    """On a leaf, after scoring; None before, and where the judge gave no verdict."""
    ungraded: str = ""
    """On a leaf, after scoring: why the judge gave no verdict; empty when it gave one or there is none."""

    @property
    def is_correct(self) -> bool | None:
        """Whether the answer of a scored leaf is right; None where it was not graded."""
        return self.reward.is_correct if self.reward is not None else None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls a completion makes; none where it was not parsed."""
        return self.parse.calls if self.parse is not None else ()

    @property
    def is_sampled(self) -> bool:
        """True when the policy sampled every token of the node, so that it may train."""
        return self.kind is NodeKind.COMPLETION
