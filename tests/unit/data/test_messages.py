"""Fields of public rows beside role and text: honoured, or a bad row that names them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arpo.data.check import Encoder, check_data
from arpo.data.conversations import conversation_row, encode_conversation, read_conversations, scan_encoded
from arpo.data.convert import convert_data
from arpo.errors import DataError
from arpo.files.sources import BadRow, open_source
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol

USER = {"role": "user", "content": "Capital of France?"}
ANSWER = {"role": "assistant", "content": "<answer>\\boxed{Paris}</answer>"}
RESULT = {"role": "tool", "content": "Paris is the capital."}
WRITTEN = "<search> capital of France </search>"


def call(arguments: Any = None, name: str = "search", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments or {"query": "capital of France"}}, **fields}


def calls(*entries: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(entries), **fields}


@pytest.fixture(scope="module")
def tokenizer(qwen_directory: Path) -> PolicyTokenizer:
    return PolicyTokenizer.load(qwen_directory)


@pytest.fixture(scope="module")
def protocol(tokenizer: PolicyTokenizer) -> TagProtocol:
    return TagProtocol(tokenizer, TagProtocolConfig())


def write(path: Path, *rows: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def trained(path: Path, protocol: TagProtocol, tokenizer: PolicyTokenizer) -> str:
    """The text that the only conversation of a file trains, without the token that ends a plain answer."""
    file = read_conversations(path)
    assert not file.bad_rows
    (conversation,) = file.conversations
    ids, mask = encode_conversation(conversation, protocol, tokenizer)
    return tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m]).removesuffix("<|im_end|>")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("turn", "text"),
    [
        (calls(call(), content="I will look it up."), f"I will look it up. {WRITTEN}"),
        (calls(call('{"query": "capital of France"}', id="c1"), content=None), WRITTEN),
        (calls(call(), content=""), WRITTEN),
        (calls(call({"query": "capital of France", "url": None})), WRITTEN),
        (calls({"name": "search", "arguments": {"query": "capital of France"}}), WRITTEN),
        ({"role": "assistant", "content": None, "tool_calls": json.dumps([call()])}, WRITTEN),
        ({"role": "assistant", "content": "", "function_call": call()["function"]}, WRITTEN),
        (calls(call(), content="", reasoning_content="Look."), f"<think> Look. </think> {WRITTEN}"),
        (calls(call(), reasoning="Look.", content="So:"), f"<think> Look. </think> So: {WRITTEN}"),
        (calls(call({"code": "a = 1\nprint(a)\n"}, "python")), "<python>\na = 1\nprint(a)\n</python>"),
    ],
)
def test_calls_and_thoughts_in_fields_of_their_own_are_trained(tmp_path, protocol, tokenizer, turn, text, suffix):
    path = write(tmp_path / f"c.{suffix}", {"messages": [USER, turn, RESULT, ANSWER]})
    assert trained(path, protocol, tokenizer) == text + ANSWER["content"]
    assert check_data(path).counts() == {}


@pytest.mark.parametrize(
    "conversation",
    [
        [{"from": "function_call", "value": '{"name": "search", "arguments": {"query": "capital of France"}}'}],
        [
            {"from": "function_call", "value": '[{"name": "search", "arguments": "{\\"query\\": \\"capital of France\\"}"}]'},
        ],
        [{"role": "assistant", "tool_calls": [call()]}],
    ],
)
def test_calls_of_sharegpts_form(tmp_path, protocol, tokenizer, conversation):
    row = {
        "conversations": [
            {"from": "human", "value": "a"}, *conversation,
            {"from": "observation", "value": "r"}, {"from": "gpt", "value": "b"},
        ]
    }  # fmt: skip
    assert trained(write(tmp_path / "c.jsonl", row), protocol, tokenizer) == WRITTEN + "b"
    row["conversations"][1:1] = [{"from": "gpt", "value": "I look."}]
    assert trained(write(tmp_path / "c.jsonl", row), protocol, tokenizer) == f"I look. {WRITTEN}b"


def test_text_in_parts(tmp_path, protocol, tokenizer):
    parts = [{"type": "text", "text": "Par"}, {"type": "text", "text": "is", "image_url": None}]
    row = {"messages": [{"role": "user", "content": parts[:1]}, {"role": "assistant", "content": parts}]}
    assert trained(write(tmp_path / "c.jsonl", row), protocol, tokenizer) == "Paris"


def test_messages_as_json_text_and_capital_roles(tmp_path, protocol, tokenizer):
    messages = [{"role": "User", "content": "a"}, {"role": "Assistant", "content": "b"}]
    assert trained(write(tmp_path / "c.jsonl", {"messages": json.dumps(messages)}), protocol, tokenizer) == "b"


def test_reasoning_that_the_text_has_already_is_not_written_twice(tmp_path, protocol, tokenizer):
    turn = {"role": "assistant", "content": "<think>so</think> b", "reasoning_content": "so"}
    assert trained(write(tmp_path / "c.jsonl", {"messages": [USER, turn]}), protocol, tokenizer) == "<think>so</think> b"


def test_role_and_content_under_conversations(tmp_path, protocol, tokenizer):
    row = {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "system": "s"}
    path = write(tmp_path / "c.jsonl", row)
    assert trained(path, protocol, tokenizer) == "b"
    assert [m.content for m in read_conversations(path).conversations[0].task_messages] == ["s", "a"]


@pytest.mark.parametrize("mask", [{"weight": 0}, {"loss": False}, {"train": False}, {"weight": 0.0, "loss": None}])
def test_a_masked_turn_is_read_and_not_trained(tmp_path, protocol, tokenizer, mask):
    messages = [USER, {"role": "assistant", "content": "Rome", **mask}, {"role": "user", "content": "Sure?"}]
    last = {"role": "assistant", "content": "Paris", "weight": 1}
    path = write(tmp_path / "c.jsonl", {"messages": [*messages, last]})
    assert trained(path, protocol, tokenizer) == "Paris"
    ids, _ = encode_conversation(read_conversations(path).conversations[0], protocol, tokenizer)
    assert "Rome" in tokenizer.decode(ids)
    read_none = write(tmp_path / "none.jsonl", {"messages": messages[:2]})
    with pytest.raises(DataError, match="weight, loss or train masks every turn"):
        read_conversations(read_none)


def test_results_are_put_in_the_order_of_their_calls(tmp_path):
    turn = calls(call(id="a"), call({"query": "Paris"}, id="b"))
    results = [{"role": "tool", "tool_call_id": i, "name": "search", "content": f"result {i}"} for i in "ba"]
    (conversation,) = read_conversations(
        write(tmp_path / "c.jsonl", {"messages": [USER, turn, *results, ANSWER]})
    ).conversations
    assert [m.content for m in conversation.turns if m.role == "tool"] == ["result a", "result b"]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, calls(call(), call({"query": "Paris"})), RESULT, RESULT, ANSWER], "tool_calls: the protocol cannot write"),
        ([USER, calls(call(), call()), RESULT, ANSWER], "tool_calls: 1 results follow a turn of 2 calls"),
        ([USER, calls(call()), {"role": "user", "content": "b"}, ANSWER], "tool_calls: no result follows a call"),
        ([USER, calls(call(id="a")), {**RESULT, "tool_call_id": "b"}, ANSWER], "tool_call_id: results of ['b'] follow"),
        ([USER, calls(call(name="weather")), RESULT, ANSWER], "tool_calls: 'weather' is not among protocol.tools"),
        ([USER, calls(call({"query": "a", "top_k": 3})), RESULT, ANSWER], "tool_calls: the protocol cannot write"),
        ([USER, calls(call({"query": "a </search> b"})), RESULT, ANSWER], "tool_calls: the protocol cannot write"),
        ([USER, calls(call("{")), RESULT, ANSWER], "tool_calls: arguments = '{' is no JSON"),
        ([USER, calls(call("[1]")), RESULT, ANSWER], "tool_calls: "),
        ([USER, calls({"type": "custom", "custom": {"name": "a"}}), RESULT, ANSWER], "tool_calls: "),
        ([USER, {**ANSWER, "reasoning_content": "a </think> b"}], "reasoning_content: it holds a tag"),
        ([USER, {**ANSWER, "reasoning_content": "write </answer> last"}], "reasoning_content: it holds a tag"),
        ([USER, {"role": "assistant", "content": "<think>a</think> b", "reasoning": "c"}], "reasoning = 'c'"),
        ([USER, {**ANSWER, "weight": 0.5}], "weight = 0.5"),
        ([USER, {**ANSWER, "loss": "false"}], "loss = 'false'"),
        ([{**USER, "train": True}, ANSWER], "train = True of a message of 'user'"),
        ([USER, {**ANSWER, "audio": {"id": "a"}}], "'audio' of a message of 'assistant'"),
        ([{**USER, "name": "Ada"}, ANSWER], "'name' of a message of 'user'"),
        ([{**USER, "images": ["a.png"]}, ANSWER], "'images' of a message of 'user'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}, ANSWER], "'image_url'"),
        ([USER, {**ANSWER, "refusal": "no"}], "'refusal'"),
    ],
)
def test_what_cannot_be_honoured_is_named_by_the_check_and_by_training_alike(tmp_path, protocol, tokenizer, messages, reason):
    path = write(tmp_path / "c.jsonl", {"messages": messages})
    (finding,) = check_data(path).findings
    assert (finding.kind, reason in finding.detail) == ("bad_row", True), finding.detail
    with pytest.raises(DataError) as error:
        trained(path, protocol, tokenizer)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": [{"type": "function", "function": {"name": "search"}}]}, "tools: the row offers ['search']"),
        ({"tools": json.dumps([{"name": "weather"}])}, "tools: the row offers ['weather']"),
        ({"functions": [{"name": "weather"}]}, "tools: the row offers ['weather']"),
        ({"tools": "none"}, "tools = 'none' is no JSON"),
        ({"tools": [{"a": 1}]}, "tools: {'a': 1} is no tool"),
        ({"images": ["a.png"]}, "images cannot be honoured"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs cannot be honoured"),
        ({"weight": 0}, "weight = 0 of a row"),
        ({"loss_mask": [0, 1]}, "loss_mask cannot be honoured"),
    ],
)
def test_fields_of_a_row_that_cannot_be_honoured_are_named(tmp_path, fields, reason):
    (finding,) = check_data(write(tmp_path / "c.jsonl", {"messages": [USER, ANSWER], **fields})).findings
    assert (finding.kind, reason in finding.detail) == ("bad_row", True), finding.detail


def test_the_protocols_own_tools_may_be_named_and_other_fields_tell_nothing(tmp_path, protocol, tokenizer):
    tools = [{"type": "function", "function": {"name": name}} for name in ("python", "search")]
    row = {
        "messages": [{**USER, "id": 1}, {**ANSWER, "model": "m", "tool_calls": [], "audio": None}],
        "tools": tools,
        "score": 1,
    }
    assert trained(write(tmp_path / "c.jsonl", row), protocol, tokenizer) == ANSWER["content"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_converting_keeps_calls_thoughts_masks_and_tools(tmp_path, suffix):
    tools = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]
    turn = calls(call(id="a"), call({"query": "Paris", "n": 2.5}, id="b"), reasoning_content="Look.", weight=0)
    rows = [{"messages": [USER, turn, RESULT, RESULT, ANSWER], "tools": tools}, {"messages": [USER, ANSWER]}]
    path = write(tmp_path / "c.jsonl", *rows)
    convert_data(path, tmp_path / f"out.{suffix}")
    before, after = (read_conversations(p).conversations for p in (path, tmp_path / f"out.{suffix}"))
    assert before == after
    assert conversation_row(after[0])["messages"][1]["weight"] == 0


VALUES = st.sampled_from(
    [None, "", "a", 0, 1, False, [], {}, "<think>", "</search>", "[", '{"query": "a"}', [{"type": "text", "text": "a"}]]
)
CALLS = st.sampled_from(
    [None, [], [call()], [call(), call()], [call(id="a")], json.dumps([call("{}")]), [{"name": "python"}], [7]]
)
ENTRIES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "assistant", "tool", "system"]), "content": VALUES},
    optional={
        "tool_calls": CALLS, "reasoning_content": VALUES, "weight": VALUES, "loss": VALUES, "tool_call_id": VALUES,
        "audio": VALUES,
    },
)  # fmt: skip


@given(rows=st.lists(st.lists(ENTRIES, min_size=1, max_size=4), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_check_and_training_agree_about_every_row(tmp_path, protocol, tokenizer, rows):
    """Whatever the messages are: the same rows are bad, for the same reasons, and a used row trains something."""
    path = write(tmp_path / "c.jsonl", *({"messages": [USER, *messages]} for messages in rows))
    bad_rows: list[BadRow] = []
    encoded = list(scan_encoded(open_source(path), protocol, tokenizer, bad_rows.append))
    report = check_data(path)
    found = [(finding.row, finding.detail) for finding in report.findings if finding.kind == "bad_row"]
    assert found == [(bad.row, bad.reason) for bad in bad_rows]
    assert report.num_usable == len(encoded) == len(rows) - len(bad_rows)
    assert all(any(row.value.loss_mask) for row in encoded)


def test_a_row_that_is_both_is_a_conversation_for_a_supervised_run(tmp_path, protocol, tokenizer):
    path = write(tmp_path / "c.jsonl", {"question": "a", "answer": "b", "messages": [USER, ANSWER]})
    assert check_data(path).kind == "tasks"
    assert check_data(path, encoder=Encoder(protocol, tokenizer, kind="conversations")).kind == "conversations"
