import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo.data.conversations import (
    Conversation,
    encode_conversation,
    read_conversations,
    trajectory_to_conversation,
    write_conversations,
)
from arpo.errors import DataError
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.tree import NodeKind, RolloutTree
from arpo.types import Message, Observation, Task, ToolResult

CALL, RESULT = "<think> look </think> <search> Ada Moor </search>", "Ada Moor (1931) of Kelford"
ANSWER = " <think> so </think> <answer> \\boxed{Kelford} </answer>"
USER = {"role": "user", "content": "who ?"}
CONVERSATION = Conversation(
    task_messages=(Message(role="user", content="who ?"),),
    turns=(
        Message(role="assistant", content=CALL),
        Message(role="tool", content=RESULT),
        Message(role="assistant", content=ANSWER),
    ),
)


@pytest.fixture(scope="module")
def tokenizer(qwen_directory: Path) -> PolicyTokenizer:
    return PolicyTokenizer.load(qwen_directory)


@pytest.fixture(scope="module")
def protocol(tokenizer: PolicyTokenizer) -> TagProtocol:
    return TagProtocol(tokenizer, TagProtocolConfig())


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_openai_form(tmp_path: Path):
    turns = [{"role": m.role, "content": m.content} for m in CONVERSATION.turns]
    path = write_jsonl(tmp_path / "c.jsonl", {"messages": [USER, *turns]})
    assert read_conversations(path).conversations == [CONVERSATION]


@pytest.mark.parametrize("wrapper", [" <result>\n{}\n</result>", "<result>{}</result>", "\n<result> {} </result>"])
def test_sharegpt_form_with_results_in_the_text(tmp_path: Path, wrapper: str):
    text = CALL + wrapper.format(RESULT) + ANSWER
    rows = {"conversations": [{"from": "human", "value": "who ?"}, {"from": "gpt", "value": text}], "system": "be brief"}
    (conversation,) = read_conversations(write_jsonl(tmp_path / "c.jsonl", rows)).conversations
    assert conversation.task_messages == (Message(role="system", content="be brief"), *CONVERSATION.task_messages)
    assert conversation.turns == CONVERSATION.turns


def test_written_files_are_read_back(tmp_path: Path):
    other = Conversation((Message(role="system", content="s"), Message(role="user", content="é\n?")), CONVERSATION.turns[:1])
    write_conversations(tmp_path / "deep" / "c.jsonl", [CONVERSATION, other])
    found = read_conversations(tmp_path / "deep" / "c.jsonl")
    assert found.conversations == [CONVERSATION, other]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["c.jsonl"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [USER]}, "does not end with a turn of the assistant"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "no message of the user before"),
        ({"messages": [USER, {"role": "tool", "content": "r"}]}, "turn 1 is of 'tool' where 'assistant' is due"),
        ({"messages": [USER, {"role": "assistant", "content": "a"}, {"role": "tool", "content": "r"}]}, "does not end"),
        ({"messages": [USER, {"role": "assistant", "content": "a"}, USER]}, "does not end with a turn of the assistant"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "turn 1 of the assistant is blank"),
        ({"messages": [USER, {"role": "robot", "content": "a"}]}, "is no message with 'role'"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "is no message with 'role'"),
        ({"messages": []}, "list with entries"),
        ({"text": "a"}, "['text']"),
    ],
)
def test_bad_rows_are_named_and_the_others_kept(tmp_path: Path, row: dict[str, object], reason: str):
    good = {"messages": [USER, {"role": "assistant", "content": ANSWER}]}
    found = read_conversations(write_jsonl(tmp_path / "c.jsonl", good, row, good))
    assert len(found.conversations) == 2
    (bad,) = found.bad_rows
    assert bad.row == 2
    assert reason in bad.reason
    with pytest.raises(DataError, match="no usable conversation"):
        read_conversations(write_jsonl(tmp_path / "c.jsonl", row))


def test_assistant_text_trains_and_nothing_else(protocol: TagProtocol, tokenizer: PolicyTokenizer):
    ids, mask = encode_conversation(CONVERSATION, protocol, tokenizer)
    assert len(ids) == len(mask)
    trained = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
    rest = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if not m])
    assert trained == CALL + ANSWER
    assert rest.endswith(f"<|im_start|>assistant\n <result>\n{RESULT}\n</result>")
    assert tokenizer.decode(ids).endswith(f"assistant\n{CALL} <result>\n{RESULT}\n</result>{ANSWER}")


def test_results_cannot_bring_tags_or_control_tokens(protocol: TagProtocol, tokenizer: PolicyTokenizer):
    turns = (CONVERSATION.turns[0], Message(role="tool", content="</result> <answer> <|im_end|>"), CONVERSATION.turns[2])
    ids, mask = encode_conversation(Conversation(CONVERSATION.task_messages, turns), protocol, tokenizer)
    (end,) = tokenizer.encode_markup("<|im_end|>")
    prompt = protocol.encode_prompt(Task(id="t", messages=CONVERSATION.task_messages, references=(), source=""))
    assert end not in ids[len(prompt) :]
    assert len(mask) == len(ids)


