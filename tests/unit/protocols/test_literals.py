"""Tags inside the JSON of a call are characters, under every protocol; a call inside reasoning never runs."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo.protocols.base import ToolProtocol
from arpo.protocols.chat_template import ChatProtocol
from arpo.protocols.config import HermesProtocolConfig, Llama3ProtocolConfig, Qwen3CoderProtocolConfig, TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.protocols.xml_calls import Qwen3CoderFormat
from arpo.types import ToolCall

from .conftest import SCHEMAS

FETCH = {
    "type": "object",
    "properties": {"code": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["code", "n"],
}
PIECES = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<result>", "</result>",
    "<answer>", "<search>", "<fetch>", "<|python_tag|>", "<|im_end|>", '{"name": "x", "parameters": {}}', "x", " ", "\n", '"',
    "\\", "'", ";", "{", "}", "<", "\\u003c", "é", "<parameter=code>", "</parameter>", "<function=python>", "</function>",
    "&lt;/parameter>", "&lt;parameter=", "&amp;", "amp;", "lt;", "&",
]  # fmt: skip
QWEN3_CODER = Qwen3CoderFormat()
STOPS = ["</search>", "</fetch>", "</answer>", "</python>"]
TEXTS = st.one_of(st.lists(st.sampled_from([*PIECES, *STOPS]), max_size=10).map("".join), st.text(max_size=20))


def as_json(value: object, *, escaped: bool) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c") if escaped else text


def write(kind: str, text: str) -> str:
    """A call of `fetch` whose `code` is the text, as a model writes it."""
    arguments = {"code": text, "n": 3}
    if kind == "tags":
        return f"<fetch> {as_json(arguments, escaped=any(stop in text for stop in STOPS))} </fetch>"
    if kind == "hermes":
        return f"<tool_call>\n{as_json({'name': 'fetch', 'arguments': arguments}, escaped=False)}\n</tool_call>"
    if kind == "qwen3_coder":
        return QWEN3_CODER.write([ToolCall(name="fetch", arguments=arguments)])
    return as_json({"name": "fetch", "parameters": arguments}, escaped=False)


@pytest.fixture(scope="module")
def protocols(
    qwen: PolicyTokenizer, llama: PolicyTokenizer, qwen_coder: PolicyTokenizer, qwen_directory: Path
) -> dict[str, ToolProtocol]:
    schemas = {**SCHEMAS, "fetch": FETCH}
    tools = tuple(schemas)
    return {
        "tags": TagProtocol(PolicyTokenizer.load(qwen_directory), TagProtocolConfig(tools=tools), schemas),
        "hermes": ChatProtocol(qwen, HermesProtocolConfig(tools=tools), schemas),
        "llama3_json": ChatProtocol(llama, Llama3ProtocolConfig(tools=tools), schemas),
        "qwen3_coder": ChatProtocol(qwen_coder, Qwen3CoderProtocolConfig(tools=tools), schemas),
    }


@pytest.mark.parametrize("kind", ["tags", "hermes", "llama3_json", "qwen3_coder"])
@given(text=TEXTS)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_in_a_call_arrives_unchanged(protocols: dict[str, ToolProtocol], kind: str, text: str):
    for before, thoughts in (("", 0), ("<think> I call it </think>\n", 1)):
        parse = protocols[kind].parse(before + write(kind, text))
        assert parse.calls == (ToolCall(name="fetch", arguments={"code": text, "n": 3}),)
        assert (parse.faults, parse.num_think_blocks) == ((), thoughts)


@pytest.mark.parametrize("kind", ["tags", "hermes", "llama3_json", "qwen3_coder"])
@given(text=TEXTS)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_call_in_reasoning_does_not_run(protocols: dict[str, ToolProtocol], kind: str, text: str):
    draft = write(kind, text + "</think>" + write("hermes", "evil"))
    for completion in (f"<think> maybe {draft} </think> \\boxed{{1}}", f"<think> maybe {draft}", f"maybe {draft} </think> x"):
        if kind == "tags" and not completion.startswith("<think>"):
            continue  # sampling ends with the call, so nothing tells that it is reasoning
        assert protocols[kind].parse(completion).calls == ()


def test_what_follows_the_reasoning_runs(protocols: dict[str, ToolProtocol]):
    real = ToolCall(name="fetch", arguments={"code": "b", "n": 3})
    for kind in ("hermes", "llama3_json", "qwen3_coder"):
        parse = protocols[kind].parse(f"<think> {write(kind, '</think>')} </think>\n{write(kind, 'b')}")
        assert (parse.calls, parse.faults) == ((real,), ())


@pytest.mark.parametrize(
    "code", ["print('<think>x</think> y')", "print('<tool_response>')", "print('</think>')", "print('</tool_call>')"]
)
def test_code_that_prints_tags_runs_as_written(protocols: dict[str, ToolProtocol], code: str):
    call = json.dumps({"name": "python", "arguments": {"code": code}})
    parse = protocols["hermes"].parse(f"<think> run it </think>\n<tool_call>\n{call}\n</tool_call>")
    assert [c.arguments for c in parse.calls] == [{"code": code}]
    assert parse.faults == ()


def test_a_made_up_result_between_calls_is_a_fault(protocols: dict[str, ToolProtocol]):
    text = write("hermes", "<tool_response>") + "<tool_response>x</tool_response>" + write("hermes", "b")
    parse = protocols["hermes"].parse(text)
    assert [c.arguments["code"] for c in parse.calls] == ["<tool_response>"]
    assert parse.faults == ("result_by_model",)


def test_a_closing_tag_that_ends_the_call_is_explained(protocols: dict[str, ToolProtocol]):
    (call,) = protocols["tags"].parse('<fetch> {"code": "a </fetch> b", "n": 1} </fetch>').calls
    assert "write its < as \\u003c" in call.fault
