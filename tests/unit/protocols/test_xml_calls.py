"""Calls as tags of a function and its parameters, right and wrong."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo.errors import ModelError
from arpo.protocols.call_formats import MALFORMED
from arpo.protocols.chat_template import ChatProtocol
from arpo.protocols.config import HermesProtocolConfig, Qwen3CoderProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.xml_calls import Qwen3CoderFormat, value_kinds
from arpo.types import Message, Task, ToolCall

from .conftest import QWEN_CODER, SCHEMAS

PROPERTIES: dict[str, Any] = {
    "text": {"type": "string"}, "choice": {"enum": ["1", "2"]}, "untyped": {"description": "anything"},
    "whole": {"type": "integer"}, "number": {"type": "number"}, "flag": {"type": "boolean"}, "object": {"type": "object"},
    "list": {"type": "array"}, "maybe": {"type": ["integer", "null"]},
    "text_or_null": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "text_or_number": {"type": ["number", "string"]},
    "level": {"$ref": "#/$defs/Level"},
}  # fmt: skip
PARAMETERS = {"type": "object", "properties": PROPERTIES, "$defs": {"Level": {"enum": [1, 2]}}}
FORMAT = Qwen3CoderFormat([{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}])


def block(inside: str) -> str:
    return f"<tool_call>\n{inside}\n</tool_call>"


def parameter(key: str, text: str) -> str:
    return f"<parameter={key}>\n{text}\n</parameter>\n"


def read_value(key: str, text: str) -> Any:
    (call,) = FORMAT.read(block(f"<function=f>\n{parameter(key, text)}</function>")).calls
    assert not call.fault
    return call.arguments[key]


def test_calls_with_several_parameters_and_lines_and_what_stands_around():
    first = block(f"<function=f>\n{parameter('text', 'Ada' + chr(10) + ' Moor ')}{parameter('whole', '3')}</function>")
    reading = FORMAT.read(f"First\n{first}\n{block('<function=now>' + chr(10) + '</function>')} done")
    assert reading.calls == [
        ToolCall(name="f", arguments={"text": "Ada\n Moor ", "whole": 3}),
        ToolCall(name="now", arguments={}),
    ]
    assert reading.text == "First\n\n done"
    assert reading.faults == []


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("text", "3", "3"), ("text", "true", "true"), ("text", "null", "null"), ("text", '{"a": 1}', '{"a": 1}'),
        ("text", "", ""), ("text", "\n", "\n"), ("text", " a ", " a "), ("choice", "1", "1"), ("untyped", "7", "7"),
        ("unknown", "7", "7"), ("whole", " -3 ", -3), ("number", "2.5e1", 25.0), ("flag", "true", True),
        ("flag", "False", False),
        ("object", '{"a": [1, null]}', {"a": [1, None]}), ("list", "[1,\n 2]", [1, 2]), ("maybe", "null", None),
        ("maybe", "None", None), ("maybe", "4", 4), ("text_or_null", "null", None), ("text_or_null", "4", "4"),
        ("text_or_number", "4", "4"), ("level", "2", 2),
        # no JSON stays a text, which the tool's schema then refuses
        ("whole", "three", "three"), ("whole", "3 4", "3 4"), ("number", "NaN", "NaN"), ("number", "1e999", "1e999"),
        ("object", '{"a": 1, "b"}', '{"a": 1, "b"}'), ("list", "[" * 40 + "]" * 40, "[" * 40 + "]" * 40),
    ],
)  # fmt: skip
def test_the_schema_types_a_value(key: str, text: str, value: Any):
    found = read_value(key, text)
    assert (found, type(found)) == (value, type(value))


def test_line_breaks_around_a_value_may_be_missing():
    calls = FORMAT.read(
        "<tool_call><function=f><parameter=text>Ada</parameter><parameter=whole>3</parameter></function></tool_call>"
    )
    assert calls.calls == [ToolCall(name="f", arguments={"text": "Ada", "whole": 3})]


@pytest.mark.parametrize(
    "text",
    [
        "print('</parameter>')", "print('</tool_call>')\n", "a </function> b", "<function=g>", "<tool_call>\n<tool_response>",
        "if a </parameter> b:", "</think>",
    ],
)  # fmt: skip
def test_tags_in_a_value_are_characters_where_it_cannot_end(text: str):
    """As a model writes them that knows no escapes."""
    assert read_value("text", text) == text


def test_what_ends_a_value_is_escaped():
    text = "<parameter=x> </parameter></function> &lt;/parameter> &amp;lt;parameter= &lt;b>"
    written = FORMAT.write([ToolCall(name="f", arguments={"text": text})])
    assert "&lt;parameter=x> &lt;/parameter></function> &amp;lt;/parameter> &amp;amp;lt;parameter= &lt;b>" in written
    assert FORMAT.read(written).calls[0].arguments == {"text": text}


ONE = parameter("text", "1")


@pytest.mark.parametrize(
    ("inside", "name", "words"),
    [
        (f"<function=f>\n<parameter=text>\n1\n{parameter('whole', '3')}</function>", "f", "'text' is not closed with"),
        ("<function=f>\n<parameter=text>\n1\n</function>", "f", "'text' is not closed with </parameter>"),
        (f"<function=f>\n{ONE}{ONE}</function>", "f", "'text' stands in it twice"),
        (f"<function=f>\n{ONE}", "f", "</function> does not follow its last parameter"),
        (f"<function=f>\n{ONE}and\n</function>", "f", "'text' is not closed with </parameter>"),
        (f"<function=f>\nand\n{ONE}</function>", "f", "</function> does not follow"),
        (f"<function=f>\n{ONE}</function> and", "f", "text between </function> and </tool_call>"),
        (f"<function=f>\n{ONE}</function>\n<function=f>\n</function>", "f", "text between </function> and </tool_call>"),
        ("<function=>\n</function>", MALFORMED, "must name its function"),
        (f"<function=f>\n{parameter('', '1')}</function>", "f", "must have a name"),
        ('{"name": "f", "arguments": {}}', MALFORMED, "it must be <function=NAME>"),
        ("", MALFORMED, "it must be <function=NAME>"),
    ],
)  # fmt: skip
def test_a_malformed_call_says_what_is_wrong_and_spoils_no_other(inside: str, name: str, words: str):
    right = FORMAT.write([ToolCall(name="f", arguments={"text": "b"})])
    for text in (block(inside), f"{block(inside)}\n{right}"):
        reading = FORMAT.read(text)
        assert reading.calls[0].name == name
        assert words in reading.calls[0].fault
        assert reading.calls[0].arguments == {}
        assert reading.faults == ["malformed_call"]
    assert FORMAT.read(f"{block(inside)}\n{right}").calls[1:] == [ToolCall(name="f", arguments={"text": "b"})]


def test_an_unclosed_call_and_what_only_the_environment_writes_are_faults():
    call = f"<tool_call>\n<function=f>\n{ONE}</function>\n"
    assert "not closed with </tool_call>" in FORMAT.read(call).calls[0].fault
    assert FORMAT.read(f"<function=f>\n{ONE}</function>\n</tool_call>").faults == ["unopened_tool_call"]
    made_up = FORMAT.read(f"{call}</tool_call><tool_response>x</tool_response>{call}</tool_call>")
    assert (len(made_up.calls), made_up.faults) == (1, ["result_by_model"])


TAGS = ["<parameter=", "<parameter=text>", "</parameter>", "</function>", "<function=f>", "</tool_call>", "<tool_call>", "&lt;",
        "/parameter>", "parameter=", "&amp;", "amp;", "lt;", "&", "<", "\n", " ", "x", "3", "null", "true", '"',
        "\\"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(TAGS), max_size=12).map("".join) | st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "text": TEXTS, "unknown": TEXTS, "choice": st.sampled_from(["1", "2"]), "whole": st.integers(), "flag": st.booleans(),
        "number": st.floats(allow_nan=False, allow_infinity=False), "object": st.dictionaries(TEXTS, JSON, max_size=3),
        "list": st.lists(JSON, max_size=3), "maybe": st.none() | st.integers(),
        "text_or_null": st.none() | TEXTS.filter(lambda t: t.strip() not in ("null", "None")),
    },
)  # fmt: skip


@given(arguments=st.lists(ARGUMENTS, min_size=1, max_size=3), around=st.sampled_from(["", "text ", "a <b> c\n"]))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_what_is_written_is_read_back_whatever_the_arguments(arguments: list[dict[str, Any]], around: str):
    calls = [ToolCall(name="f", arguments=values) for values in arguments]
    reading = FORMAT.read(around + FORMAT.write(calls))
    assert [(c.name, c.arguments, c.fault) for c in reading.calls] == [("f", values, "") for values in arguments]
    assert reading.faults == []
    assert reading.text.strip() == around.strip()


PIECES = [*TAGS, block(f"<function=f>\n{ONE}</function>"), "<function=", ">", "<tool_response>", "é"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_every_text_can_be_read(text: str):
    reading = FORMAT.read(text)
    for call in reading.calls:
        json.dumps([call.name, dict(call.arguments), call.fault], ensure_ascii=False).encode()
    assert ("malformed_call" in reading.faults) == any(call.fault for call in reading.calls)
    spans = list(FORMAT.literals(text))
    assert all(0 <= begin <= end <= len(text) for begin, end in spans)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("schema", "kinds"),
    [
        ({}, set()), (True, set()), (None, set()), ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"type": [{"odd": 1}], "enum": 3}, set()), ({"const": True}, {"boolean"}), ({"enum": [1, "a", None, [], {}]},
         {"number", "string", "null", "array", "object"}), ({"oneOf": [{"type": "object"}, {"$ref": "#/$defs/Level"}]},
         {"object", "number"}), ({"$ref": "#/nowhere"}, set()), ({"$ref": "#/$defs/Loop"}, set()),
    ],
)  # fmt: skip
def test_types_that_a_schema_allows(schema: Any, kinds: set[str]):
    assert value_kinds(schema, PARAMETERS | {"$defs": {"Level": {"enum": [1]}, "Loop": {"$ref": "#/$defs/Loop"}}}) == kinds


def test_the_template_of_the_family_carries_it(qwen_coder: PolicyTokenizer):
    protocol = ChatProtocol(qwen_coder, Qwen3CoderProtocolConfig(), SCHEMAS)
    prompt = qwen_coder.decode(
        protocol.encode_prompt(Task(id="t", messages=(Message(role="user", content="q"),), references=(), source=""))
    )
    assert prompt.endswith("q<|im_end|>\n<|im_start|>assistant\n")
    assert "<name>search</name>" in prompt
    with pytest.raises(ModelError, match="not the format of 'hermes' but that of 'qwen3_coder'"):
        ChatProtocol(qwen_coder, HermesProtocolConfig(), SCHEMAS)


def test_a_model_s_constants_are_those_of_its_template(load_with_template: Callable[..., PolicyTokenizer]):
    """The template writes True and None as Python does; both are read."""
    tokenizer = load_with_template("qwen3", QWEN_CODER)
    arguments = {"flag": True, "maybe": None, "whole": 3, "object": {"a": [True]}, "text": "True"}
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    text = tokenizer.templates.render([{"role": "user", "content": "q"}, turn])
    assert "\nTrue\n" in text
    assert "\nNone\n" in text
    assert [call.arguments for call in FORMAT.read(text).calls] == [arguments]
