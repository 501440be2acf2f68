"""`arpo data`, through the command line."""

import json
from pathlib import Path

import pytest

from arpo.cli.main import main
from arpo.data.tasks import read_tasks

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
    assert main(["data", "check", str(train), "--json", "--tokenizer", str(qwen_directory)]) == 0
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
    assert "c.jsonl, row 1: weight = 0.5 cannot be honoured" in printed
    assert "and 2 more bad rows" in printed
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
