"""The example rows of docs/data.md, read as they stand on the page."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from arpo.cli.main import main
from arpo.data.conversations import encode_parts, read_conversations
from arpo.data.tasks import read_tasks
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.tags import TagProtocol
from arpo.protocols.text_tokenizer import TextTokenizer

from .blocks import ROOT, blocks

PAGE = ROOT / "docs" / "data.md"
FILES = {block.name: block.text for block in blocks(PAGE) if block.language == "jsonl"}


@pytest.fixture
def file(tmp_path: Path):
    def write(name: str) -> Path:
        (tmp_path / name).write_text(FILES[name])
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("name", "references"),
    [
        ("tasks.jsonl", [("24",), ("Oslo", "Oslo kommune"), ("\\frac{3}{4}",), ("10",)]),
        ("rl.jsonl", [("42",), ("Oslo", "Oslo kommune")]),
    ],
)
def test_tasks(name: str, references: list[tuple[str, ...]], file):
    read = read_tasks(file(name))
    assert read.bad_rows == []
    assert [task.references for task in read.tasks] == references


def test_the_parquet_that_the_page_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (code,) = (block.text for block in blocks(PAGE) if block.language == "python")
    exec(code, {})
    assert pq.read_table("train.parquet").num_rows == 3
    assert [task.references for task in read_tasks(Path("train.parquet")).tasks] == [("42",), ("15",), ("101",)]


def parts(path: Path) -> list[list[tuple[str, str, bool]]]:
    """Speaker, text and whether it trains, of each part of each conversation, under the tag protocol."""
    tokenizer = TextTokenizer()
    protocol = TagProtocol(tokenizer, TagProtocolConfig())
    read = read_conversations(path)
    assert read.bad_rows == []
    return [
        [(p.speaker, tokenizer.decode(p.token_ids).strip(), p.is_trained) for p in encode_parts(c, protocol, tokenizer)][1:]
        for c in read.conversations
    ]


def test_conversations_of_openai(file):
    call, search, masked = parts(file("openai.jsonl"))
    assert call == [
        ("assistant", "<think> Better to calculate. </think> <python> print(12 + 30) </python>", True),
        ("tool", "<result>\n42\n</result>", False),
        ("assistant", "<answer> \\boxed{42} </answer>", True),
    ]
    assert search[0][1] == "<think> I look it up. </think> <search> capital of Norway </search>"
    assert [is_trained for _, _, is_trained in masked] == [False, False, True]


def test_conversations_of_sharegpt(file):
    inline, turns = parts(file("sharegpt.jsonl"))
    assert inline == [
        ("assistant", "<think> Better to calculate. </think> <python> print(12 + 30) </python>", True),
        ("tool", "<result>\n42\n</result>", False),
        ("assistant", "<answer> \\boxed{42} </answer>", True),
    ]
    assert turns == [("assistant", "<python> print(12 + 30) </python>", True), *inline[1:]]


@pytest.mark.parametrize("name", FILES)
def test_every_file_passes_the_check(name: str, file, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "check", str(file(name))]) == 0
    assert "dropped" not in capsys.readouterr().out
