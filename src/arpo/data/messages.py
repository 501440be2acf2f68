"""Messages of rows, under the names that public data gives them.

A field that changes what a message says or whether it trains is honoured, or makes a bad row whose reason names the field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from arpo.files.rows import BadRowError, shorten
from arpo.protocols.strict_json import decode_json
from arpo.types import Message, Role, ToolCall

ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "function_call": "assistant", "tool_call": "assistant",
    "tool": "tool", "observation": "tool", "function_response": "tool", "tool_response": "tool", "function": "tool",
}  # fmt: skip
"""Roles of OpenAI's and ShareGPT's rows."""
_CALL_ROLES = ("function_call", "tool_call")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_CALLS = ("tool_calls", "function_call")
_TRAINED = ("weight", "loss", "train", "training", "trainable")
_WITHOUT_MEANING = frozenset({
    "id", "index", "uuid", "timestamp", "created", "created_at", "model", "metadata", "annotations", "finish_reason",
})  # fmt: skip
_TEXT_PARTS = ("text", "input_text", "output_text")
_NOT_READ = (
    "image", "images", "audio", "audios", "video", "videos", "documents", "chat_template_kwargs",
    "loss_mask", "assistant_masks", "mask_history",
)  # fmt: skip
"""Fields of a row that change what the model reads or which text trains."""


@dataclass(slots=True, frozen=True, kw_only=True)
class AssistantMessage(Message):
    """A turn of the assistant with fields beside its text."""

    reasoning: str = ""
    """Thoughts before the text, without tags."""
    calls: tuple[ToolCall, ...] = ()
    """Calls after the text."""
    is_trained: bool = True
    """False masks the turn."""


def as_assistant(message: Message) -> AssistantMessage:
    """The message with the fields of an assistant's, at their defaults where it has none."""
    return message if isinstance(message, AssistantMessage) else AssistantMessage(role=message.role, content=message.content)


class RowMessage(NamedTuple):
    """A message, and how the row links calls and results."""

    message: Message
    call_ids: tuple[str, ...] = ()
    """Ids of its calls; empty where the row gives none."""
    result_of: str = ""
    """Id of the call whose result it is; empty where the row gives none."""


def read_message(entry: Any) -> RowMessage:
    """The message of an entry with `role` or `from`, and `content` or `value`.

    Raises:
        BadRowError: it is no message, or has a field that cannot be honoured.
    """
    fields = _filled(entry) if isinstance(entry, dict) else {}
    name = fields.pop("role" if "role" in fields else "from", None)
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    text_key = "content" if "content" in fields else "value"
    blank = "" if isinstance(entry, dict) and "" in (entry.get("content"), entry.get("value")) else None  # pyright: ignore[reportUnknownMemberType]
    content = fields.pop(text_key, blank)
    calls, ids = _take_calls(fields, content if name in _CALL_ROLES else None) if role == "assistant" else ((), ())
    content = "" if name in _CALL_ROLES or (content is None and calls) else content
    if role is None or content is None:
        roles = ", ".join(ROLES)
        raise BadRowError(
            f"{shorten(entry)} is no message with 'role' (or 'from': {roles}) and a text in 'content' (or 'value')"
        )
    text = read_text(content)
    reasoning = _take_reasoning(fields, text) if role == "assistant" else ""
    is_trained = _take_is_trained(fields, role)
    result_of = str(fields.pop("tool_call_id", "")) if role == "tool" else ""
    for key in _WITHOUT_MEANING | ({"name"} if role == "tool" else set()):
        fields.pop(key, None)
    if fields:
        raise BadRowError(
            f"{', '.join(map(repr, fields))} of a message of {name!r} cannot be honoured; remove the key or the row"
        )
    if reasoning or calls or (role == "assistant" and not is_trained):
        turn = AssistantMessage(role=role, content=text, reasoning=reasoning, calls=calls, is_trained=is_trained)
        return RowMessage(turn, ids)
    return RowMessage(Message(role=role, content=text), (), result_of)


