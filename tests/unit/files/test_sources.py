import json
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from arpo.data.tasks import read_tasks
from arpo.errors import DataError
from arpo.files.sources import open_source


def table(*names: str) -> pa.Table:
    return pa.Table.from_pylist([{"question": f"{name} ?", "answer": name} for name in names])


def save_to_disk(folder: Path, *shards: pa.Table) -> Path:
    """What `datasets.Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    files = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for file, shard in zip(files, shards, strict=True):
        with pa.ipc.new_stream(str(folder / file), shard.schema) as writer:
            writer.write_table(shard)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": file} for file in files], "_split": "train"}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def questions(path: Path) -> list[tuple[str, str]]:
    return [(task.id, task.question) for task in read_tasks(path).tasks]


def test_a_folder_of_save_to_disk(tmp_path: Path):
    folder = save_to_disk(tmp_path / "mine", table("a", "b"), table("c"))
    assert questions(folder) == [("mine-1", "a ?"), ("mine-2", "b ?"), ("mine-3", "c ?")]
    assert read_tasks(folder).tasks[2].source == "mine"


def test_a_saved_dictionary_of_splits_wants_a_split(tmp_path: Path):
    for split in ("train", "test"):
        save_to_disk(tmp_path / "ds" / split, table(split))
    (tmp_path / "ds" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match=r"holds several tables; name one of them: .*/ds/test, .*/ds/train"):
        read_tasks(tmp_path / "ds")
    assert questions(tmp_path / "ds" / "train") == [("train-1", "train ?")]


def test_a_folder_of_the_hub(tmp_path: Path):
    """Shards are read in the order of their numbers; a bad row is named by its own file and row."""
    data = tmp_path / "ds" / "data"
    data.mkdir(parents=True)
    (tmp_path / "ds" / "README.md").write_text("# mine")
    pq.write_table(table("c", " "), data / "train-00001-of-00002.parquet")
    pq.write_table(table("a", "b"), data / "train-00000-of-00002.parquet")
    found = read_tasks(tmp_path / "ds")
    assert [task.id for task in found.tasks] == ["ds-1", "ds-2", "ds-3"]
    assert [(bad.path.name, bad.row) for bad in found.bad_rows] == [("train-00001-of-00002.parquet", 2)]
    pq.write_table(table("d"), data / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"several tables; name one of them: .*/data/test, .*/data/train"):
        read_tasks(tmp_path / "ds")
    assert questions(data / "test") == [("test-1", "d ?")]
    assert len(questions(data / "train")) == 3
    (data / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"holds 1 of its 2 shards, train-00001-of-00002\.parquet as number 1"):
        read_tasks(data / "train")


def test_folders_that_cannot_be_used(tmp_path: Path):
    with pytest.raises(DataError, match=r"no file of \.parquet, \.jsonl, \.arrow, \.json in this folder"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="no such file or folder; give a file of"):
        open_source(tmp_path / "none")
    folder = save_to_disk(tmp_path / "ds", table("a"))
    for state in ("", "[]", '{"_data_files": [{}]}', "[" * 50_000):
        (folder / "state.json").write_text(state)
        with pytest.raises(DataError, match=r"not what datasets\.save_to_disk writes"):
            open_source(folder)
    for name in ("../x.arrow", "gone.arrow", "state.json"):
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        with pytest.raises(DataError, match=r"which is no \.arrow file of this folder"):
            open_source(folder)


@pytest.mark.parametrize(
    ("name", "word"), [("hf://datasets/owner", "names no data set"), ("hf://datasets/o/n/train", "cannot be fetched")]
)
def test_data_sets_of_the_hub_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, word: str):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=f"{name}: {word}"):
        open_source(Path(name))


def test_a_data_set_of_the_hub_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Laid out as the hub's library keeps what it fetched; without a network it is what is read."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    data = tmp_path / "datasets--owner--name" / "snapshots" / commit / "data"
    data.mkdir(parents=True)
    refs = tmp_path / "datasets--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    for split in ("train", "test"):
        pq.write_table(table(split), data / f"{split}-00000-of-00001.parquet")
    assert questions(Path("hf://datasets/owner/name/data/train")) == [("train-1", "train ?")]
    assert questions(Path("hf://datasets/owner/name@main/data/test")) == [("test-1", "test ?")]
    with pytest.raises(DataError, match="several tables"):
        open_source(Path("hf://datasets/owner/name"))
    (data / "test-00000-of-00001.parquet").unlink()
    assert questions(Path("hf://datasets/owner/name@main")) == [("name-1", "train ?")]
