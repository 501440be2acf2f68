"""What a protocol is: how a task becomes a prompt, a completion a parse, and a tool result an observation."""

from collections.abc import Sequence
from typing import Protocol

from arpo.types import Parse, Task, ToolResult


class Tokenizer(Protocol):
    """The part of a tokenizer the protocols need; `protocols.encoding.PolicyTokenizer` is the one implementation."""

    def encode_markup(self, text: str) -> list[int]:
        """Ids of protocol text we wrote ourselves; added tokens may arise, a beginning-of-sequence token never does."""
        ...

    def encode_untrusted(self, text: str) -> list[int]:
        """Ids of text from outside; neither special nor other added tokens can arise from it."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some ids, special tokens included."""
        ...


class ToolProtocol(Protocol):
    """How a model writes a tool call and reads its result. Stateless."""

    stop_strings: tuple[str, ...]
    """Sampling stops once one of these has been written."""

    def encode_prompt(self, task: Task) -> list[int]:
        """Token ids of the whole prompt, up to where the policy begins."""
        ...

    def parse(self, completion: str) -> Parse:
        """Read one completion: its call or answer and its format faults. Text after the first stop string is ignored."""
        ...

    def encode_observation(self, result: ToolResult) -> list[int]:
        """Token ids of the observation: the wrapper as markup, the content as untrusted text with protocol tags escaped."""
        ...
