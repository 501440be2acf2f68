"""Tool calls as JSON: the format of Hermes and Qwen, and the format of Llama 3. `xml_calls` has that of Qwen3-Coder.

A malformed call is a call with a fault, which the model reads as the call's result.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from arpo.protocols.literals import json_literals
from arpo.protocols.strict_json import decode_json
from arpo.types import ToolCall

MALFORMED = "(malformed)"
"""Name of a call without a readable name."""


@dataclass(slots=True)
class Reading:
    """Content of a completion outside its reasoning."""

    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    text: str = ""
    """The text without the calls."""
    faults: list[str] = field(default_factory=list[str])
    """Names of format faults, in order."""


class CallFormat(Protocol):
    """A format of calls."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Markup the model writes or reads: it must survive encoding, and a result never contains it."""
        ...

    def literals(self, text: str) -> Iterable[tuple[int, int]]:
        """Begin and end of each text inside a call, in reasoning too: tags in it are characters."""
        ...

    def read(self, text: str) -> Reading:
        """The calls in the text of a completion without its reasoning."""
        ...

    def write(self, calls: Sequence[ToolCall]) -> str:
        """The text of calls."""
        ...


def malformed(reason: str, name: str = MALFORMED) -> ToolCall:
    """A call that the model reads as its own mistake."""
    return ToolCall(name=name, arguments={}, fault=f"Malformed tool call: {reason}")


TOOL_TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""Markers of the formats whose calls stand between `<tool_call>` and `</tool_call>`."""
_TOOL_TAG = re.compile("<tool_(call|response)>")


def read_blocks(text: str, read_call: Callable[[int], tuple[ToolCall, int]], inside: str) -> Reading:
    """The calls between `<tool_call>` and `</tool_call>`, any number of them, and the text around.

    Args:
        text: A completion without its reasoning.
        read_call: The call that begins at a position, and its end; of a malformed one, the position to look for `</tool_call>`.
        inside: What `read_call` reads, in words.
    """
    reading = Reading()
    position = 0
    while (tag := _TOOL_TAG.search(text, position)) is not None:
        reading.text += text[position : tag.start()]
        if tag[1] == "response":
            reading.faults.append("result_by_model")
            position = len(text)
            break
        call, position = read_call(tag.end())
        end = text.find("</tool_call>", position)
        if end < 0:
            call, position = malformed("it is not closed with </tool_call>.", call.name), len(text)
        else:
            if not call.fault and text[position:end].strip():
                call = malformed(f"there is text between {inside} and </tool_call>.", call.name)
            position = end + len("</tool_call>")
        reading.calls.append(call)
        reading.faults += ["malformed_call"] * bool(call.fault)
    reading.text += text[position:]
    if "</tool_call>" in reading.text:
        reading.faults.append("unopened_tool_call")
    return reading


class HermesFormat:
    r"""`<tool_call>\n{"name": "search", "arguments": {"query": "Ada Moor"}}\n</tool_call>`, any number of them.

    Faults: `malformed_call`, `result_by_model` (the model wrote `<tool_response>`; the text after it is ignored),
    `unopened_tool_call`.
    """

    markers = TOOL_TAGS
    _before_json = re.compile(r"<tool_call>(?=\s*\{)")

    def literals(self, text: str) -> Iterable[tuple[int, int]]:
        """As `CallFormat.literals`."""
        return json_literals(text, self._before_json)

    def read(self, text: str) -> Reading:
        """As `CallFormat.read`."""
        return read_blocks(text, lambda start: _read_object(text, start, ("arguments",)), "its JSON object")

    def write(self, calls: Sequence[ToolCall]) -> str:
        """As `CallFormat.write`."""
        return "\n".join(f"<tool_call>\n{_dump(call, 'arguments')}\n</tool_call>" for call in calls)


class Llama3Format:
    r"""A turn that is `{"name": "search", "parameters": {"query": "Ada Moor"}}`, or several of them, separated by `;`.

    A turn holds calls when it begins with `<|python_tag|>` or with a JSON object (`{"`). The models write `arguments` for
    `parameters` too. Faults: `malformed_call`, `text_after_call` (the text is ignored).
    """

    markers = ("<think>", "</think>")
    _before_json = re.compile(r'(?=\{\s*")')
    _begin = re.compile(r'\s*(<\|python_tag\|>|(?=\{\s*"))')

    def literals(self, text: str) -> Iterable[tuple[int, int]]:
        """As `CallFormat.literals`."""
        return json_literals(text, self._before_json)

    def read(self, text: str) -> Reading:
        """As `CallFormat.read`."""
        opening = self._begin.match(text)
        if opening is None:
            return Reading(text=text)
        reading = Reading()
        position = opening.end()
        while True:
            call, position = _read_object(text, position, ("parameters", "arguments"))
            reading.calls.append(call)
            if call.fault:
                reading.faults.append("malformed_call")
                return reading
            position += len(text[position:]) - len(text[position:].lstrip("; \t\r\n"))
            if not text.startswith("{", position):
                break
        if text[position:].strip():
            reading.faults.append("text_after_call")
        return reading

    def write(self, calls: Sequence[ToolCall]) -> str:
        """As `CallFormat.write`."""
        return "; ".join(_dump(call, "parameters") for call in calls)


def _dump(call: ToolCall, key: str) -> str:
    return json.dumps({"name": call.name, key: dict(call.arguments)}, ensure_ascii=False)


def _read_object(text: str, start: int, keys: tuple[str, ...]) -> tuple[ToolCall, int]:
    """The call in the JSON at `start`, and the end of the JSON, which is `start` when the JSON is invalid.

    `keys` are those the arguments may stand under, the usual one first.
    """
    try:
        value, end = decode_json(text, start)
    except ValueError as error:
        return malformed(f"it is not valid JSON: {error}; write {_form(keys)} and nothing around it."), start
    return _read_call(value, keys), end


def _read_call(value: Any, keys: tuple[str, ...]) -> ToolCall:
    if not isinstance(value, dict):
        return malformed(f"it must be a JSON object: {_form(keys)}.")
    call = cast(dict[str, Any], value)
    name, key = call.get("name"), next((key for key in keys if key in call), keys[0])
    unknown = sorted(set(call) - {"name", key, "type" if call.get("type") == "function" else key})
    if not isinstance(name, str) or not name:
        return malformed(f"it must name its tool: {_form(keys)}.")
    if unknown:
        return malformed(f'it has the unknown key "{unknown[0]}"; "name" and "{keys[0]}" are all it has.', name)
    arguments = _as_object(call.get(key))
    if arguments is None:
        return malformed(f'"{key}" must be a JSON object: {_form(keys)}.', name)
    return ToolCall(name=name, arguments=arguments)


def _as_object(arguments: Any) -> dict[str, Any] | None:
    """The arguments, which may be null or the text of a JSON object; None where they are neither these nor an object."""
    if isinstance(arguments, str):
        try:
            arguments, end = decode_json(text := arguments.strip())
        except ValueError:
            return None
        return cast(dict[str, Any], arguments) if isinstance(arguments, dict) and end == len(text) else None
    return cast(dict[str, Any], arguments) if isinstance(arguments, dict) else {} if arguments is None else None


def _form(keys: tuple[str, ...]) -> str:
    return f'{{"name": "...", "{keys[0]}": {{...}}}}'
