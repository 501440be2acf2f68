r"""Conversations for supervised training: whole trajectories as messages.

Rows have one of two forms. OpenAI's, where a result is a message:

    {"messages": [{"role": "user", "content": "Where was Ada Moor born?"},
                  {"role": "assistant", "content": "<think> ... </think> <search> Ada Moor born </search>"},
                  {"role": "tool", "content": "Ada Moor (born 1931 in Kelford) ..."},
                  {"role": "assistant", "content": " <think> ... </think> <answer> \\boxed{Kelford} </answer>"}]}

and ShareGPT's, with the results inside the assistant's text as `<result> ... </result>` or as `observation`:

    {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}], "system": ...}

Calls and reasoning stand in the assistant's text, or in fields of their own (`tool_calls`, `reasoning_content`), which the
protocol writes as the model will. Assistant text trains but where `weight`, `loss` or `train` is 0; results never do.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple, cast

from arpo.data.messages import (
    AssistantMessage,
    RowMessage,
    as_assistant,
    as_json,
    read_message,
    read_text,
    read_tools,
    refuse_unread,
)
from arpo.data.tasks import to_task
from arpo.errors import DataError, ModelError
from arpo.files.rows import BadRowError, shorten
from arpo.files.sources import BadRow, ParsedRow, Source, no_rows, open_source
from arpo.files.whole import whole
from arpo.protocols.base import Tokenizer, WritingProtocol
from arpo.protocols.stop import split_at_stop
from arpo.tree import NodeKind, Trajectory
from arpo.types import Message, Observation, Task, ToolCall

_INLINE_RESULT = re.compile(r"\s*<result>(.*?)</result>", re.DOTALL)


@dataclass(slots=True, frozen=True)
class Conversation:
    """A prompt and the turns that follow it."""

    task_messages: tuple[Message, ...]
    """The prompt, without the protocol's system message when the data brings none."""
    turns: tuple[Message, ...]
    """Messages of the assistant, and between any two the results of the calls of the first, each a tool message without its
    wrapper."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Tools the row offers, as functions of a chat template; empty: those of the protocol."""


@dataclass(slots=True, frozen=True)
class ConversationFile:
    """The conversations of a source."""

    conversations: list[Conversation]
    bad_rows: list[BadRow]
    """Rows that were dropped, in order; the caller reports them."""


class EncodedPart(NamedTuple):
    """The prompt, a turn of the assistant, or the messages between two of them."""

    speaker: str
    """`prompt`, `assistant`, or the roles of the messages: `tool`, `user`, `tool, user`."""
    token_ids: list[int]
    is_trained: bool


class EncodedConversation(NamedTuple):
    """A conversation as a protocol encodes it."""

    conversation: Conversation
    token_ids: list[int]
    loss_mask: list[bool]


def read_conversations(path: Path) -> ConversationFile:
    """The conversations of a source (see `arpo.files.sources`), and the rows that are none.

    Raises:
        DataError: there is no such source, it is unreadable or of another kind, or it has no usable row.
    """
    file = ConversationFile([], [])
    file.conversations.extend(row.value for row in scan_conversations(open_source(path), file.bad_rows.append))
    if not file.conversations:
        raise no_rows(path, "usable conversation", file.bad_rows)
    return file


def scan_conversations(source: Source, on_bad_row: Callable[[BadRow], object]) -> Iterator[ParsedRow[Conversation]]:
    """Every conversation of a source, in order; `on_bad_row` gets the rows that are none.

    Raises:
        DataError: a file cannot be read.
    """
    return source.parse(lambda row, _: _read_conversation(row), on_bad_row)


def scan_encoded(
    source: Source, protocol: WritingProtocol, tokenizer: Tokenizer, on_bad_row: Callable[[BadRow], object]
) -> Iterator[ParsedRow[EncodedConversation]]:
    """Every conversation of a source that the protocol can encode, in order; `on_bad_row` gets the other rows.

    Raises:
        DataError: a file cannot be read.
    """

    def encode(row: dict[str, Any], _: int) -> EncodedConversation:
        conversation = _read_conversation(row)
        try:
            return EncodedConversation(conversation, *encode_conversation(conversation, protocol, tokenizer))
        except (DataError, ModelError) as error:
            raise BadRowError(str(error)) from error

    return source.parse(encode, on_bad_row)


def holds_conversations(source: Source, *, or_both: bool = False) -> bool:
    """Whether the first readable row has the keys of a conversation and is no task; with `or_both` it may be a task too."""
    rows = (row.value for row in source.scan() if isinstance(row.value, dict))
    first = next(rows, {})
    if "messages" not in first and "conversations" not in first:
        return False
    try:
        to_task(first, "first", source.name)
    except BadRowError:
        return True
    return or_both


