"""The interfaces of a tokenizer and of a protocol, which encodes prompts and observations and parses completions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from arpo.types import Message, Observation, Parse, Task, ToolCall


class Tokenizer(Protocol):
    """The tokenizer of the agent loop: `encoding.PolicyTokenizer` or `text_tokenizer.TextTokenizer`."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids of which any ends a completion."""
        ...

    @property
    def eos_tokens(self) -> tuple[str, ...]:
        """Texts of the added tokens among `eos_ids`, longest first."""
        ...

    @property
    def turn_end(self) -> str:
        """The one of `eos_tokens` that ends a turn in the model's template, else its end of sequence; empty: there is none."""
        ...

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        ...

    def encode_markup(self, text: str) -> list[int]:
        """Ids of the protocol's text; they may hold added tokens, never a beginning-of-sequence token."""
        ...

    def encode_untrusted(self, text: str) -> list[int]:
        """Ids of text from outside; they never hold special or other added tokens."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        ...

    def encode_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = ...,
        variables: Mapping[str, Any] = ...,
        markup: Iterable[str] = ...,
    ) -> list[int]:
        """Ids of a prompt, up to the policy's turn; no text of the user becomes a control token."""
        ...

    def cut(self, text: str, max_tokens: int) -> tuple[str, bool]:
        """The text cut to at most `max_tokens` tokens of untrusted text, and True when it had to be cut."""
        ...

    def defuse(self, text: str) -> str:
        """The text with a blank in the text of each added token, so that its markup encoding holds none."""
        ...

    def check_round_trip(self, texts: Iterable[str]) -> None:
        """Raise ModelError unless each text, encoded between two others, decodes to itself."""
        ...


class ToolProtocol(Protocol):
    """How a model writes tool calls and reads their results. Stateless."""

    stop_strings: tuple[str, ...]
    """Strings of which any ends sampling."""
    turn_end: str
    """Token that ends those turns of a training conversation that no stop string ends; empty: none does."""

    def encode_prompt(self, task: Task) -> list[int]:
        """Token ids of the prompt, up to the policy's turn."""
        ...

    def parse(self, completion: str, *, is_truncated: bool = False) -> Parse:
        """Parse one completion: its calls or answer and its format faults. Text after the first stop string is ignored.

        Args:
            completion: Sampled text, without an end-of-sequence token.
            is_truncated: True when a token limit ended it, not the model.
        """
        ...

    def encode_observation(self, *observations: Observation) -> list[int]:
        """Token ids of the observations after a turn: wrappers as markup, contents as untrusted text with escaped markers."""
        ...


class WritingProtocol(ToolProtocol, Protocol):
    """A protocol that also writes what stands in fields of its own in a training conversation."""

    def write_turn(self, text: str, reasoning: str, calls: Sequence[ToolCall]) -> str:
        """A turn of the model: its reasoning, its text and its calls, those that are not empty.

        Raises:
            DataError: the protocol has no such tool.
        """
        ...

    def offering(self, tools: Sequence[Mapping[str, Any]]) -> "WritingProtocol":
        """The protocol with a prompt that shows these tools in place of its own.

        Args:
            tools: As functions of a chat template.

        Raises:
            DataError: the prompt cannot show others than its own.
        """
        ...


def with_system_message(
    messages: Sequence[Message], system_prompt: str, task_system_prompt: Literal["keep", "replace", "drop"] = "keep"
) -> Sequence[Message]:
    """The messages of a prompt with the system message it is to have; a blank one counts as none.

    Args:
        messages: Of a task or conversation.
        system_prompt: The configured text; empty: none.
        task_system_prompt: What becomes of the messages' own, as the key of that name.
    """
    keeps = task_system_prompt == "keep"
    rest = [message for message in messages if message.role != "system" or (keeps and message.content.strip())]
    is_due = task_system_prompt != "drop" and bool(system_prompt)
    return [Message(role="system", content=system_prompt), *rest] if is_due and rest[0].role != "system" else rest
