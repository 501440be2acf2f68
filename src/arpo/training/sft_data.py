"""The conversations of a supervised run: what it trains on, what it holds out, and in which order they come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from arpo.batching.packing import PackNode, split_by_tokens
from arpo.data.conversations import Conversation, scan_encoded
from arpo.data.prompts import PromptCheck
from arpo.data.tasks import question_key, report_bad_rows
from arpo.errors import CheckpointError, ConfigError, DataError
from arpo.files.sources import BadRow, no_rows, open_source
from arpo.protocols.build import build_protocol
from arpo.protocols.encoding import PolicyTokenizer
from arpo.seeds import derive_seed
from arpo.tools.build import tool_schemas
from arpo.tracking.progress import Progress
from arpo.training.config import SftRun
from arpo.types import Task


@dataclass(slots=True, frozen=True)
class SftData:
    """Encoded conversations of a supervised run."""

    training: list[PackNode]
    """In the order of the source."""
    validation: list[PackNode]
    """Held out; empty without a validation."""
    num_left_out: int
    """Rows that were dropped, and conversations that were filtered, of both parts."""

    def digest(self) -> str:
        """A digest of the token ids and loss masks of both parts, in order."""
        hashed = blake2b(digest_size=16)
        for part in (self.training, self.validation):
            hashed.update(len(part).to_bytes(8, "big"))
            for node in part:
                hashed.update(len(node.token_ids).to_bytes(8, "big"))
                hashed.update(np.asarray(node.token_ids, dtype=np.int64).tobytes() + bytes(node.loss_mask))
        return hashed.hexdigest()


class _Encoded(NamedTuple):
    prompt: int
    """The same number for the same prompt."""
    node: PackNode


def read_sft_data(config: SftRun, tokenizer: PolicyTokenizer, progress: Progress) -> SftData:
    """Read and encode the conversations of a run, and hold out those of its validation.

    No prompt is in both parts; the messages of the user and earlier turns are the prompt, a system message is not.
    `validation.fraction` holds out all conversations of some prompts, chosen by the prompts' hashes: the same for every seed
    and in any order of the rows, the fewest prompts that reach the fraction. From `validation.data` conversations are left
    out whose prompt is in `data` too.

    Raises:
        DataError: a file cannot be read, or leaves no conversation to train on or to hold out.
        ConfigError: the longest conversation exceeds `batch_tokens` or `batching.max_tokens`.
    """
    training, num_left_out = _encode(config.data, config, tokenizer, progress)
    validation: list[_Encoded] = []
    if config.validation is not None and config.validation.data is not None:
        validation, num_unused = _encode(config.validation.data, config, tokenizer, progress)
        validation, num_known = _without_prompts_of(training, validation, config.validation.data, progress)
        num_left_out += num_unused + num_known
    elif config.validation is not None:
        training, validation = _split(training, config.validation.fraction, config.data)
    data = SftData([e.node for e in training], [e.node for e in validation], num_left_out)
    _check_room("batch_tokens", config.batch_tokens, data.training)
    _check_room("batching.max_tokens", config.batching.max_tokens, [*data.training, *data.validation])
    return data


def require_same_data(data: SftData, digest: str, checkpoint: Path) -> None:
    """Raise when a run goes on among other conversations than those of its checkpoint.

    Raises:
        CheckpointError: `digest`, that of the checkpoint, is another.
    """
    if digest != data.digest():
        raise CheckpointError(
            f"{checkpoint}: was trained on other conversations than `data`, `validation`, `protocol` and `model` give now, so "
            f"its place among them is wrong; restore the former files, or start a new run from {checkpoint / 'model'} as "
            f"model.path"
        )


def epochs(conversations: Sequence[PackNode], config: SftRun) -> Iterator[list[PackNode]]:
    """The conversations of each update, for all epochs; each epoch has its own order, which depends on the seed."""
    for epoch in range(config.num_epochs):
        order = list(conversations)
        Random(derive_seed(config.seed, "sft", epoch)).shuffle(order)
        yield from split(order, config.batch_tokens)


def split(conversations: Sequence[PackNode], max_tokens: int) -> Iterator[list[PackNode]]:
    """Consecutive conversations in parts of at most `max_tokens` tokens each."""
    for indices in split_by_tokens([len(c.token_ids) for c in conversations], max_tokens):
        yield [conversations[i] for i in indices]


def _encode(path: Path, config: SftRun, tokenizer: PolicyTokenizer, progress: Progress) -> tuple[list[_Encoded], int]:
    """The usable conversations of a source, and the number of dropped and filtered ones, which are reported."""
    protocol = build_protocol(config.protocol, tokenizer, tool_schemas(config.tools))
    bad_rows: list[BadRow] = []
    prompts = PromptCheck(config.protocol)
    encoded: list[_Encoded] = []
    for row in scan_encoded(open_source(path), protocol, tokenizer, bad_rows.append):
        prompts.add_prompt(row.value.conversation.task_messages)
        node = PackNode(None, row.value.token_ids, row.value.loss_mask)
        encoded.append(_Encoded(_prompt_key(row.value.conversation), node))
    report_bad_rows(bad_rows, progress)
    prompts.report(progress)
    if not encoded:
        raise no_rows(path, "usable conversation", bad_rows)
    short_enough = [e for e in encoded if len(e.node.token_ids) <= config.max_tokens]
    num_too_long = len(encoded) - len(short_enough)
    if num_too_long:
        progress.line(f"filtered: {num_too_long} conversations of more than max_tokens = {config.max_tokens} tokens")
    if not short_enough:
        raise DataError(f"{path}: no conversation has at most max_tokens = {config.max_tokens} tokens; raise it")
    return short_enough, len(bad_rows) + num_too_long


def _prompt_key(conversation: Conversation) -> int:
    return question_key(Task(id="", messages=conversation.task_messages, references=(), source=""))


def _split(conversations: Sequence[_Encoded], fraction: float, path: Path) -> tuple[list[_Encoded], list[_Encoded]]:
    """What is left to train on, and what is held out."""
    sizes: dict[int, int] = {}
    for conversation in conversations:
        sizes[conversation.prompt] = sizes.get(conversation.prompt, 0) + 1
    held_out, num_held_out = set[int](), 0
    for prompt in sorted(sizes):  # hashes, so this order is as good as random
        if num_held_out >= fraction * len(conversations):
            break
        held_out.add(prompt)
        num_held_out += sizes[prompt]
    if len(held_out) == len(sizes):
        raise DataError(
            f"{path}: validation.fraction = {fraction:g} of {len(conversations)} conversations with {len(sizes)} different "
            f"prompts leaves none to train on, as those of one prompt stay together; lower it or name validation.data"
        )
    training = [c for c in conversations if c.prompt not in held_out]
    return training, [c for c in conversations if c.prompt in held_out]


def _without_prompts_of(
    training: Sequence[_Encoded], validation: Sequence[_Encoded], path: Path, progress: Progress
) -> tuple[list[_Encoded], int]:
    """The held-out conversations whose prompt is not trained, and the number of the others, which is reported."""
    known = {conversation.prompt for conversation in training}
    unknown = [conversation for conversation in validation if conversation.prompt not in known]
    num_known = len(validation) - len(unknown)
    if not unknown:
        raise DataError(
            f"{path}: validation.data holds nothing out: the prompt of each of its {len(validation)} conversations is in "
            f"`data` too; name other conversations, or set validation.fraction instead"
        )
    if num_known:
        progress.line(f"left out of the validation: {num_known} conversations whose prompt is trained on too")
    return unknown, num_known


def _check_room(key: str, value: int, conversations: Sequence[PackNode]) -> None:
    longest = max(len(c.token_ids) for c in conversations)
    if longest > value:
        raise ConfigError(
            f"{key} = {value} is below the longest conversation, {longest} tokens, which cannot be cut; set {key} to {longest} "
            f"or more, or max_tokens to {value} or less, which filters longer conversations"
        )
