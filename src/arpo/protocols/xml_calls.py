r"""Tool calls as tags of a function and its parameters: the format of Qwen3-Coder and Qwen3.5.

    <tool_call>
    <function=search>
    <parameter=query>
    Ada Moor
    born
    </parameter>
    <parameter=top_k>
    3
    </parameter>
    </function>
    </tool_call>

A value is what stands between the line break after `<parameter=...>` and the one before `</parameter>`; both may be missing.
The tool's schema gives its type. Where a text is allowed, or no type is named, the value is that text, `3` and `true` too;
elsewhere it is read as JSON, and what is no JSON stays a text, which the tool refuses with its reason. `null` is None where the
schema allows it, so the text "null" cannot be written there.

A value ends at the first `</parameter>` that another parameter, `</function>`, `</tool_call>` or the end of the turn follows;
every other tag in it is characters, but `<parameter=`: that is a parameter that was not closed, and the call is malformed. To
write any text, `<parameter=` and `</parameter>` in a value are written `&lt;parameter=` and `&lt;/parameter>`, and these two
`&amp;lt;...` in turn; reading undoes it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from arpo.protocols.call_formats import TOOL_TAGS, Reading, malformed, read_blocks
from arpo.protocols.strict_json import decode_json
from arpo.types import ToolCall

_FUNCTION = re.compile(r"\s*<function=([^<>\n]*)>")
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]*)>")
_VALUE_END = re.compile(r"</parameter>(?=\s*(?:<parameter=|</function>|</tool_call>|\Z))|<parameter=")
_FUNCTION_END = re.compile(r"\s*</function>")
_TAG = r"(/parameter>|parameter=)"
_TO_ESCAPE = re.compile(rf"(?:<|&((?:amp;)*)lt;){_TAG}")
_ESCAPED = re.compile(rf"&((?:amp;)*)lt;{_TAG}")
_PYTHON = {"True": True, "False": False, "None": None}
"""Spellings of JSON's constants in the templates of some models."""
_FORM = "<function=NAME>, then <parameter=KEY>, the value and </parameter> for each argument, then </function>"


class Qwen3CoderFormat:
    """The format of Qwen3-Coder and Qwen3.5; the module describes it.

    Faults: as `HermesFormat`.
    """

    markers = (*TOOL_TAGS, "<function=", "</function>", "<parameter=", "</parameter>")

    def __init__(self, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        """The format for tools, as functions of a chat template, whose schemas type the values."""
        functions = [tool["function"] for tool in tools]
        self._schemas = {function["name"]: _as_object(function.get("parameters")) for function in functions}

    def literals(self, text: str) -> Iterator[tuple[int, int]]:
        """As `CallFormat.literals`: the values of parameters."""
        position = 0
        while (opening := _FUNCTION.search(text, position)) is not None:
            position = opening.end()
            while (value := _find_value(text, position)) is not None and value[2] >= 0:
                _, begin, end, position = value
                yield begin, end

    def read(self, text: str) -> Reading:
        """As `CallFormat.read`."""
        return read_blocks(text, lambda start: self._read_function(text, start), "</function>")

    def write(self, calls: Sequence[ToolCall]) -> str:
        """As `CallFormat.write`."""
        return "\n".join(
            f"<tool_call>\n<function={call.name}>\n{''.join(map(_write, call.arguments.items()))}</function>\n</tool_call>"
            for call in calls
        )

    def _read_function(self, text: str, start: int) -> tuple[ToolCall, int]:
        """The call at `start`, and its end."""
        opening = _FUNCTION.match(text, start)
        if opening is None:
            return malformed(f"it must be {_FORM}."), start
        name, position = opening[1].strip(), opening.end()
        if not name:
            return malformed(f"it must name its function: {_FORM}."), position
        arguments: dict[str, Any] = {}
        while (value := _find_value(text, position)) is not None:
            key, begin, end, position = value
            fault = _fault(key, end, arguments)
            if fault:
                return malformed(fault, name), position
            arguments[key] = _read_value(text[begin:end], self._schemas.get(name, {}), key)
        closing = _FUNCTION_END.match(text, position)
        if closing is None:
            return malformed(f"</function> does not follow its last parameter; it must be {_FORM}.", name), position
        return ToolCall(name=name, arguments=arguments), closing.end()


def _find_value(text: str, start: int) -> tuple[str, int, int, int] | None:
    """Key, begin, end and what follows of the parameter at `start`; end -1: it is not closed. None: there is none."""
    opening = _PARAMETER.match(text, start)
    if opening is None:
        return None
    begin = opening.end()
    closing = _VALUE_END.search(text, begin)
    if closing is None or closing[0] != "</parameter>":
        return opening[1].strip(), begin, -1, begin
    end = closing.start()
    begin += text.startswith("\n", begin)
    end -= begin < end and text[end - 1] == "\n"
    return opening[1].strip(), begin, end, closing.end()


def _fault(key: str, end: int, arguments: Mapping[str, Any]) -> str:
    if end < 0:
        return (
            f"the parameter {key!r} is not closed with </parameter>; a value that holds this tag or <parameter= writes it as "
            "&lt;/parameter> or &lt;parameter=."
        )
    if not key:
        return f"a parameter must have a name: {_FORM}."
    return f"the parameter {key!r} stands in it twice." if key in arguments else ""


def _read_value(text: str, schema: Mapping[str, Any], key: str) -> Any:
    text = _ESCAPED.sub(_unescape, text)
    kinds = value_kinds(_as_object(schema.get("properties")).get(key), schema)
    word = text.strip()
    if "null" in kinds and word in ("null", "None"):
        return None
    if "string" in kinds or not kinds:
        return text
    if word in _PYTHON:
        return _PYTHON[word]
    try:
        value, end = decode_json(word)
    except ValueError:
        return text
    return value if end == len(word) else text


def value_kinds(schema: Any, root: Mapping[str, Any], depth: int = 8) -> set[str]:
    """The JSON types that a schema allows, e.g. {"integer", "null"}; empty: it does not say.

    `root` holds the definitions that `$ref` names.
    """
    about, target = _as_object(schema), _as_object(root)
    if not about or not depth:
        return set()
    types = about.get("type")
    kinds = {kind for kind in _as_list([types] if isinstance(types, str) else types) if isinstance(kind, str)}
    kinds |= (
        set() if kinds else {_kind(value) for value in ([about["const"]] if "const" in about else _as_list(about.get("enum")))}
    )
    options = [option for key in ("anyOf", "oneOf", "allOf") for option in _as_list(about.get(key))]
    if isinstance(reference := about.get("$ref"), str):
        for name in reference.removeprefix("#/").split("/"):
            target = _as_object(target.get(name))
        options.append(target)
    return kinds.union(*(value_kinds(option, root, depth - 1) for option in options))


def _as_object(value: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


def _as_list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _kind(value: Any) -> str:
    for kind, name in ((bool, "boolean"), (str, "string"), (type(None), "null"), (int | float, "number"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "array"


def _write(argument: tuple[str, Any]) -> str:
    key, value = argument
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"<parameter={key}>\n{_TO_ESCAPE.sub(_escape, text)}\n</parameter>\n"


def _escape(tag: re.Match[str]) -> str:
    return f"&lt;{tag[2]}" if tag[1] is None else f"&amp;{tag[1]}lt;{tag[2]}"


def _unescape(tag: re.Match[str]) -> str:
    return f"&{tag[1].removeprefix('amp;')}lt;{tag[2]}" if tag[1] else f"<{tag[2]}"
