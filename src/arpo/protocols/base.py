"""What a protocol is: how a task becomes a prompt, a completion a parse, and what its environment says an observation."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from arpo.types import Message, Observation, Parse, Task


class Tokenizer(Protocol):
    """What the agent loop needs of a tokenizer: `encoding.PolicyTokenizer`, or `text_tokenizer.TextTokenizer` in its place."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Any of these ends a completion."""
        ...

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        ...

    def encode_markup(self, text: str) -> list[int]:
        """Ids of protocol text we wrote ourselves; added tokens may arise, a beginning-of-sequence token never does."""
        ...

    def encode_untrusted(self, text: str) -> list[int]:
        """Ids of text from outside; neither special nor other added tokens can arise from it."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some ids, special tokens included."""
        ...

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a whole prompt, up to where the policy begins to write."""
        ...

    def cut(self, text: str, max_tokens: int) -> tuple[str, bool]:
        """The text cut to at most `max_tokens` tokens of untrusted text, and whether it had to be."""
        ...

    def defuse(self, text: str) -> str:
        """The text with a blank put into every added token's text, so that none arises when it is encoded as markup."""
        ...

    def check_round_trip(self, texts: Iterable[str]) -> None:
        """Make sure that each text, encoded between two others, is decoded to itself; ModelError otherwise."""
        ...


class ToolProtocol(Protocol):
    """How a model writes tool calls and reads their results. Stateless."""

    stop_strings: tuple[str, ...]
    """Sampling stops once one of these has been written."""
    turn_end: str
    """The control token behind every turn of the model, for conversations that are to be trained on; empty when turns end with
    a stop string instead."""

    def encode_prompt(self, task: Task) -> list[int]:
        """Token ids of the whole prompt, up to where the policy begins."""
        ...

    def parse(self, completion: str, *, is_truncated: bool = False) -> Parse:
        """Read one completion: its calls or answer and its format faults. Text after the first stop string is ignored.

        Args:
            completion: What was sampled, as text, without an end-of-sequence token.
            is_truncated: A token limit ended it, not the model.
        """
        ...

    def encode_observation(self, *observations: Observation) -> list[int]:
        """Token ids of what is said to a turn: wrappers as markup, contents as untrusted text with markers escaped."""
        ...
