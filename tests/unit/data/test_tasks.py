import json
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arpo.data.tasks import count_questions, read_tasks
from arpo.errors import DataError
from arpo.types import Message

PROMPT = [{"content": "Use \x08oxed{}.", "role": "system"}, {"content": "who ?", "role": "user"}]


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def rl_row(ground_truth: object = "Kelford", **extra: object) -> dict[str, object]:
    return {"data_source": "DR", "prompt": PROMPT, "ability": "qa",
    "reward_model": {"ground_truth": ground_truth, "style": "rule"},
            "extra_info": {"index": 3, "split": "train"}, "metadata": None, **extra}  # fmt: skip


def test_rl_rows_from_parquet(tmp_path: Path):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([rl_row(), rl_row("Bo")]), path)
    with pytest.warns(UserWarning, match="2 of 2 prompts"):
        found = read_tasks(path)
    first, second = found.tasks
    assert (first.id, second.id) == ("train-1", "train-2")
    assert first.messages == (Message(role="system", content="Use \\boxed{}."), Message(role="user", content="who ?"))
    assert (first.references, first.source, first.ability) == (("Kelford",), "DR", "qa")
    assert first.extra == {"reward_model.style": "rule", "index": 3, "split": "train"}
    assert first.question == "who ?"
    assert found.bad_rows == []


def test_the_other_struct_variant(tmp_path: Path):
    row = {"data_source": "DR", "prompt": [{"role": "user", "content": "who ?"}], "ability": None,
           "reward_model": {"ground_truth": ["Bo", "Bo Finch"]}, "extra_info": {"index": 0}}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "hard.parquet")
    (task,) = read_tasks(tmp_path / "hard.parquet").tasks
    assert task.references == ("Bo", "Bo Finch")
    assert task.ability is None
    assert task.extra == {"index": 0}


@pytest.mark.parametrize(
    ("answer", "references"),
    [
        ("Kelford", ("Kelford",)), (7, ("7",)), (204.0, ("204.0",)), (["a", "b"], ("a", "b")), (["a", " "], ("a",)),
        ("so 3 + 4\n#### 7", ("7",)), ("# of cars", ("# of cars",)),
    ],
)  # fmt: skip
def test_answers(tmp_path: Path, answer: object, references: tuple[str, ...]):
    (task,) = read_tasks(write_jsonl(tmp_path / "q.jsonl", {"question": "who ?", "answer": answer, "level": 2})).tasks
    assert task.references == references
    assert (task.id, task.source, task.extra) == ("q-1", "q", {"level": 2})
    assert task.messages == (Message(role="user", content="who ?"),)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("row", "references"),
    [
        ({"prompt": PROMPT[1:], "reward_model": {"style": "rule", "ground_truth": {"target": ["Jane Austen", "Austen"]}}},
         ("Jane Austen", "Austen")),
        ({"prompt": PROMPT[1:], "reward_model": {"ground_truth": {"target": "7", "note": None}}}, ("7",)),
        ({"prompt": PROMPT[1:], "reward_model": json.dumps({"ground_truth": "Bo"})}, ("Bo",)),
        ({"prompt": PROMPT[1:], "reward_model": {"ground_truth": '["4", "four"]'}}, ("4", "four")),
        ({"prompt": PROMPT[1:], "reward_model": {"ground_truth": "['4', 'four']"}}, ("4", "four")),
        ({"prompt": PROMPT[1:], "reward_model": {"ground_truth": "[4, 5]"}}, ("[4, 5]",)),
        ({"prompt": PROMPT[1:], "answer": "Bo"}, ("Bo",)),
        ({"prompt": "who ?", "golden_answers": ["Bo"]}, ("Bo",)),
        ({"prompt": json.dumps(PROMPT[1:]), "answer": "Bo"}, ("Bo",)),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "who ?"}]}], "answer": "Bo"}, ("Bo",)),
        ({"prompt": None, "question": "who ?", "reward_model": {"ground_truth": "Bo"}}, ("Bo",)),
        ({"prompt": None, "question": "who ?", "answer": "Bo"}, ("Bo",)),
        ({"id": "q1", "question": "who ?", "golden_answers": ["Jane Austen"]}, ("Jane Austen",)),
        ({"question": "who ?", "answer": {"value": "Jane", "aliases": ["Austen", "Jane"], "normalized_value": "jane"}},
         ("Jane", "Austen")),
        ({"question": "who ?", "answers": {"text": ["Bo", "Al"], "answer_start": [3, 9]}}, ("Bo", "Al")),
        ({"question": "who ?", "possible_answers": '["Bo", "Al"]'}, ("Bo", "Al")),
        ({"question": "who ?", "answer": None, "golden_answers": ["A"]}, ("A",)),
        ({"question": "who ?", "answer": "", "golden_answers": ["A"]}, ("A",)),
        ({"question": "who ?", "answer": "the"}, ("the",)),
        ({"question": "who ?", "answer": "(1, 2)"}, ("(1, 2)",)),
    ],
)  # fmt: skip
def test_forms_of_public_sets(tmp_path: Path, row: dict[str, object], references: tuple[str, ...], suffix: str):
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        write_jsonl(path, row)
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    (task,) = read_tasks(path).tasks
    assert (task.question, task.references) == ("who ?", references)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "who ?", "answer": {"target": "Bo", "tolerance": 0.1}}, "nor an object of target, value, text, aliases"),
        ({"question": "who ?", "answer": "Bo", "images": ["a.png"]}, "images cannot be honoured"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "answer": "Bo"}, "a part of type 'image'"),
        ({"prompt": [{"role": "user", "content": "who ?", "images": ["a"]}], "answer": "Bo"}, "prompt: 'images' of a message"),
        ({"prompt": None, "answer": "Bo"}, "prompt = None is neither a text nor a list of messages"),
    ],
)  # fmt: skip
def test_what_a_task_cannot_keep_is_named(tmp_path: Path, row: dict[str, object], reason: str):
    with pytest.raises(DataError) as error:
        read_tasks(write_jsonl(tmp_path / "a.jsonl", row))
    assert reason in str(error.value)


