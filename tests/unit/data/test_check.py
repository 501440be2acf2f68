import json
from pathlib import Path
from typing import Any

import pytest

from arpo.data.check import check_data, measure_lengths
from arpo.data.overlap import OverlapIndex

QUESTION = "In which year was the old bridge over the river Tarn at Kelford opened?"


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def qa(question: str, answer: Any = "Bo", **more: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer, **more}


def test_every_kind_of_finding(tmp_path: Path):
    evaluation = OverlapIndex()
    evaluation.add(QUESTION, tmp_path / "test.jsonl", 7)
    evaluation.add("Who wrote the song of the four blue herons of Osmark?", tmp_path / "test.jsonl", 8)
    path = write(
        tmp_path / "train.jsonl",
        qa("who a ?"),  # 1
        qa("who a ?"),
        qa("Who, a?", "Al"),  # 3
        qa("who b ?", " "),
        qa("who c ?", "Unknown."),  # 5
        qa("who d ?", ["N/A", "Bo"]),
        qa("use \x08oxed", "the"),  # 7
        qa("what is \x0crac12 ?"),
        qa("who \ufffd ?"),  # 9
        qa(QUESTION.upper(), "1950"),
        qa("who wrote the song of the four blue herons of Hallow?"),  # 11: 8 of 9 trigrams
        qa("who e ?", 1, level=2),
    )
    report = check_data(path, evaluation)
    assert (report.kind, report.num_rows, report.num_usable) == ("tasks", 12, 11)
    assert [(f.kind, f.row) for f in report.findings] == [
        ("duplicate", 2), ("near_duplicate", 3), ("contradiction", 3), ("bad_row", 4), ("unanswerable", 5),
        ("repaired_box", 7), ("control_character", 8), ("replacement_character", 9),
        ("overlap", 10), ("near_overlap", 11),
    ]  # fmt: skip
    details = {f.kind: f.detail for f in report.findings}
    assert details["near_duplicate"] == "of row 1"
    assert details["control_character"] == "U+000C at character 9"
    assert details["near_overlap"] == f"{tmp_path}/test.jsonl, row 8: 89%"
    assert report.overlaps == {tmp_path / "test.jsonl": {"overlap": 1, "near_overlap": 1}}
    assert report.counts()["unanswerable"] == 1, "an article is an answer"
    assert report.schema == {
        "question": ["text"], "answer": ["integer", "text"], "answer[]": ["text"], "level": ["integer"]
    }  # fmt: skip
    assert report.groups == {"train / -": 11}


def test_conversations(tmp_path: Path):
    turns = [
        {"role": "assistant", "content": "<search> q </search>"},
        {"role": "tool", "content": "r"},
        {"role": "assistant", "content": "a"},
    ]
    user = {"role": "user", "content": "who ?"}
    path = write(tmp_path / "c.jsonl", {"messages": [user, *turns]}, {"messages": [user, *turns[2:]]}, {"messages": [user]})
    report = check_data(path, count_tokens=lambda text: len(text.split()))
    assert (report.kind, report.num_rows, report.num_usable) == ("conversations", 3, 2)
    assert report.groups == {"1 result": 1, "0 results": 1}
    assert [(f.kind, f.row) for f in report.findings] == [("duplicate", 2), ("bad_row", 3)]
    assert report.lengths is not None
    assert report.lengths.unit == "tokens"
    assert report.lengths.quantiles["max"] == 7, "who ? / <search> q </search> / r / a"
    assert report.schema == {"messages[].role": ["text"], "messages[].content": ["text"]}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"question": "who ?", "answer": "Bo", "messages": []}, "tasks"),
        ({"prompt": "who ?", "messages": [{"role": "user", "content": "who ?"}]}, "conversations"),
        ({"conversations": []}, "conversations"),
        ({"text": "who ?"}, "tasks"),
    ],
)
def test_the_first_row_says_what_a_file_holds(tmp_path: Path, row: dict[str, Any], kind: str):
    assert check_data(write(tmp_path / "a.jsonl", row)).kind == kind


def test_an_earlier_row_is_named_by_its_line(tmp_path: Path):
    row = json.dumps(qa("who a ?"))
    (tmp_path / "a.jsonl").write_text(f"\n\n{row}\n{row}\n")
    report = check_data(tmp_path / "a.jsonl")
    assert [(f.kind, f.row, f.detail) for f in report.findings] == [("duplicate", 4, "of row 3")]


def test_a_file_without_usable_rows_is_still_reported_on(tmp_path: Path):
    report = check_data(write(tmp_path / "a.jsonl", {"question": "who ?"}))
    assert (report.num_rows, report.num_usable, report.lengths) == (1, 0, None)
    assert report.counts() == {"bad_row": 1}


def test_lengths():
    """From 31 to 58 a width of 2 gives 15 bins, one of 1 would give 28; the 95th of 100 values has rank 95."""
    found = measure_lengths([58, 31, 35], "tokens")
    assert found is not None
    assert [b for b in found.bins if b[1]] == [(30, 1), (34, 1), (58, 1)]
    assert len(found.bins) == 15
    assert found.quantiles == {"min": 31, "median": 35, "p95": 58, "p99": 58, "max": 58}
    hundred = measure_lengths(range(1, 101), "tokens")
    assert hundred is not None
    assert hundred.quantiles == {"min": 1, "median": 50, "p95": 95, "p99": 99, "max": 100}
    assert sum(number for _, number in hundred.bins) == 100
    assert measure_lengths([], "tokens") is None


@pytest.mark.parametrize(
    ("name", "counts", "overlaps"),
    [
        ("valid", {"repaired_box": 180, "overlap": 50}, {"aime24": 30, "bamboogle": 20}),
        ("hard_search_1k", {"repaired_box": 1071, "unanswerable": 1, "overlap": 15}, {"hotpotqa": 15}),
    ],
)
def test_the_public_files_hold_evaluation_questions(shared_data: Path, name: str, counts: Any, overlaps: dict[str, int]):
    benchmarks = sorted((shared_data / "benchmarks").glob("*.jsonl"))
    report = check_data(shared_data / f"{name}.parquet", OverlapIndex.of_files(benchmarks))
    assert report.counts() == counts
    assert {path.stem: found["overlap"] for path, found in report.overlaps.items()} == overlaps


def test_repeated_questions_are_counted(tmp_path: Path):
    report = check_data(write(tmp_path / "a.jsonl", *[qa(f"who {i} ?") for i in range(3)] * 100))
    assert (report.num_usable, report.num_questions, report.counts()) == (300, 3, {"duplicate": 297})
