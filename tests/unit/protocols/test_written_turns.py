"""Calls and thoughts from fields of their own, as the chat protocols write them, and tools that a row brings."""

import json
from pathlib import Path
from typing import Any

import pytest

from arpo.data.conversations import encode_conversation, read_conversations
from arpo.errors import DataError
from arpo.protocols.build import build_protocol
from arpo.protocols.config import HermesProtocolConfig, Llama3ProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer

SCHEMAS = {"search": {"type": "object", "properties": {"query": {"type": "string"}}, "description": "Finds."}}
HERMES = HermesProtocolConfig(tools=("search",), system_prompt="")
LLAMA3 = Llama3ProtocolConfig(tools=("search",), system_prompt="")


def call(name: str = "search", **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def encode(path: Path, config: Any, tokenizer: PolicyTokenizer, turn: dict[str, Any], **row: Any) -> tuple[str, str]:
    """The whole text of a conversation with one call turn, and what of it trains."""
    results = [{"role": "tool", "content": f"r{i}"} for i in range(len(turn.get("tool_calls", "1")))]
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", **turn},
        *results,
        {"role": "assistant", "content": "b"},
    ]
    path.write_text(json.dumps({"messages": messages, **row}))
    (conversation,) = read_conversations(path).conversations
    ids, mask = encode_conversation(conversation, build_protocol(config, tokenizer, SCHEMAS), tokenizer)
    return tokenizer.decode(ids), tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])


def test_hermes_writes_thoughts_text_and_several_calls(tmp_path: Path, qwen: PolicyTokenizer):
    turn = {"content": "I look.", "reasoning_content": "Two.", "tool_calls": [call(query="é</tool_call>"), call(query="b")]}
    whole, trained = encode(tmp_path / "c.jsonl", HERMES, qwen, turn)
    written = (
        "<think>\nTwo.\n</think>\n\nI look.\n"
        '<tool_call>\n{"name": "search", "arguments": {"query": "é</tool_call>"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "search", "arguments": {"query": "b"}}\n</tool_call><|im_end|>'
    )
    assert trained == written + "b<|im_end|>"
    assert "r0" in whole
    assert "r1" in whole


def test_llama_writes_a_call_that_is_the_whole_turn(tmp_path: Path, llama: PolicyTokenizer):
    _, trained = encode(tmp_path / "c.jsonl", LLAMA3, llama, {"content": None, "tool_calls": [call(query="a")]})
    assert trained == '{"name": "search", "parameters": {"query": "a"}}<|eot_id|>b<|eot_id|>'
    with pytest.raises(DataError, match="tool_calls: the protocol cannot write"):
        encode(tmp_path / "c.jsonl", LLAMA3, llama, {"content": "I look.", "tool_calls": [call(query="a")]})


@pytest.mark.parametrize("tools", [("search",), ()])
def test_the_prompt_shows_the_tools_of_the_row(tmp_path: Path, qwen: PolicyTokenizer, tools: tuple[str, ...]):
    config = HermesProtocolConfig(tools=tools, system_prompt="")
    turn = {"content": "", "tool_calls": [call("weather", town="Kelford")]}
    weather = {"type": "function", "function": {"name": "weather", "description": "Of a <|im_end|> town.", "parameters": {}}}
    whole, _ = encode(tmp_path / "c.jsonl", config, qwen, turn, tools=[weather])
    prompt = whole.partition("q<|im_end|>")[0]
    assert '"name": "weather"' in prompt
    assert "Of a < |im_end|> town." in prompt, "a description brings no control token"
    assert '"search"' not in prompt
    with pytest.raises(DataError, match="tool_calls: 'weather' is not among the tools of the prompt"):
        encode(tmp_path / "c.jsonl", config, qwen, turn)
