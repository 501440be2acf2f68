r"""Conversations for supervised training: whole trajectories as messages.

Rows have one of two forms. OpenAI's, where a result is a message:

    {"messages": [{"role": "user", "content": "Where was Ada Moor born?"},
                  {"role": "assistant", "content": "<think> ... </think> <search> Ada Moor born </search>"},
                  {"role": "tool", "content": "Ada Moor (born 1931 in Kelford) ..."},
                  {"role": "assistant", "content": " <think> ... </think> <answer> \\boxed{Kelford} </answer>"}]}

and ShareGPT's, with the results inside the assistant's text as `<result> ... </result>`:

    {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}], "system": ...}

Assistant text trains; results never do.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from arpo.data.tasks import to_task
from arpo.errors import DataError
from arpo.files.rows import BadRowError, shorten
from arpo.files.sources import BadRow, ParsedRow, Source, no_rows, open_source
from arpo.files.whole import whole
from arpo.protocols.base import Tokenizer, ToolProtocol
from arpo.protocols.stop import split_at_stop
from arpo.tree import NodeKind, Trajectory
from arpo.types import Message, Observation, Role, Task

SHAREGPT_ROLES: dict[str, Role] = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "tool": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
_OPENAI_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_INLINE_RESULT = re.compile(r"\s*<result>(.*?)</result>", re.DOTALL)


@dataclass(slots=True, frozen=True)
class Conversation:
    """A prompt and the turns that follow it."""

    task_messages: tuple[Message, ...]
    """The prompt, without the protocol's system message when the data brings none."""
    turns: tuple[Message, ...]
    """Messages of the assistant, and between any two the results of the calls of the first, each a tool message without its
    wrapper."""


@dataclass(slots=True, frozen=True)
class ConversationFile:
    """The conversations of a source."""

    conversations: list[Conversation]
    rows: list[tuple[Path, int]]
    """File and row of each conversation, counted from 1; in a JSONL file the line."""
    bad_rows: list[BadRow]
    """Rows that were dropped, in order; the caller reports them."""


def read_conversations(path: Path) -> ConversationFile:
    """The conversations of a source (see `arpo.files.sources`), and the rows that are none.

    Raises:
        DataError: there is no such source, it is unreadable or of another kind, or it has no usable row.
    """
    file = ConversationFile([], [], [])
    for row in scan_conversations(open_source(path), file.bad_rows.append):
        file.conversations.append(row.value)
        file.rows.append((row.path, row.row.number))
    if not file.conversations:
        raise no_rows(path, "usable conversation", file.bad_rows)
    return file


def scan_conversations(source: Source, on_bad_row: Callable[[BadRow], object]) -> Iterator[ParsedRow[Conversation]]:
    """Every conversation of a source, in order; `on_bad_row` gets the rows that are none.

    Raises:
        DataError: a file cannot be read.
    """
    return source.parse(lambda row, _: _read_conversation(row), on_bad_row)


def holds_conversations(source: Source) -> bool:
    """Whether the first readable row is no task, but has the keys of a conversation."""
    rows = (row.value for row in source.scan() if isinstance(row.value, dict))
    first = next(rows, {})
    try:
        to_task(first, "first", source.name)
    except BadRowError:
        return "messages" in first or "conversations" in first
    return False


def message_rows(conversation: Conversation) -> list[dict[str, str]]:
    """The messages in OpenAI's form."""
    return [{"role": m.role, "content": m.content} for m in (*conversation.task_messages, *conversation.turns)]


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write conversations in OpenAI's form, one per line, whole or not at all."""
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for conversation in conversations:
            file.write(json.dumps({"messages": message_rows(conversation)}, ensure_ascii=False) + "\n")


def encode_conversation(
    conversation: Conversation, protocol: ToolProtocol, tokenizer: Tokenizer
) -> tuple[list[int], list[bool]]:
    """Token ids and loss mask, as in a rollout: True on assistant text, False on the prompt and on results.

    Blanks after the stop string of an assistant turn are removed, as nothing is sampled there. Where the protocol ends turns
    with a control token, turns without it get it, and it trains.

    Raises:
        DataError: an assistant turn goes on after a stop string, which a rollout cannot; or several results follow a turn with
            another number of calls.

    Example:
        A prompt of 5 tokens, an assistant turn of 3, a result of 4 and a turn of 2 give 14 ids and a mask with 5 True.
    """
    task = Task(id="conversation", messages=conversation.task_messages, references=(), source="")
    token_ids = protocol.encode_prompt(task)
    loss_mask = [False] * len(token_ids)
    completion = ""
    for is_policy, turns in groupby(conversation.turns, key=lambda turn: turn.role == "assistant"):
        messages = list(turns)
        if is_policy:
            completion = _until_stop(messages[0].content, protocol.stop_strings).removesuffix(protocol.turn_end)
            ids = tokenizer.encode_markup(completion + protocol.turn_end)
        else:
            num_results = sum(turn.role == "tool" for turn in messages)
            if num_results > 1 and num_results != len(calls := protocol.parse(completion).calls):
                raise DataError(f"conversation: {num_results} results follow a turn of the assistant with {len(calls)} calls")
            ids = protocol.encode_observation(*map(_as_observation, messages))
        token_ids += ids
        loss_mask += [is_policy] * len(ids)
    return token_ids, loss_mask