def test_bad_rows_are_named_and_the_others_kept(tmp_path: Path):
    path = write_jsonl(
        tmp_path / "q.jsonl",
        {"question": "who ?", "answer": "Bo"},  # 1
        "{not json",
        "[1, 2]",
        "",  # 4: an empty line is no row
        {"question": "who ?", "answer": " "},
        {"question": "", "answer": "Bo"},  # 6
        {"question": "who ?"},
        {"question": "who ?", "answer": None},  # 8
        {"question": "who ?", "answer": True},
        {"prompt": PROMPT, "reward_model": {}},  # 10
        {"prompt": 7, "reward_model": {"ground_truth": "Bo"}},
        {"prompt": [{"role": "user"}], "reward_model": {"ground_truth": "Bo"}},  # 12
        {"prompt": PROMPT[:1], "reward_model": {"ground_truth": "Bo"}},
        {"question": "where ?", "answer": "Kelford"},  # 14
        '{"question": "half \\ud83d", "answer": "Bo"}',
        '{"question": "who ?", "answer": NaN}',  # 16
        {"prompt": PROMPT, "reward_model": {"ground_truth": "Bo"}, "ability": 3},
    )
    found = read_tasks(path)
    assert [task.id for task in found.tasks] == ["q-1", "q-14"]
    assert [bad.row for bad in found.bad_rows] == [2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17]
    words = ["no JSON", "no JSON object", "blank", "question = ''", "['question']", "None", "True",
    "no reward_model.ground_truth",
             "neither a text nor a list", "no message",
             "does not end with a question", "half a surrogate pair", "answer = nan",
             "ability = 3"]  # fmt: skip
    for bad, word in zip(found.bad_rows, words, strict=True):
        assert word in bad.reason
        assert str(bad) == f"{path}, row {bad.row}: {bad.reason}"


def test_files_that_cannot_be_used(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_tasks(tmp_path / "none.jsonl")
    (tmp_path / "a.csv").write_text("question,answer\n")
    with pytest.raises(DataError, match=r"'\.csv' cannot be read; give a file of \.parquet, \.jsonl"):
        read_tasks(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a parquet file"):
        read_tasks(tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"no usable task .*row 1: no UTF-8 text \(invalid start byte at byte 1\)"):
        read_tasks(tmp_path / "b.jsonl")
    (tmp_path / "e.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"no usable task \(it has no rows"):
        read_tasks(tmp_path / "e.jsonl")
    with pytest.raises(DataError, match=r"no usable task .*row 1: answer = '' is blank"):
        read_tasks(write_jsonl(tmp_path / "c.jsonl", {"question": "who ?", "answer": ""}))


def test_a_message_about_a_huge_row_is_short(tmp_path: Path):
    found = read_tasks(
        write_jsonl(tmp_path / "q.jsonl", {"question": "who ?", "answer": "Bo"}, {"question": ["x" * 10**6], "answer": 1})
    )
    assert len(str(found.bad_rows[0])) < 500


def test_an_undamaged_prompt_gives_no_warning(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_tasks(write_jsonl(tmp_path / "q.jsonl", {"question": "what does \\boxed do ?", "answer": "box"}))


@pytest.mark.parametrize(
    ("name", "num_tasks", "bad_rows"), [("train_10k", 9999, [5275]), ("valid", 180, []), ("hard_search_1k", 1071, [])]
)
def test_public_training_files(shared_data: Path, name: str, num_tasks: int, bad_rows: list[int]):
    with pytest.warns(UserWarning, match=f"damaged in {num_tasks} of {num_tasks} prompts"):
        found = read_tasks(shared_data / f"{name}.parquet")
    assert len(found.tasks) == num_tasks
    assert [bad.row for bad in found.bad_rows] == bad_rows
    assert all("ground_truth = ' ' is blank" in bad.reason for bad in found.bad_rows)
    assert all([m.role for m in task.messages] == ["system", "user"] for task in found.tasks)
    assert not any("\x08" in m.content for task in found.tasks for m in task.messages)
    assert len({task.id for task in found.tasks}) == num_tasks


@pytest.mark.parametrize(
    ("name", "num_tasks", "references"),
    [
        ("aime24", 30, ("204",)),
        ("bamboogle", 125, ("james madison",)),
        ("gsm8k", 1319, ("18",)),
        ("hotpotqa", 200, ("Frank Lowy",)),
    ],
)
def test_public_benchmarks(shared_data: Path, name: str, num_tasks: int, references: tuple[str, ...]):
    found = read_tasks(shared_data / "benchmarks" / f"{name}.jsonl")
    assert len(found.tasks) == num_tasks
    assert found.bad_rows == []
    assert found.tasks[0].references == references


def test_how_often_a_question_is_asked():
    assert count_questions(300, 3) == "300 tasks ask 3 different questions, each about 100 times"
    assert count_questions(9999, 9960) == "9999 tasks ask 9960 different questions"
    assert count_questions(3, 3) == count_questions(0, 0) == ""
