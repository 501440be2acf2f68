"""`arpo data`, through the command line."""

import json
import re
from pathlib import Path

import pytest

from arpo.cli.main import main
from arpo.data.conversations import encode_conversation, read_conversations
from arpo.data.tasks import read_tasks
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol

QUESTION = "Who painted the old mill of Hallow?"


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Three rows, one bad and one a question of the benchmark beside it."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "mills.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "Bo"}) + "\n")
    rows = [{"question": "who ?", "answer": "Bo"}, {"question": "who ?"}, {"question": QUESTION.lower(), "answer": "Bo"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "train.jsonl"


def test_check_prints_tables_and_never_a_question(
    train: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "240")
    assert main(["data", "check", str(train)]) == 0
    printed = capsys.readouterr().out
    for word in (
        "2 of 3 rows are usable tasks",
        "question",
        "bad_row",
        "overlap",
        "mills.jsonl",
        "characters from",
        "train / -",
    ):
        assert word in printed
    assert "hallow" not in printed.lower()


def test_check_as_json(train: Path, tmp_path: Path, qwen_directory: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "check", str(train), "--json", "--model", str(qwen_directory)]) == 0
    found = json.loads(capsys.readouterr().out)
    (file,) = found["files"]
    assert (file["num_rows"], file["num_usable"], file["counts"]) == (3, 2, {"bad_row": 1, "overlap": 1})
    assert file["lengths"]["unit"] == "tokens"
    assert [(f["kind"], f["row"]) for f in file["findings"]] == [("bad_row", 2), ("overlap", 3)]
    assert found["evaluation_questions"] == {str(tmp_path / "benchmarks" / "mills.jsonl"): 1}


def test_check_says_when_there_was_nothing_to_compare_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.jsonl").write_text('{"question": "who ?", "answer": "Bo"}\n')
    assert main(["data", "check", str(tmp_path / "a.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "no findings" in printed
    assert "name some with --against" in printed
    assert main(["data", "check", str(tmp_path / "none.jsonl")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_convert_writes_and_says_what_it_left_out(train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.parquet"
    assert main(["data", "convert", str(train), str(out), "--without", str(tmp_path / "benchmarks" / "mills.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert f"left out: {train}, row 2: neither a prompt nor a question with an answer" in printed
    assert f"left out: {train}, row 3: its question overlaps 100% with" in printed
    assert [line.split() for line in printed.splitlines()[-4:-1]] == [["rows", "3"], ["written", "1"], ["left", "out", "2"]]
    assert [task.question for task in read_tasks(out).tasks] == ["who ?"]


def test_check_prints_reasons_and_fails_when_nothing_is_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    turn = {"role": "assistant", "content": "a", "weight": 0.5}
    row = json.dumps({"messages": [{"role": "user", "content": "q"}, turn]}) + "\n"
    (tmp_path / "c.jsonl").write_text(row * 8)
    assert main(["data", "check", str(tmp_path / "c.jsonl")]) == 1
    printed = capsys.readouterr().out
    assert "dropped: c.jsonl, 8 rows (1, 2, 3, 4, 5, 6, …): weight = 0.5" in printed
    assert main(["data", "check", str(tmp_path / "c.jsonl"), "--json"]) == 1


def test_check_lists_the_keys_of_every_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "r", "weight": 1}]
    (tmp_path / "c.jsonl").write_text(json.dumps({"messages": turns}))
    main(["data", "check", str(tmp_path / "c.jsonl"), "--json"])
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["schema"]["messages[].reasoning_content"] == ["text"]
    assert file["schema"]["messages[].weight"] == ["integer"]


def test_check_reads_as_a_run_reads(tmp_path: Path, qwen_directory: Path, capsys: pytest.CaptureFixture[str]):
    """`fetch` is no tool of the default protocol, but one of this run, which ends turns with it."""
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<fetch> a </fetch> b"}]
    (tmp_path / "c.jsonl").write_text(json.dumps({"messages": turns}))
    protocol = 'tools = ["fetch"]\nsystem_prompt = ""'
    run = f'out = "o"\ndata = "c.jsonl"\n[model]\npath = "{qwen_directory}"\n[protocol]\n{protocol}\n'
    (tmp_path / "sft.toml").write_text(run)
    assert main(["data", "check", str(tmp_path / "c.jsonl")]) == 0
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path / "c.jsonl"), "--config", str(tmp_path / "sft.toml")]) == 1
    assert "goes on after" in capsys.readouterr().out


def test_check_says_how_often_each_question_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [json.dumps({"question": f"who {i} ?", "answer": "Bo"}) + "\n" for i in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(rows * 100))
    assert main(["data", "check", str(tmp_path / "a.jsonl")]) == 0
    assert "300 tasks ask 3 different questions, each about 100 times" in capsys.readouterr().out


# --- rows after rendering ------------------------------------------------------------------------------------------

CALLS = [
    {"role": "user", "content": "2+3?"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "python", "arguments": '{"code": "print(2+3)"}'}}]},
    {"role": "tool", "tool_call_id": "a", "content": "5\x1b[2J"},
    {"role": "assistant", "content": "<answer> \\boxed{5} </answer>"},
]  # fmt: skip
MASKED = [
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0},
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "b"},
]  # fmt: skip


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_show_prints_a_conversation_with_what_trains(
    tmp_path: Path, qwen_directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Without colour the line above each part says it; the counts are those of training."""
    data = write_rows(tmp_path / "c.jsonl", {"messages": [{"role": "user", "content": "q"}]}, {"messages": CALLS})
    assert main(["data", "check", str(data), "--model", str(qwen_directory), "--show", "1"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed, "neither colours in a pipe nor the data's own"
    tokenizer = PolicyTokenizer.load(qwen_directory)
    (conversation,) = read_conversations(data).conversations
    ids, mask = encode_conversation(conversation, TagProtocol(tokenizer, TagProtocolConfig()), tokenizer)
    assert f"c.jsonl, row 2: {len(ids)} tokens, {sum(mask)} of them train" in printed
    turns = ["<python> print(2+3) </python>", "<answer> \\boxed{5} </answer>"]
    for turn in turns:
        number = len(tokenizer.encode_markup(turn))
        assert re.search(rf"── assistant · {number} tokens · trains ─+\n{re.escape(turn)}\n", printed)
    assert re.search(r"── tool · \d+ tokens · masked ─+\n <result>\n5\\x1b\[2J\n</result>\n", printed)
    counts = [int(number) for number in re.findall(r"── .* · (\d+) tokens", printed)]
    assert sum(counts) == len(ids)
    monkeypatch.setenv("FORCE_COLOR", "1")
    main(["data", "check", str(data), "--model", str(qwen_directory), "--show", "1"])
    coloured = capsys.readouterr().out
    assert "\x1b[32m<answer> \\boxed{5} </answer>\x1b[0m" in coloured, "green trains"
    assert "\x1b[2m <result>" in coloured, "dim is masked"
    monkeypatch.setenv("NO_COLOR", "1")
    main(["data", "check", str(data), "--model", str(qwen_directory), "--show", "1"])
    assert "\x1b[32m" not in capsys.readouterr().out


def test_show_tells_masked_turns_of_the_assistant(tmp_path: Path, qwen_directory: Path, capsys: pytest.CaptureFixture[str]):
    data = write_rows(tmp_path / "c.jsonl", {"messages": MASKED})
    assert main(["data", "check", str(data), "--model", str(qwen_directory), "--show", "5", "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    parts = [(part["speaker"], part["is_trained"]) for part in file["shown"][0]["parts"]]
    assert parts == [("prompt", False), ("assistant", False), ("user", False), ("assistant", True)]


def test_show_prints_the_prompt_of_a_task(tmp_path: Path, qwen_directory: Path, capsys: pytest.CaptureFixture[str]):
    data = write_rows(tmp_path / "t.jsonl", {"question": "who ?", "answer": "Bo"}, {"question": "when ?", "answer": "1"})
    run = f'[model]\npath = "{qwen_directory}"\n[agent.protocol]\ntools = []\nsystem_prompt = "Mine."\n'
    (tmp_path / "rl.toml").write_text(run)
    assert main(["data", "check", str(data), "--config", str(tmp_path / "rl.toml"), "--show", "2"]) == 0
    printed = capsys.readouterr().out
    assert "<|im_start|>system\nMine.<|im_end|>\n<|im_start|>user\nwho ?<|im_end|>\n<|im_start|>assistant↵\n" in printed
    assert re.search(r"t\.jsonl, row 2: \d+ tokens\n── prompt · \d+ tokens ─", printed)


def test_show_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = write_rows(tmp_path / "t.jsonl", {"question": "who ?", "answer": "Bo"})
    assert main(["data", "check", str(data), "--show", "1"]) == 2
    assert "give --config RECIPE" in capsys.readouterr().err
    (tmp_path / "rl.toml").write_text("[agent.protocol]\ntools = []\n")
    assert main(["data", "check", str(data), "--show", "1", "--config", str(tmp_path / "rl.toml")]) == 2
    assert "it names no model; add --model DIR" in capsys.readouterr().err
    assert main(["data", "check", str(data), "--show", "-1"]) == 2


def test_a_system_message_that_contradicts_the_run_s_protocol_is_a_finding(
    tmp_path: Path, qwen_directory: Path, capsys: pytest.CaptureFixture[str]
):
    """A run without tools; two of three rows teach one."""
    system = {"role": "system", "content": "Call <search> w </search>, then <answer> x </answer>."}
    prompts = [[system, {"role": "user", "content": f"{i}?"}][i % 2 :] for i in range(3)]
    data = write_rows(tmp_path / "t.jsonl", *({"prompt": p, "reward_model": {"ground_truth": "2"}} for p in prompts))
    keys = f'[model]\npath = "{qwen_directory}"\n[agent.protocol]\ntools = []\nsystem_prompt = "direct"\n'
    (tmp_path / "rl.toml").write_text(keys)
    assert main(["data", "check", str(data)]) == 0
    printed = capsys.readouterr().out
    assert "system message of their own: 2 of 3 rows; --config" in printed
    assert "contradicts_protocol" not in printed, "no run, no protocol"
    assert main(["data", "check", str(data), "--config", str(tmp_path / "rl.toml")]) == 0
    printed = capsys.readouterr().out
    assert "in 2 prompts the system message teaches <search>, which protocol.tools = [] does not have" in printed
    (tmp_path / "rl.toml").write_text(keys + 'task_system_prompt = "replace"\n')
    assert main(["data", "check", str(data), "--config", str(tmp_path / "rl.toml")]) == 0
    assert "contradicts_protocol" not in capsys.readouterr().out


def test_each_reason_for_dropped_rows_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = write_rows(
        tmp_path / "t.jsonl", *[{"question": "?"}] * 3, {"question": "who ?", "answer": " "}, {"question": "a", "answer": 1}
    )
    assert main(["data", "check", str(data)]) == 0
    printed = capsys.readouterr().out
    assert "dropped: t.jsonl, 3 rows (1, 2, 3): neither a prompt nor a question with an answer" in printed
    assert "dropped: t.jsonl, row 4: answer = ' ' is blank" in printed