def _as_observation(turn: Message) -> Observation:
    return Observation(content=turn.content, role="user" if turn.role == "user" else "tool")


def trajectory_to_conversation(trajectory: Trajectory) -> Conversation:
    """The conversation of a trajectory: texts of its completions, results of its tools, and other messages.

    Raises:
        DataError: an observation shows nothing.
    """
    turns: list[Message] = []
    for node in trajectory.nodes[1:]:
        if node.kind is NodeKind.OBSERVATION:
            if not node.results and not node.messages:
                raise DataError(f"tree of task {trajectory.task.id}, node {node.id}: an observation that shows nothing")
            turns += [Message(role="tool", content=result.content) for result in node.results]
            turns += node.messages
        elif turns and turns[-1].role == "assistant":  # a completion that was split for a fork
            turns[-1] = Message(role="assistant", content=turns[-1].content + node.text)
        else:
            turns.append(Message(role="assistant", content=node.text))
    return Conversation(trajectory.task.messages, tuple(turns))


def _read_conversation(row: dict[str, Any]) -> Conversation:
    messages = _read_messages(row)
    first = next((i for i, m in enumerate(messages) if m.role in ("assistant", "tool")), len(messages))
    prompt, turns = messages[:first], messages[first:]
    if not prompt or prompt[-1].role != "user":
        raise BadRowError("no message of the user before the first turn of the assistant")
    before = "user"
    for index, turn in enumerate(turns):
        is_first, follows_policy = index == 0, before == "assistant"
        if turn.role == "system" or (turn.role == "assistant" and follows_policy) or (turn.role != "assistant" and is_first):
            expected = "assistant" if is_first else "tool or user" if follows_policy else "assistant, tool or user"
            raise BadRowError(
                f"turn {index + 1} is of {turn.role!r} where {expected!r} is due: the assistant and others must alternate"
            )
        if turn.role == "assistant" and not turn.content.strip():
            raise BadRowError(f"turn {index + 1} of the assistant is blank")
        before = turn.role
    if not turns or turns[-1].role != "assistant":
        raise BadRowError("it does not end with a turn of the assistant")
    return Conversation(tuple(prompt), tuple(turns))


def _read_messages(row: dict[str, Any]) -> list[Message]:
    if "messages" in row:
        return [_read_message(entry, "role", "content", _OPENAI_ROLES) for entry in _as_list(row, "messages")]
    messages = [_read_message(entry, "from", "value", SHAREGPT_ROLES) for entry in _as_list(row, "conversations")]
    if row.get("system") and messages[0].role != "system":
        messages.insert(0, Message(role="system", content=str(row["system"])))
    return [piece for message in messages for piece in _split_results(message)]


def _as_list(row: dict[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    if not isinstance(value, list) or not value:
        raise BadRowError(
            f"neither messages nor conversations is a list with entries; its keys are {shorten(sorted(row, key=str))}"
        )
    return cast(list[Any], value)


def _read_message(entry: Any, role_key: str, text_key: str, roles: dict[str, Role]) -> Message:
    role, text = (entry.get(role_key), entry.get(text_key)) if isinstance(entry, dict) else (None, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(role, str) or role not in roles or not isinstance(text, str):
        raise BadRowError(f"{shorten(entry)} is no message with {role_key!r} ({', '.join(roles)}) and a text in {text_key!r}")
    return Message(role=roles[role], content=text)


def _split_results(message: Message) -> list[Message]:
    """The text of the assistant and the results in it as turns; any other message as it is."""
    if message.role != "assistant":
        return [message]
    pieces = _INLINE_RESULT.split(message.content)  # text, result, text, result, ..., text
    turns = [Message(role="tool" if i % 2 else "assistant", content=p.strip() if i % 2 else p) for i, p in enumerate(pieces)]
    return turns[:-1] if len(turns) > 1 and not turns[-1].content.strip() else turns


def _until_stop(text: str, stop_strings: Iterable[str]) -> str:
    completion, rest = split_at_stop(text, stop_strings)
    if rest.strip():
        raise DataError(f"conversation: a turn of the assistant goes on after {completion[-12:]!r}, where sampling stops")
    return completion
