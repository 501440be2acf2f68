"""The records every layer shares: messages, tasks, tool calls and results, parses, sampling parameters.

Plain data without behaviour beyond derived properties; no torch, no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

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
    """Unique within a file set; seeds, caches and records refer to it."""
    messages: tuple[Message, ...]
    """The prompt, without the protocol's system message when the data brings none."""
    references: tuple[str, ...]
    """Accepted answers; any one of them counts."""
    source: str
    """Where the task comes from: the `data_source` of the public schema, or the file's name."""
    ability: str | None = None
    """`math`, `qa`, ... as the data says; None when it says nothing."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Everything else the row carried, JSON-serialisable."""

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
    """Why it cannot be carried out, in words for the model (its JSON is malformed, say); empty when it can."""


ToolStatus = Literal["success", "error", "timeout", "refused"]


@dataclass(slots=True, frozen=True, kw_only=True)
class ToolResult:
    """What a tool call gave back; a failure is a result too, never an exception."""

    content: str
    """The text the model will read, before the protocol wraps and escapes it."""
    status: ToolStatus = "success"
    """`error`: the tool or the program failed; `timeout`: stopped by the executor; `refused`: a limit forbade the call."""
    cached: bool = False
    """True when the result came from the cache, so that the call was issued but not executed."""
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
    """What a protocol read in one completion. Rewards read this; they never parse text again.

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
    """One finished turn of the policy, as an environment sees it."""

    text: str
    """What it wrote, without the end of sequence."""
    parse: Parse
    """What the protocol read in it."""
    index: int
    """Turns before it on its path."""
    is_truncated: bool = False
    """True when a token limit ended it, not the policy."""


Speaker = Literal["tool", "user"]
"""Who may speak between two turns of the policy."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Observation:
    """One message the policy reads between two of its turns."""

    content: str
    """Its text, before the protocol wraps and escapes it."""
    role: Speaker = "tool"
    """Who speaks."""
    result: ToolResult | None = None
    """The result of the call it answers, whose content it shows; None where no tool gave it."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Step:
    """What an environment says to one turn of the policy.

    A step that is not done and shows nothing ends the path too: a limit of the environment cut the episode off.

    Example:
        Step(observations=(Observation(role="user", content="higher"),), reward=-0.1)
    """

    observations: tuple[Observation, ...] = ()
    """What the policy reads next, in order."""
    is_done: bool = False
    """True ends the episode; observations may still be shown."""
    reward: float | None = None
    """What the turn earned; None: nothing is said of it."""
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """Numbers by name, summed over the trajectory into components of the reward `environment`."""


@dataclass(slots=True, frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn."""

    temperature: float = 1.0
    """Logits are divided by this; 0 means greedy. Log-probs and entropies are those at this temperature (1 when greedy)."""
    max_tokens: int = 256
    """Most tokens one request may sample."""
    entropy_top_k: int | None = None
    """Entropies are summed over this many most likely tokens only; None: over all the engine can see."""

    def __post_init__(self) -> None:
        """Refuse values no engine can honour."""
        if self.temperature < 0 or self.max_tokens < 1:
            raise ValueError(
                f"SamplingParams: temperature={self.temperature} must be >= 0 and max_tokens={self.max_tokens} >= 1"
            )
        if self.entropy_top_k is not None and self.entropy_top_k < 1:
            raise ValueError(f"SamplingParams: entropy_top_k={self.entropy_top_k} must be >= 1, or None")


@dataclass(slots=True, frozen=True, kw_only=True)
class Completion:
    """Tokens sampled in one engine request, with what the engine knows of each.

    Example:
        Completion(
            token_ids=[17, 4], logprobs=[-0.1, -2.3], entropies=[0.3, 1.9], stop_reason=StopReason.LENGTH, policy_version=0
        )
    """

    token_ids: list[int]
    """[T] sampled ids, the end-of-sequence token included when it was sampled."""
    logprobs: list[float]
    """[T] natural log-probabilities at the sampling temperature; empty from an engine that has no `entropy_estimators`."""
    entropies: list[float]
    """[T] entropy of the distribution each token was drawn from, nats; over the full vocabulary unless the engine or
    `SamplingParams.entropy_top_k` says otherwise; empty as `logprobs`."""
    stop_reason: StopReason
    policy_version: int
    """Optimizer updates behind the weights that drew the tokens, by the engine's own count."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Reward:
    """The score of one trajectory.

    Example:
        Reward(value=1.1, is_correct=True, components={"grade": 1.0, "multi_tool_bonus": 0.1}, reason="F1 1 with 'Kelford'")
    """

    value: float
    """What training maximises."""
    is_correct: bool | None = None
    """Whether the answer is right, by whoever graded it: the judge, else the configured grader, else exact match. This alone
    says what is right. None: nobody graded it."""
    components: Mapping[str, float] = field(default_factory=dict[str, float])
    """Named parts, e.g. `{"grade": 1.0, "format": 1.0, "multi_tool_bonus": 0.1, "exact_match": 1.0}`."""
    reason: str = ""
    """Why, in a few words a person can read."""
