"""Engine, tokenizer, protocol and environment of an agent on a decision tree."""

from collections.abc import Callable, Sequence

from arpo.inference.token_prefix import TokenPrefix, TokenPrefixEngine
from arpo.lab.bias.decision_tree import PROMPT, RESULT, DecisionTree
from arpo.ranks import Gather, alone
from arpo.types import (
    Completion,
    Message,
    Observation,
    Parse,
    SamplingParams,
    Step,
    StopReason,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)

TASK = Task(id="decision-tree", messages=(Message(role="user", content=PROMPT),), references=("y",), source="study")
TOOL = "search"

Draw = Callable[[Sequence[float], int, int], int]
"""`draw(probabilities, seed, position)`: the index of the next token."""


class TableEngine(TokenPrefixEngine):
    """An `InferenceEngine` that reads each distribution off the decision tree; log-probs and entropies are exact."""

    entropy_estimators: tuple[str, ...] = ("exact",)

    def __init__(self, tree: DecisionTree, draw: Draw):
        super().__init__()
        self._tree = tree
        self._draw = draw

    async def generate(
        self, prefix: TokenPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, TokenPrefix]:
        """As `InferenceEngine.generate`; a completion ends where that of the decision tree ends."""
        prefix.require_held()
        alphabet = self._tree.alphabet
        text = "".join(alphabet[i] for i in prefix.token_ids)
        token_ids: list[int] = []
        logprobs: list[float] = []
        entropies: list[float] = []
        while len(token_ids) < sampling.max_tokens and not self._tree.is_finished(text):
            choice = self._tree.choices[text]
            index = self._draw(choice.probabilities.tolist(), seed, position + len(token_ids))
            text += choice.tokens[index]
            token_ids.append(alphabet.index(choice.tokens[index]))
            logprobs.append(float(choice.log_probabilities[index]))
            entropies.append(choice.entropy)
        reason = StopReason.EOS if self._tree.is_finished(text) else StopReason.LENGTH
        completion = Completion(
            token_ids=token_ids, logprobs=logprobs, entropies=entropies, stop_reason=reason, policy_version=self.version
        )
        return completion, prefix.extend(token_ids, is_sampled=True)


class LetterTokenizer:
    """The part of `PolicyTokenizer` a rollout needs: a letter is a token."""

    eos_ids: frozenset[int] = frozenset()

    def __init__(self, tree: DecisionTree):
        self._alphabet = tree.alphabet
        self.vocab_size = len(tree.alphabet)
        """Letters there are."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """As `PolicyTokenizer.decode`."""
        return "".join(self._alphabet[i] for i in token_ids)


class LetterProtocol:
    """A `ToolProtocol`: a completion that ends with "s" calls the tool, any other is an answer."""

    stop_strings: tuple[str, ...] = ()
    turn_end = ""

    def __init__(self, tree: DecisionTree):
        self._alphabet = tree.alphabet

    def encode_prompt(self, task: Task) -> list[int]:
        """As `ToolProtocol.encode_prompt`."""
        return [self._alphabet.index(PROMPT)]

    def parse(self, completion: str, *, is_truncated: bool = False) -> Parse:
        """As `ToolProtocol.parse`."""
        if completion.endswith("s"):
            return Parse(calls=(ToolCall(name=TOOL, arguments={"query": completion}),))
        return Parse(answer=completion)

    def encode_observation(self, *observations: Observation) -> list[int]:
        """As `ToolProtocol.encode_observation`; the same token whatever was asked, as the prefix tells the states apart."""
        return [self._alphabet.index(RESULT)]


class TableEnvironment:
    """An `Environment`, and each of its sessions, without state: a call gets the result at once, an answer ends the episode."""

    messages: tuple[Message, ...] = ()
    max_observations = 3
    """As of a `ToolExecutor` with `max_calls = 2`."""

    async def open(self, task: Task, seed: int) -> "TableEnvironment":
        """As `Environment.open`."""
        return self

    async def step(self, turn: Turn) -> Step:
        """As `Session.step`."""
        if not turn.parse.calls:
            return Step(is_done=True)
        return Step(observations=(Observation(content=RESULT, result=ToolResult(content=RESULT)),))

    def fork(self) -> "TableEnvironment":
        """As `Session.fork`."""
        return self

    def drain_metrics(self, gather: Gather = alone) -> dict[str, float]:
        """As `Environment.drain_metrics`."""
        return {}

    async def aclose(self) -> None:
        """As `Environment.aclose`."""
