"""The records that all layers share: messages, tasks, tool calls and results, parses, sampling parameters.

Plain data with derived properties only; no torch, no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from os import PathLike
from typing import Any, Literal

StrPath = str | PathLike[str]
"""A path as text or as a Path."""

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(slots=True, frozen=True, kw_only=True)
class Message:
    """One chat message."""

    role: Role
    content: str


@dataclass(slots=True, frozen=True, kw_only=True)
class Task:
    """A question with its reference answers.

    Example:
        Task(id="train-3", messages=(Message(role="user", content="Where was Ada Moor born?"),),
             references=("Kelford",), source="world", ability="search", extra={"kind": "birthplace"})
    """

    id: str
    """Unique within the files of a run; seeds, caches and records refer to it."""
    messages: tuple[Message, ...]
    """The prompt; it holds a system message only if the data does."""
    references: tuple[str, ...]
    """Accepted answers; any of them counts as right."""
    source: str
    """Origin of the task: the `data_source` of the public schema, or the file's name."""
    ability: str | None = None
    """`math`, `qa`, ... from the data; None when it has no such field."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """All other fields of the row, JSON-serialisable."""

    @property
    def question(self) -> str:
        """The content of the last user message."""
        return next(m.content for m in reversed(self.messages) if m.role == "user")


@dataclass(slots=True, frozen=True, kw_only=True)
class ToolCall:
    """A tool call as the model wrote it."""

    name: str
    """The tool's name, `search` or `python` in the tag protocol."""
    arguments: Mapping[str, Any]
    """Arguments by the tool's JSON schema, e.g. `{"query": "Ada Moor born"}`."""
    fault: str = ""
    """Why the call cannot run, in words for the model (malformed JSON, for example); empty when it can."""


ToolStatus = Literal["success", "error", "timeout", "refused"]


@dataclass(slots=True, frozen=True, kw_only=True)
class ToolResult:
    """The result of a tool call; a failure is a result too, never an exception."""

    content: str
    """The text the model will read, before the protocol wraps and escapes it."""
    status: ToolStatus = "success"
    """`error`: the tool or the program failed; `timeout`: the executor stopped it; `refused`: a limit forbade the call."""
    cached: bool = False
    """True when the result came from the cache: the call was issued but not executed."""
    truncated: bool = False
    """True when `content` was cut to the configured size."""
    seconds: float = 0.0
    """Wall time of the call."""


class StopReason(StrEnum):
    """Why the engine stopped sampling a completion."""

    STOP_STRING = "stop_string"
    """A protocol stop string was completed."""
    EOS = "eos"
    """An end-of-sequence token was sampled."""
    LENGTH = "length"
    """The token limit of the request was reached; the completion may be continued."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Parse:
    """A protocol's parse of one completion. Rewards read it; they never parse the text again.

    Example:
        "<think> look it up </think> <search> Ada Moor born </search>" gives
        Parse(calls=(ToolCall(name="search", arguments={"query": "Ada Moor born"}),), num_think_blocks=1)
    """

    calls: tuple[ToolCall, ...] = ()
    """Tool calls that end the completion, in order; empty when it ends without one."""
    answer: str | None = None
    """Text inside the answer block; None when the completion holds none."""
    num_think_blocks: int = 0
    """Closed reasoning blocks."""
    faults: tuple[str, ...] = ()
    """Names of format faults, e.g. `unclosed_think`; empty means well formed."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Turn:
    """One finished turn of the policy, as passed to an environment."""

    text: str
    """The sampled text, without the end of sequence."""
    parse: Parse
    """The protocol's parse of the text."""
    index: int
    """Number of earlier turns on the path."""
    is_truncated: bool = False
    """True when a token limit ended it, not the policy."""


Speaker = Literal["tool", "user"]
"""Roles that may speak between two turns of the policy."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Observation:
    """One message the policy reads between two of its turns."""

    content: str
    """The text, before the protocol wraps and escapes it."""
    role: Speaker = "tool"
    """The speaker."""
    result: ToolResult | None = None
    """The tool result whose content it shows; None for any other message."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Step:
    """An environment's answer to one turn of the policy.

    A step without observations ends the path even if it is not done: a limit of the environment ended the episode.

    Example:
        Step(observations=(Observation(role="user", content="higher"),), reward=-0.1)
    """

    observations: tuple[Observation, ...] = ()
    """The messages the policy reads next, in order."""
    is_done: bool = False
    """True ends the episode; observations may still be shown."""
    reward: float | None = None
    """Reward of the turn; None: the environment gives none."""
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """Numbers by name; the reward `environment` sums them over the trajectory into components."""


@dataclass(slots=True, frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn."""

    temperature: float = 1.0
    """Divisor of the logits; 0 means greedy. Log-probs and entropies are measured at this temperature (1 when greedy)."""
    max_tokens: int = 256
    """Most tokens one request may sample."""
    entropy_top_k: int | None = None
    """Number of most likely tokens over which entropies are summed; None: all tokens the engine sees."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.temperature < 0 or self.max_tokens < 1:
            raise ValueError(
                f"SamplingParams: temperature={self.temperature} must be >= 0 and max_tokens={self.max_tokens} >= 1"
            )
        if self.entropy_top_k is not None and self.entropy_top_k < 1:
            raise ValueError(f"SamplingParams: entropy_top_k={self.entropy_top_k} must be >= 1, or None")


@dataclass(slots=True, frozen=True, kw_only=True)
class Completion:
    """Tokens sampled in one engine request, with the log-prob and entropy of each.

    Example:
        Completion(
            token_ids=[17, 4], logprobs=[-0.1, -2.3], entropies=[0.3, 1.9], stop_reason=StopReason.LENGTH, policy_version=0
        )
    """

    token_ids: list[int]
    """[T] sampled ids, including a sampled end-of-sequence token."""
    logprobs: list[float]
    """[T] natural log-probabilities at the sampling temperature; empty from an engine that has no `entropy_estimators`."""
    entropies: list[float]
    """[T] entropy of the distribution of each token, nats; over the full vocabulary, or as the engine's estimator and
    `SamplingParams.entropy_top_k` say; empty like `logprobs`."""
    stop_reason: StopReason
    policy_version: int
    """Optimizer updates behind the weights that drew the tokens, as passed to the engine."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Reward:
    """The score of one trajectory.

    Example:
        Reward(value=1.1, is_correct=True, components={"grade": 1.0, "multi_tool_bonus": 0.1}, reason="F1 1 with 'Kelford'")
    """

    value: float
    """The number that training maximises."""
    is_correct: bool | None = None
    """Whether the answer is right: by the judge, else the configured grader, else exact match. No other field says so.
    None: not graded."""
    components: Mapping[str, float] = field(default_factory=dict[str, float])
    """Named parts, e.g. `{"grade": 1.0, "format": 1.0, "multi_tool_bonus": 0.1, "exact_match": 1.0}`."""
    reason: str = ""
    """The reason, in a few words for people."""
