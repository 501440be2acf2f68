"""Rows as a model reads them: the text after rendering, in parts that train or do not, with their numbers of tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from arpo.data.conversations import encode_parts, scan_conversations
from arpo.data.tasks import scan_tasks
from arpo.errors import DataError, ModelError
from arpo.files.sources import Source
from arpo.protocols.base import Tokenizer, WritingProtocol


@dataclass(slots=True, frozen=True)
class RenderedPart:
    """Consecutive tokens of one speaker."""

    speaker: str
    """`prompt`, `assistant`, `tool` or `user`."""
    text: str
    """With special tokens."""
    num_tokens: int
    is_trained: bool


@dataclass(slots=True, frozen=True)
class RenderedRow:
    """A conversation, or the prompt of a task."""

    row: int
    """Counted from 1."""
    parts: list[RenderedPart]

    @property
    def num_tokens(self) -> int:
        """Tokens of all parts."""
        return sum(part.num_tokens for part in self.parts)

    @property
    def num_trained(self) -> int:
        """Tokens that train; 0 of a task."""
        return sum(part.num_tokens for part in self.parts if part.is_trained)


def render_rows(
    source: Source, protocol: WritingProtocol, tokenizer: Tokenizer, number: int, *, are_tasks: bool
) -> list[RenderedRow]:
    """The first usable rows of a source, at most `number`, as training and rollouts encode them.

    Raises:
        DataError: a file cannot be read.
    """
    rows = _prompts(source, protocol, tokenizer) if are_tasks else _conversations(source, protocol, tokenizer)
    return list(islice(rows, number))


def _prompts(source: Source, protocol: WritingProtocol, tokenizer: Tokenizer) -> Iterator[RenderedRow]:
    for row in scan_tasks(source, _pass_over):
        ids = protocol.encode_prompt(row.value.task)
        yield RenderedRow(row.number, [RenderedPart("prompt", tokenizer.decode(ids), len(ids), False)])


def _conversations(source: Source, protocol: WritingProtocol, tokenizer: Tokenizer) -> Iterator[RenderedRow]:
    for row in scan_conversations(source, _pass_over):
        try:
            parts = list(encode_parts(row.value, protocol, tokenizer))
        except (DataError, ModelError):  # a bad row, which the check reports
            continue
        yield RenderedRow(
            row.number, [RenderedPart(p.speaker, tokenizer.decode(p.token_ids), len(p.token_ids), p.is_trained) for p in parts]
        )


def _pass_over(bad: object) -> None:
    """A bad row is the check's to report."""
