"""A tokenizer for models that take and return text only, as the loop counts and stores tokens."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from arpo.protocols.encoding import CUT_MARK
from arpo.types import Message, Role

BYTES_PER_TOKEN = 4
_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_END = len(_ROLES)
"""Id that ends a message; the lower ids begin a message of each role."""


class TextTokenizer:
    """Tokens of up to four bytes of UTF-8, about the length of an English token of a large model.

    The ids belong to no model. They carry text through the loop, measure it for the limits, and become messages again before
    a request. No text can imitate the beginning or the end of a message.

    Example:
        TextTokenizer().encode_markup("Kelford")  # -> two ids: of "Kelf" and of "ord"
    """

    eos_ids: frozenset[int] = frozenset()
    """Empty: the server tells when a reply has ended."""
    eos_tokens: tuple[str, ...] = ()
    """Empty."""
    turn_end = ""
    """Empty."""
    vocab_size = 2 << 8 * BYTES_PER_TOKEN
    """One more than the largest id, which is a one before four bytes."""

    def encode_markup(self, text: str) -> list[int]:
        """Ids of a text."""
        data = text.encode("utf-8", "replace")
        parts = (data[i : i + BYTES_PER_TOKEN] for i in range(0, len(data), BYTES_PER_TOKEN))
        return [int.from_bytes(b"\x01" + part) for part in parts]  # the one keeps zero bytes at the beginning

    def encode_untrusted(self, text: str) -> list[int]:
        """As `encode_markup`, as there are no added tokens."""
        return self.encode_markup(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids; a message shows as `User: ...` and an empty line."""
        return b"".join(map(_bytes_of, token_ids)).decode("utf-8", "replace")

    def encode_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] = MappingProxyType({}),
        markup: Iterable[str] = (),
    ) -> list[int]:
        """Ids of a prompt; the last id begins the policy's message. The other arguments have no effect."""
        ids: list[int] = []
        for message in messages:
            ids += [_ROLES.index(message.role), *self.encode_markup(message.content), _END]
        return [*ids, _ROLES.index("assistant")]

    def decode_chat(self, token_ids: Sequence[int]) -> list[Message]:
        """The messages of `encode_chat`'s ids."""
        messages: list[Message] = []
        start = 0
        for position, index in enumerate(token_ids):
            if index == _END:
                content = self.decode(token_ids[start + 1 : position])
                messages.append(Message(role=_ROLES[token_ids[start]], content=content))
                start = position + 1
        return messages

    def cut(self, text: str, max_tokens: int) -> tuple[str, bool]:
        """As `PolicyTokenizer.cut`: a cut text ends with `CUT_MARK`, which counts."""
        data = text.encode("utf-8", "replace")
        if len(data) <= max_tokens * BYTES_PER_TOKEN:
            return text, False
        num_bytes = max(0, max_tokens * BYTES_PER_TOKEN - len(CUT_MARK))
        return data[:num_bytes].decode("utf-8", "ignore").rstrip() + CUT_MARK, True

    def defuse(self, text: str) -> str:
        """The text unchanged, as it holds no added token."""
        return text

    def check_round_trip(self, texts: Iterable[str]) -> None:
        """Nothing to check: every text decodes to itself."""


def _bytes_of(index: int) -> bytes:
    if index == _END:
        return b"\n\n"
    if index < _END:
        return f"{_ROLES[index].capitalize()}: ".encode()
    return index.to_bytes(BYTES_PER_TOKEN + 1).lstrip(b"\0")[1:]