def read_text(content: Any) -> str:
    """The text of a message, which may stand in parts: `[{"type": "text", "text": ...}]`.

    Raises:
        BadRowError: there is something else than text.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise BadRowError(f"content = {shorten(content)} is neither a text nor a list of parts")
    texts: list[str] = []
    for part in cast(list[Any], content):
        fields = _filled(part) if isinstance(part, dict) else {"type": "text", "text": part}
        kind, text = fields.pop("type", "text"), fields.pop("text", "")
        fields.pop("cache_control", None)
        if kind not in _TEXT_PARTS or not isinstance(text, str) or fields:
            raise BadRowError(f"content has a part of type {kind!r} ({shorten(part)}); only texts can be read")
        texts.append(text)
    return "".join(texts)


def read_tools(row: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The tools that a row offers, as `{"type": "function", "function": {...}}`; empty where it names none.

    Raises:
        BadRowError: they are no tools.
    """
    key = "functions" if row.get("functions") and not row.get("tools") else "tools"
    tools = as_json(row.get(key) or [], key)
    functions: list[dict[str, Any]] = []
    for tool in cast(list[Any], tools if isinstance(tools, list) else [tools]):
        entry = as_json(tool, key)
        function = entry.get("function", entry) if isinstance(entry, dict) else None
        if not isinstance(function, dict) or not isinstance(cast(dict[str, Any], function).get("name"), str):
            raise BadRowError(f"{key}: {shorten(tool)} is no tool with a name")
        kept = _without_nulls({k: v for k, v in cast(dict[str, Any], function).items() if k != "type"})
        functions.append({"type": "function", "function": kept})
    return tuple(functions)


def as_json(value: Any, key: str) -> Any:
    """The value, or that of its JSON text; raises BadRowError where a text is none."""
    if not isinstance(value, str):
        return value
    try:
        decoded, end = decode_json(text := value.strip())
    except ValueError as error:
        raise BadRowError(f"{key} = {shorten(value)} is no JSON: {error}") from error
    if end != len(text):
        raise BadRowError(f"{key} = {shorten(value)} is JSON with text behind it")
    return decoded


def refuse_unread(row: Mapping[str, Any], keys: Sequence[str] = _NOT_READ) -> None:
    """Raise BadRowError where a row has pictures, sound or other fields that would change what the model reads."""
    filled = [key for key in keys if row.get(key)]
    if filled:
        raise BadRowError(f"{', '.join(filled)} cannot be honoured; remove the key or the row")


def _take_calls(fields: dict[str, Any], content: Any) -> tuple[tuple[ToolCall, ...], tuple[str, ...]]:
    """The calls of a message and their ids; `content` is that of a message that is a call."""
    given = {key: fields.pop(key) for key in _CALLS if key in fields}
    if content is not None:
        given["function_call"] = content
    calls: list[ToolCall] = []
    ids: list[str] = []
    for key, value in given.items():
        value = as_json(value, key)
        for entry in cast(list[Any], value if isinstance(value, list) else [value]):
            call, index = _read_call(as_json(entry, key), key)
            calls.append(call)
            ids += [index] if index else []
    return tuple(calls), tuple(ids) if len(set(ids)) == len(calls) else ()


def _read_call(entry: Any, key: str) -> tuple[ToolCall, str]:
    fields = _filled(entry) if isinstance(entry, dict) else {}
    index, kind = str(fields.pop("id", "")), fields.pop("type", "function")
    fields.pop("index", None)
    function = fields.pop("function", fields)
    function = _filled(function) if isinstance(function, dict) else {}
    name = function.pop("name", None)
    arguments = function.pop("arguments" if "arguments" in function else "parameters", {})
    arguments = as_json(arguments, f"{key}: arguments") if isinstance(arguments, str) else _without_nulls(arguments)
    if kind != "function" or not isinstance(name, str) or not isinstance(arguments, dict) or function:
        raise BadRowError(f"{key}: {shorten(entry)} is no call with a name and arguments as an object or its JSON text")
    return ToolCall(name=name, arguments=cast(dict[str, Any], arguments)), index


def _take_reasoning(fields: dict[str, Any], text: str) -> str:
    given = {key: fields.pop(key) for key in _REASONING if key in fields}
    for key, value in given.items():
        is_said = isinstance(value, str) and "<think>" in text and value.strip() in text
        if not isinstance(value, str) or ("<think>" in text and not is_said) or len(set(map(repr, given.values()))) > 1:
            raise BadRowError(f"{key} = {shorten(value)} is no text, or not the only reasoning of its message")
    return "" if "<think>" in text else next(iter(given.values()), "").strip()


def _take_is_trained(fields: dict[str, Any], role: Role) -> bool:
    given = {key: fields.pop(key) for key in _TRAINED if key in fields}
    for key, value in given.items():
        if not isinstance(value, int | float) or value not in (0, 1):
            raise BadRowError(f"{key} = {shorten(value)} cannot be honoured: a turn trains (1, true) or is masked (0, false)")
        if value and role != "assistant":
            raise BadRowError(
                f"{key} = {value!r} of a message of {role!r} cannot be honoured: only the assistant's text trains"
            )
    return all(given.values())


def _filled(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields with a value; Arrow fills absent ones of a struct with null."""
    return {key: value for key, value in entry.items() if value is not None and value not in ("", [], {})}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in cast(dict[str, Any], value).items() if inner is not None}
    return [_without_nulls(inner) for inner in cast(list[Any], value)] if isinstance(value, list) else value