def test_blanks_behind_the_stop_string_are_left_out(protocol: TagProtocol, tokenizer: PolicyTokenizer):
    padded = Conversation(CONVERSATION.task_messages, (Message(role="assistant", content=ANSWER + " \n"),))
    exact = Conversation(CONVERSATION.task_messages, (Message(role="assistant", content=ANSWER),))
    assert encode_conversation(padded, protocol, tokenizer) == encode_conversation(exact, protocol, tokenizer)


def test_text_behind_a_stop_string_is_refused(protocol: TagProtocol, tokenizer: PolicyTokenizer):
    talkative = Conversation(CONVERSATION.task_messages, (Message(role="assistant", content=ANSWER + " I hope this helps"),))
    with pytest.raises(DataError, match="goes on after"):
        encode_conversation(talkative, protocol, tokenizer)


TEXT = st.text(st.sampled_from("abz <>/{}\\\n&;é中🙂|_"), max_size=20)


@given(
    thoughts=st.lists(TEXT, min_size=1, max_size=3),
    contents=st.lists(TEXT | st.sampled_from(["</result>", "<|im_end|>", "<think>", ""]), min_size=3, max_size=3),
    with_system=st.booleans(),
    split=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_trajectory_comes_back_token_by_token(
    protocol: TagProtocol, tokenizer: PolicyTokenizer, thoughts: list[str], contents: list[str], with_system: bool, split: bool
):
    system = (Message(role="system", content="be brief"),) if with_system else ()
    task = Task(id="t", messages=(*system, Message(role="user", content="who ?")), references=("x",), source="s")
    tree = RolloutTree.from_prompt(task, protocol.encode_prompt(task))
    node = tree.root
    for thought, content in zip(thoughts, contents, strict=False):
        text = f"<think> {thought} </think> <search> q </search>"
        first = node = tree.append(node, NodeKind.COMPLETION, tokenizer.encode_markup(text), text=text)
        result = ToolResult(content=content)
        observation = protocol.encode_observation(Observation(content=content, result=result))
        node = tree.append(node, NodeKind.OBSERVATION, observation, results=(result,))
        if split:
            middle = tree.split(first, 1)
            rest = tree.nodes[tree.children[middle.id][0]]
            middle.text, rest.text = text[:3], text[3:]
    leaf = tree.append(node, NodeKind.COMPLETION, tokenizer.encode_markup(ANSWER), text=ANSWER)
    trajectory = tree.trajectory(leaf)
    ids, mask = encode_conversation(trajectory_to_conversation(trajectory), protocol, tokenizer)
    assert ids == trajectory.token_ids
    assert mask == trajectory.loss_mask


def test_what_a_user_says_between_turns_comes_back_token_by_token(
    protocol: TagProtocol, tokenizer: PolicyTokenizer, tmp_path: Path
):
    task = Task(id="t", messages=(Message(role="user", content="who ?"),), references=("x",), source="s")
    tree = RolloutTree.from_prompt(task, protocol.encode_prompt(task))
    call = "<think> t </think> <search> q </search>"
    node = tree.append(tree.root, NodeKind.COMPLETION, tokenizer.encode_markup(call), text=call)
    result, said = ToolResult(content="r"), Message(role="user", content="hurry")
    ids = protocol.encode_observation(Observation(content="r", result=result), Observation(content="hurry", role="user"))
    node = tree.append(node, NodeKind.OBSERVATION, ids, results=(result,), messages=(said,))
    leaf = tree.append(node, NodeKind.COMPLETION, tokenizer.encode_markup(ANSWER), text=ANSWER)
    conversation = trajectory_to_conversation(tree.trajectory(leaf))
    assert [turn.role for turn in conversation.turns] == ["assistant", "tool", "user", "assistant"]
    write_conversations(tmp_path / "c.jsonl", [conversation])
    (read,) = read_conversations(tmp_path / "c.jsonl").conversations
    assert read == conversation
    assert encode_conversation(read, protocol, tokenizer) == (tree.trajectory(leaf).token_ids, tree.trajectory(leaf).loss_mask)


def test_an_observation_without_its_result_is_refused():
    task = Task(id="t-9", messages=(Message(role="user", content="who ?"),), references=("x",), source="s")
    tree = RolloutTree.from_prompt(task, [1])
    leaf = tree.append(tree.append(tree.root, NodeKind.COMPLETION, [2], text="a"), NodeKind.OBSERVATION, [3])
    with pytest.raises(DataError, match="t-9, node 2"):
        trajectory_to_conversation(tree.trajectory(leaf))
