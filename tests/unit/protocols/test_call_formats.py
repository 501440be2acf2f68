"""Calls in the JSON of Hermes and of Llama 3, right and wrong."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo.protocols.call_formats import MALFORMED, CallFormat, HermesFormat, Llama3Format, Reading
from arpo.types import ToolCall

HERMES, LLAMA = HermesFormat(), Llama3Format()
SEARCH = ToolCall(name="search", arguments={"query": "Ada"})
PYTHON = ToolCall(name="python", arguments={"code": "print('</tool_call>')"})


def hermes(name: str, **arguments: object) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def test_hermes_reads_every_call_and_what_stands_around():
    reading = HERMES.read(f"First\n{hermes('search', query='Ada')}\n{hermes('python', code=PYTHON.arguments['code'])} done")
    assert reading.calls == [SEARCH, PYTHON], "a closing tag inside a JSON string is text"
    assert reading.text == "First\n\n done"
    assert reading.faults == []


def test_hermes_reads_a_call_without_arguments():
    assert HERMES.read('<tool_call>{"name": "now"}</tool_call>').calls == [ToolCall(name="now", arguments={})]


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("<tool_call>search Ada</tool_call>", MALFORMED, "not valid JSON: Expecting value at character 1"),
        ('<tool_call>{"name": "search", "arguments": {"query": "Ada"}</tool_call>', MALFORMED, "not valid JSON"),
        ('<tool_call>{"name": "search", "arguments": {"query": "Ada"}}', "search", "not closed"),
        ('<tool_call>{"name": "search", "arguments": {}} </tool_call', "search", "not closed"),
        ('<tool_call>{"name": "search", "arguments": {}} and more</tool_call>', "search", "text between"),
        ('<tool_call>{"name": "search", "arguments": "Ada"}</tool_call>', "search", '"arguments" must be a JSON object'),
        ('<tool_call>{"name": "search", "parameters": {}}</tool_call>', "search", 'unknown key "parameters"'),
        ('<tool_call>{"arguments": {}}</tool_call>', MALFORMED, "name its tool"),
        ('<tool_call>{"name": 7, "arguments": {}}</tool_call>', MALFORMED, "name its tool"),
        ('<tool_call>["search", "Ada"]</tool_call>', MALFORMED, "must be a JSON object"),
        ("<tool_call></tool_call>", MALFORMED, "not valid JSON"),
        ("<tool_call>", MALFORMED, "not"),
        ('<tool_call>{"name": "search", "arguments": {"query": "\\ud800"}}</tool_call>', MALFORMED, "surrogate"),
    ],
)
def test_a_malformed_call_is_a_call_that_says_what_is_wrong(text: str, name: str, words: str):
    reading = HERMES.read("Let me see. " + text)
    (call,) = reading.calls
    assert (call.name, dict(call.arguments)) == (name, {})
    assert call.fault.startswith("Malformed tool call: ")
    assert words in call.fault
    assert reading.faults == ["malformed_call"]


def test_a_malformed_call_does_not_spoil_the_others():
    reading = HERMES.read(f"<tool_call>{{</tool_call>{hermes('search', query='Ada')}")
    assert [bool(call.fault) for call in reading.calls] == [True, False]
    assert reading.calls[1] == SEARCH


def test_hermes_names_what_only_the_environment_may_write():
    reading = HERMES.read(f"{hermes('search', query='Ada')}<tool_response>Kelford</tool_response>{hermes('search', query='x')}")
    assert reading.calls == [SEARCH], "what follows is ignored"
    assert reading.faults == ["result_by_model"]
    assert HERMES.read("a</tool_call>b").faults == ["unopened_tool_call"]


@pytest.mark.parametrize("opening", ["", "\n ", "<|python_tag|>"])
@pytest.mark.parametrize("between", ["; ", ";", "\n", " "])
def test_llama_reads_one_call_and_several(opening: str, between: str):
    one = '{"name": "search", "parameters": {"query": "Ada"}}'
    assert LLAMA.read(opening + one).calls == [SEARCH]
    assert LLAMA.read(opening + one + between + one + "\n").calls == [SEARCH, SEARCH]


@pytest.mark.parametrize("text", ["Kelford", "The set {1, 2}", "{1, 2} is \\boxed{2}", 'I call {"name": "search"}', ""])
def test_what_does_not_begin_as_an_object_is_no_llama_call(text: str):
    reading = LLAMA.read(text)
    assert (reading.calls, reading.text, reading.faults) == ([], text, [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"name": "search", "parameters": {"query": "Ada"}', "malformed_call"),
        ('{"query": "Ada"}', "malformed_call"),
        ("<|python_tag|>print(1)", "malformed_call"),
        ('{"name": "search", "parameters": {}, "arguments": {"query": "Ada"}}', "malformed_call"),
        ('{"name": "search", "parameters": "Ada"}', "malformed_call"),
        ('{"name": "search", "parameters": "[1]"}', "malformed_call"),
        ('{"name": "search", "parameters": "{} {}"}', "malformed_call"),
        ('{"type": "tool", "name": "search", "parameters": {}}', "malformed_call"),
        ('{"name": "search", "parameters": {"query": "Ada"}} That is all.', "text_after_call"),
    ],
)
def test_llama_faults(text: str, fault: str):
    assert LLAMA.read(text).faults == [fault]


@pytest.mark.parametrize(
    "call",
    [
        {"type": "function", "name": "search", "parameters": {"query": "Ada"}},
        {"name": "search", "arguments": {"query": "Ada"}},
        {"type": "function", "name": "search", "arguments": '{"query": "Ada"}'},
        {"name": "search", "parameters": ' {"query": "Ada"}\n'},
    ],
)
def test_llama_calls_are_read_as_the_released_models_write_them(call: dict[str, object]):
    assert LLAMA.read(json.dumps(call)) == Reading(calls=[SEARCH])
    assert LLAMA.read(f"<|python_tag|>{json.dumps(call)}; {json.dumps(call)}").calls == [SEARCH, SEARCH]
    written = {"arguments" if key == "parameters" else key: value for key, value in call.items()}
    assert HERMES.read(f"<tool_call>{json.dumps(written)}</tool_call>") == Reading(calls=[SEARCH])


def test_null_is_no_arguments():
    assert LLAMA.read('{"name": "now", "parameters": null}').calls == [ToolCall(name="now", arguments={})]
    assert HERMES.read('<tool_call>{"name": "now", "arguments": null}</tool_call>').calls[0].arguments == {}


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ('```json\n{"name": "search"}\n```', 'write {"name": "...", "arguments": {...}} and nothing around it'),
        ('{"name": "python", "arguments": {"code": "a\nb"}}', "a line break is written \\n"),
        ('{"name": "search", "arguments": 3}', 'must be a JSON object: {"name": "...", "arguments": {...}}'),
    ],
)
def test_a_malformed_call_tells_what_to_write_instead(inside: str, words: str):
    (call,) = HERMES.read(f"<tool_call>{inside}</tool_call>").calls
    assert words in call.fault


PIECES = ["<tool_call>", "</tool_call>", "<tool_response>", "<|python_tag|>", "{", "}", '{"name": "a", "arguments": {}}', ";",
          '{"name": "a", "parameters": {}}', '"', "\\", "x", "\n", "[", "\\ud800", "é"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from([HERMES, LLAMA]))
@settings(max_examples=400, deadline=None)
def test_every_text_can_be_read_and_what_is_read_can_be_written(text: str, call_format: CallFormat):
    reading = call_format.read(text)
    for call in reading.calls:
        json.dumps([call.name, dict(call.arguments), call.fault], ensure_ascii=False).encode()
    assert ("malformed_call" in reading.faults) == any(call.fault for call in reading.calls)
