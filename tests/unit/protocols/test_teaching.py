"""Prompts that teach another way of calling than the protocol reads; whose system message a prompt has."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from arpo.config import dump_config, load_config
from arpo.protocols.build import build_protocol
from arpo.protocols.config import (
    PROMPTS,
    HermesProtocolConfig,
    Llama3ProtocolConfig,
    ProtocolConfig,
    Qwen3CoderProtocolConfig,
    TagProtocolConfig,
)
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.teaching import prompt_faults
from arpo.types import Message, Role, Task

from .conftest import QWEN, SCHEMAS

TAGS = TagProtocolConfig()
HERMES, LLAMA3, CODER = HermesProtocolConfig(), Llama3ProtocolConfig(), Qwen3CoderProtocolConfig()
CHATS = [HERMES, LLAMA3, CODER]
USES_TAGS = (
    "Reason in <think> </think> and answer in <answer> </answer>. The query and the result stand in <search> </search> and "
    "<result> </result>. For example, <python> code here </python> <result> what it prints </result>"
)
USES_HERMES = 'Return each call as JSON:\n<tool_call>\n{"name": <function-name>, "arguments": <args>}\n</tool_call>'
USES_CODER = "Call so: <tool_call>\n<function=name>\n<parameter=key>\nvalue\n</parameter>\n</function>\n</tool_call>"
USES_LLAMA = 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
OWN_FORMAT = {"tags": USES_TAGS, "hermes": USES_HERMES, "qwen3_coder": USES_CODER, "llama3_json": USES_LLAMA}


def message(role: Role, content: str) -> Message:
    return Message(role=role, content=content)


def faults(text: str, config: ProtocolConfig, role: Role = "system") -> tuple[str, ...]:
    messages = [message(role, text)] + ([message("user", "who ?")] if role == "system" else [])
    return prompt_faults(messages, config)


@pytest.mark.parametrize("config", [TAGS, *CHATS], ids=lambda c: c.type)
@pytest.mark.parametrize("taught", OWN_FORMAT)
def test_a_message_fits_the_protocol_whose_format_it_teaches_and_no_other(taught: str, config: ProtocolConfig):
    found = faults(OWN_FORMAT[taught], config)
    assert bool(found) == (taught != config.type), found
    assert all(fault.startswith("the system message ") for fault in found)


def test_the_fault_names_the_tags_and_the_key():
    (fault,) = faults(USES_TAGS, HERMES)
    assert fault == "the system message teaches <python>, <result>, <search>, which protocol.type = 'hermes' does not read"
    (fault,) = faults(USES_TAGS, TagProtocolConfig(tools=("python",)))
    assert fault == "the system message teaches <search>, which protocol.tools = ['python'] does not have"


@pytest.mark.parametrize("config", [TAGS, *CHATS], ids=lambda c: c.type)
def test_a_tag_of_the_user_s_own_invention_is_found_where_calls_are_explained(config: ProtocolConfig):
    assert any("<lookup>" in f for f in faults("To call the archive write <lookup> words </lookup>.", config))
    assert not any("<context>" in f for f in faults("Facts stand between <context> and </context>.", config))


def test_under_tags_a_message_that_leaves_out_a_tool_or_the_answer_is_found():
    assert faults("You are a helpful assistant.", TAGS) == ("the system message does not explain <search>, <python>, <answer>",)
    assert faults("Write <search> words </search>, then <answer> x </answer>.", TagProtocolConfig(tools=("search",))) == ()
    assert all(faults("You are a helpful assistant.", config) == () for config in CHATS), "the template shows the tools"


@pytest.mark.parametrize("config", [TAGS, *CHATS], ids=lambda c: c.type)
def test_what_is_no_teaching_is_no_fault(config: ProtocolConfig):
    schema = '<tools>{"name": "search", "parameters": {"type": "object", "properties": {}}}</tools>'
    reasoning = "Think in <think> </think>, answer in <answer> </answer>, with <search> x </search> or <python> y </python>."
    assert faults("What does <b>Kelford</b> mean? " * 2, config, role="user") == ()
    assert not any("format" in f for f in faults(schema, config))
    assert not any("<answer>" in f or "<think>" in f for f in faults(reasoning, config))
    assert prompt_faults([message("user", "who ?")], config) == (), "the protocol's own message"


def test_a_message_of_the_user_teaches_too():
    searches = (
        "Answer the question. Reason in <think> </think>; call a search engine by <search> query </search>.\nQuestion: who?"
    )
    (fault,) = faults(searches, HERMES, role="user")
    assert fault.startswith("the user's message teaches <search>, which")
    assert faults(searches, TAGS, role="user") == ()


def test_the_configured_text_is_looked_at_and_packaged_ones_fit():
    assert prompt_faults([message("user", "who ?")], HermesProtocolConfig(system_prompt=USES_TAGS))
    assert prompt_faults([message("user", "who ?")], TagProtocolConfig(system_prompt="")) == ()
    for name in PROMPTS:
        tools = () if name == "direct" else ("search", "python")
        assert prompt_faults([message("user", "who ?")], TagProtocolConfig(system_prompt=name, tools=tools)) == ()


# --- whose system message ------------------------------------------------------------------------------------------

PROMPT = (message("system", USES_TAGS), message("user", "who ?"))


@pytest.fixture
def qwen(load_with_template: Callable[..., PolicyTokenizer]) -> PolicyTokenizer:
    return load_with_template("qwen3", QWEN)


def rendered(tokenizer: PolicyTokenizer, config: ProtocolConfig, messages: tuple[Message, ...] = PROMPT) -> str:
    task = Task(id="t", messages=messages, references=("x",), source="s")
    return tokenizer.decode(build_protocol(config, tokenizer, SCHEMAS).encode_prompt(task))


@pytest.mark.parametrize("cls", [TagProtocolConfig, HermesProtocolConfig], ids=lambda c: c.__name__)
def test_a_key_keeps_replaces_or_drops_the_data_s_system_message(cls: type, qwen: PolicyTokenizer):
    kept, replaced, dropped = (
        rendered(qwen, cls(**keys))
        for keys in ({}, {"task_system_prompt": "replace", "system_prompt": "Mine."}, {"task_system_prompt": "drop"})
    )
    assert "For example, <python>" in kept
    assert "Mine." not in kept
    assert "Mine." in replaced
    assert USES_TAGS not in replaced
    assert USES_TAGS not in dropped
    assert "step by step" not in dropped, "nor the packaged text"
    without = PROMPT[1:]
    assert replaced == rendered(qwen, cls(system_prompt="Mine."), without)
    assert dropped == rendered(qwen, cls(system_prompt=""), without)
    assert dropped == rendered(qwen, cls(task_system_prompt="drop"), without)


@pytest.mark.parametrize("choice", ["replace", "drop"])
def test_a_message_that_does_not_reach_the_prompt_is_no_fault(choice: str):
    assert prompt_faults(PROMPT, HERMES)
    assert prompt_faults(PROMPT, HermesProtocolConfig.model_validate({"task_system_prompt": choice})) == ()


def test_dropping_needs_no_packaged_text_that_explains_the_tools(qwen: PolicyTokenizer):
    config = TagProtocolConfig(tools=("add",), task_system_prompt="drop")
    assert rendered(qwen, config).startswith("<|im_start|>user\nwho ?")


@pytest.mark.parametrize("cls", [TagProtocolConfig, HermesProtocolConfig], ids=lambda c: c.__name__)
def test_contradictory_keys_are_refused(cls: type, tmp_path: Path):
    with pytest.raises(ValidationError, match="has no effect"):
        cls(task_system_prompt="drop", system_prompt="Mine.")
    with pytest.raises(ValidationError, match="with an empty system_prompt"):
        cls(task_system_prompt="replace", system_prompt="")
    (tmp_path / "c.toml").write_text(dump_config(cls(task_system_prompt="drop")))
    assert load_config(cls, tmp_path / "c.toml") == cls(task_system_prompt="drop")