def conversation_row(conversation: Conversation) -> dict[str, Any]:
    """The conversation in OpenAI's form; arguments and tools are JSON texts, which parquet keeps as they are."""
    row: dict[str, Any] = {"messages": list(map(_message_row, (*conversation.task_messages, *conversation.turns)))}
    return row | ({"tools": json.dumps(conversation.tools, ensure_ascii=False)} if conversation.tools else {})


def _message_row(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    turn = as_assistant(message)
    functions = [{"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)} for call in turn.calls]
    row |= {"reasoning_content": turn.reasoning} if turn.reasoning else {}
    row |= {"tool_calls": [{"type": "function", "function": function} for function in functions]} if functions else {}
    return row | ({} if turn.is_trained else {"weight": 0})


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write conversations in OpenAI's form, one per line, whole or not at all."""
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for conversation in conversations:
            file.write(json.dumps(conversation_row(conversation), ensure_ascii=False) + "\n")


def encode_conversation(
    conversation: Conversation, protocol: WritingProtocol, tokenizer: Tokenizer
) -> tuple[list[int], list[bool]]:
    """Token ids and loss mask, as in a rollout: True on the assistant's text and calls, False on all else and masked turns.

    A turn of the assistant ends as in a rollout: with a stop string, else with the protocol's `turn_end`, which trains and
    replaces an end-of-sequence token in its text. Blanks after these are removed, as nothing is sampled there.

    Raises:
        DataError: an assistant turn goes on after a stop string or an end-of-sequence token, which a rollout cannot; or several
            results follow a turn with another number of calls; or the protocol cannot write a call, a thought or the tools of
            the row.

    Example:
        A prompt of 5 tokens, an assistant turn of 3, a result of 4 and a turn of 2 give 14 ids and a mask with 5 True.
    """
    token_ids: list[int] = []
    loss_mask: list[bool] = []
    for part in encode_parts(conversation, protocol, tokenizer):
        token_ids += part.token_ids
        loss_mask += [part.is_trained] * len(part.token_ids)
    return token_ids, loss_mask


def encode_parts(conversation: Conversation, protocol: WritingProtocol, tokenizer: Tokenizer) -> Iterator[EncodedPart]:
    """The parts of `encode_conversation`, in order: the prompt, then turns of the assistant and what stands between them.

    Raises:
        DataError: as `encode_conversation`.
    """
    if conversation.tools:
        protocol = protocol.offering(conversation.tools)
    task = Task(id="conversation", messages=conversation.task_messages, references=(), source="")
    yield EncodedPart("prompt", protocol.encode_prompt(task), False)
    completion = ""
    for is_policy, turns in groupby(conversation.turns, key=lambda turn: turn.role == "assistant"):
        messages = list(turns)
        if is_policy:
            turn = as_assistant(messages[0])
            completion, end = _split_end(_write(turn, protocol), protocol, tokenizer.eos_tokens)
            yield EncodedPart("assistant", tokenizer.encode_markup(completion + end), turn.is_trained)
        else:
            num_results = sum(turn.role == "tool" for turn in messages)
            if num_results > 1 and num_results != len(calls := protocol.parse(completion).calls):
                raise DataError(f"conversation: {num_results} results follow a turn of the assistant with {len(calls)} calls")
            speakers = ", ".join(dict.fromkeys(turn.role for turn in messages))
            yield EncodedPart(speakers, protocol.encode_observation(*map(_as_observation, messages)), False)


def _write(turn: AssistantMessage, protocol: WritingProtocol) -> str:
    """The turn's whole text; a thought or call in a field of its own is written so that the protocol reads it back."""
    if not turn.reasoning and not turn.calls:
        return turn.content
    bare = protocol.parse(protocol.write_turn(turn.content, "", turn.calls))
    if list(map(_plain, bare.calls)) != list(map(_plain, turn.calls)):
        raise DataError(
            f"conversation: tool_calls: the protocol cannot write {shorten([(c.name, dict(c.arguments)) for c in turn.calls])} "
            f"after the turn's text so that it reads them back: it reads {shorten([_plain(c) for c in bare.calls])}"
        )
    text = protocol.write_turn(turn.content, turn.reasoning, turn.calls)
    parse = protocol.parse(text)
    thoughts = bare.num_think_blocks + bool(turn.reasoning)
    if (parse.calls, parse.answer, parse.num_think_blocks, parse.faults) != (bare.calls, bare.answer, thoughts, bare.faults):
        raise DataError("conversation: reasoning_content: it holds a tag of the protocol, which would end it or the turn")
    return text


def _plain(call: ToolCall) -> tuple[str, dict[str, Any], str]:
    """A call without the blanks around its texts, which tags do not keep."""
    values = {k: dedent(v).strip() if isinstance(v, str) else v for k, v in call.arguments.items()}
    return call.name, values, call.fault


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
    refuse_unread(row)
    if row.get("weight", 1) not in (None, 1):
        raise BadRowError(f"weight = {shorten(row['weight'])} of a row cannot be honoured; give its turns weight 0 or 1")
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
        if turn.role == "assistant" and not turn.content.strip() and not as_assistant(turn).calls:
            raise BadRowError(f"turn {index + 1} of the assistant is blank")
        before = turn.role
    if not turns or turns[-1].role != "assistant":
        raise BadRowError("it does not end with a turn of the assistant")
    if not any(turn.role == "assistant" and as_assistant(turn).is_trained for turn in turns):
        raise BadRowError("weight, loss or train masks every turn of the assistant, so nothing trains")
    return Conversation(tuple(prompt), tuple(turns), read_tools(row))


def _read_messages(row: dict[str, Any]) -> list[Message]:
    key = "messages" if row.get("messages") else "conversations"
    messages = [piece for entry in map(read_message, _as_list(row, key)) for piece in _split_results(entry, key)]
    messages = list(_link_results(_join_calls(messages)))
    if row.get("system") and messages[0].role != "system":
        messages.insert(0, Message(role="system", content=read_text(row["system"])))
    return messages


def _join_calls(messages: Iterable[RowMessage]) -> list[RowMessage]:
    """The messages, where calls without a text belong to the turn of the assistant before them."""
    joined: list[RowMessage] = []
    for entry in messages:
        turn, before = as_assistant(entry.message), as_assistant(joined[-1].message) if joined else None
        is_rest = bool(turn.calls) and not turn.content and not turn.reasoning
        if before is not None and before.role == "assistant" and is_rest and before.is_trained == turn.is_trained:
            merged = replace(before, calls=(*before.calls, *turn.calls))
            joined[-1] = RowMessage(merged, (*joined[-1].call_ids, *entry.call_ids))
        else:
            joined.append(entry)
    return joined


def _link_results(messages: Sequence[RowMessage]) -> Iterator[Message]:
    """The messages, with results in the order of the calls whose ids they name."""
    caller: RowMessage | None = None
    for is_tool, group in groupby(messages, key=lambda entry: entry.message.role == "tool"):
        entries = list(group)
        if is_tool and caller is not None and as_assistant(caller.message).calls:
            entries = _sort_results(caller, entries)
        elif not is_tool and any(as_assistant(entry.message).calls for entry in entries[:-1]):
            raise BadRowError("tool_calls: no result follows a call")
        yield from (entry.message for entry in entries)
        caller = entries[-1]


def _sort_results(caller: RowMessage, results: list[RowMessage]) -> list[RowMessage]:
    num_calls, ids = len(as_assistant(caller.message).calls), [result.result_of for result in results]
    if len(results) != num_calls:
        raise BadRowError(f"tool_calls: {len(results)} results follow a turn of {num_calls} calls")
    if not (len(caller.call_ids) == num_calls and all(ids)):
        return results
    if sorted(ids) != sorted(caller.call_ids):
        raise BadRowError(f"tool_call_id: results of {ids} follow calls of {list(caller.call_ids)}")
    return sorted(results, key=lambda result: caller.call_ids.index(result.result_of))


def _as_list(row: dict[str, Any], key: str) -> list[Any]:
    value = as_json(row.get(key), key)
    if not isinstance(value, list) or not value:
        raise BadRowError(
            f"neither messages nor conversations is a list with entries; its keys are {shorten(sorted(row, key=str))}"
        )
    return cast(list[Any], value)


def _split_results(entry: RowMessage, key: str) -> list[RowMessage]:
    """The text of an assistant of ShareGPT's form and the results in it as turns; any other message as it is."""
    message = entry.message
    if key == "messages" or message.role != "assistant" or as_assistant(message).calls:
        return [entry]
    pieces = _INLINE_RESULT.split(message.content)  # text, result, text, result, ..., text
    turns: list[Message] = [replace(message, content=pieces[0])]
    for result, text in zip(pieces[1::2], pieces[2::2], strict=True):
        rest: Message = replace(message, content=text)
        rest = replace(rest, reasoning="") if isinstance(rest, AssistantMessage) else rest
        turns += [Message(role="tool", content=result.strip()), rest]
    return [RowMessage(turn) for turn in (turns[:-1] if len(turns) > 1 and not turns[-1].content.strip() else turns)]


def _split_end(text: str, protocol: WritingProtocol, eos_tokens: Sequence[str]) -> tuple[str, str]:
    """A turn's text up to where sampling stops, and the token that ends it; empty: a stop string does."""
    completion, rest = split_at_stop(text, (*protocol.stop_strings, *eos_tokens))
    if rest.strip() not in ("", *eos_tokens):
        raise DataError(f"conversation: a turn of the assistant goes on after {completion[-12:]!r}, where sampling stops")
    if completion.endswith(protocol.stop_strings):
        return completion, ""
    written = next((token for token in eos_tokens if completion.endswith(token)), "")
    return completion.removesuffix(written), protocol.turn_end
