"""A world on disk: reproducible, split without leaks, readable by the public readers, answerable from its documents alone."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from arpo.config import parse_config
from arpo.data.tasks import read_tasks
from arpo.errors import ConfigError
from arpo.world.config import WorldConfig
from arpo.world.kinds import ATTRIBUTES, KINDS
from arpo.world.make import WorldSummary, make_world
from arpo.world.plain import PLAIN
from arpo.world.style import Page, Reader

SMALL = WorldConfig(num_persons=160, num_companies=80, num_cities=120, num_train=300, num_valid=40, num_test=120)
FILES = ("corpus.jsonl", "train_corpus.jsonl", "train.parquet", "valid.parquet", "test.parquet", "world.json")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WorldSummary]:
    out = tmp_path_factory.mktemp("world")
    return out, make_world(SMALL, out)


def read_documents(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_rows(out: Path, split: str) -> list[dict[str, Any]]:
    return pq.read_table(out / f"{split}.parquet").to_pylist()


def held_out_names(out: Path) -> set[str]:
    titles = [{d["title"] for d in read_documents(out / name)} for name in ("corpus.jsonl", "train_corpus.jsonl")]
    return titles[0] - titles[1]


def test_same_seed_gives_the_same_bytes_and_another_seed_other_names(world: tuple[Path, WorldSummary], tmp_path: Path) -> None:
    out, _ = world
    make_world(SMALL, tmp_path / "again")
    make_world(SMALL.model_copy(update={"seed": 1}), tmp_path / "other")
    for name in FILES:
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    words, other = (
        {word for d in read_documents(folder / "corpus.jsonl") for word in d["title"].split()}
        for folder in (out, tmp_path / "other")
    )
    assert len(words & other) < 0.3 * len(words)


def test_counts_are_those_of_the_files(world: tuple[Path, WorldSummary]) -> None:
    out, summary = world
    # 160 + 80 + 120 entities, a quarter of each type held out: 40 + 20 + 30
    assert (summary.num_entities, summary.num_held_out_entities) == (360, 90)
    assert len(held_out_names(out)) == 90
    assert summary.num_documents == len(read_documents(out / "corpus.jsonl"))
    assert summary.num_train_documents == len(read_documents(out / "train_corpus.jsonl"))
    assert [len(read_rows(out, s)) for s in ("train", "valid", "test")] == [300, 40, 120]
    description = json.loads((out / "world.json").read_text())
    assert WorldConfig.model_validate(description["config"]) == SMALL
    assert description["counts"]["num_documents"] == summary.num_documents


def test_nothing_in_training_names_a_held_out_entity(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    pattern = re.compile("|".join(rf"\b{name}\b" for name in sorted(held_out_names(out))))
    for text in (
        (out / "train_corpus.jsonl").read_text(),
        *(row["prompt"][0]["content"] + " " + row["reward_model"]["ground_truth"] for row in read_rows(out, "train")),
    ):
        assert not pattern.search(text)
    assert pattern.search((out / "corpus.jsonl").read_text())


def test_held_out_names_are_made_of_parts_that_training_shows(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    train = (out / "train_corpus.jsonl").read_text()
    words = {word for name in held_out_names(out) if " " in name for word in name.split()}
    assert words
    assert not [word for word in words if not re.search(rf"\b{word}\b", train)]


def test_never_seen_flag_says_whether_a_held_out_entity_is_asked_about(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    held_out = held_out_names(out)
    for split, expected in (("train", 0), ("valid", 20), ("test", 60)):  # half of 40 and of 120
        rows = read_rows(out, split)
        for row in rows:
            named = any(re.search(rf"\b{name}\b", row["prompt"][0]["content"]) for name in held_out)
            assert row["extra_info"]["never_seen"] == named
        assert sum(row["extra_info"]["never_seen"] for row in rows) == expected


def test_no_question_occurs_twice_even_with_its_entities_swapped(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    keys = Counter(
        (row["extra_info"]["kind"], frozenset(re.findall(r"(?!Where|When|Who|Which|How)\b[A-Z]\w+(?: [A-Z]\w+)?", question)))
        for split in ("train", "valid", "test")
        for row in read_rows(out, split)
        for question in [row["extra_info"]["question"]]
    )
    assert set(keys.values()) == {1}


def read_pages(out: Path) -> list[tuple[Page, dict[str, str]]]:
    """Every page of the corpus as a reader sees it, with what it states."""
    reader = Reader(PLAIN)
    result = "\n".join(f"Page 1: {d['text']}" for d in read_documents(out / "corpus.jsonl"))
    pages = list(reader.pages(result))
    return [(page, {a: v for a in ATTRIBUTES if (v := reader.value(page, a)) is not None}) for page in pages]


def test_every_page_is_read_again_and_states_one_fact(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    documents, pages = read_documents(out / "corpus.jsonl"), read_pages(out)
    assert [(page.name, page.source) for page, _ in pages] == [(d["title"], d["id"].partition("-")[0]) for d in documents]
    assert {len(stated) for page, stated in pages if page.source != "chronicle"} == {1}
    assert {len(stated) for page, stated in pages if page.source == "chronicle"} == {0}


def test_registry_alone_answers_every_question(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    facts = {(p.name, a): v for p, stated in read_pages(out) if p.source == "registry" for a, v in stated.items()}
    kinds, reader = Counter[str](), Reader(PLAIN)
    for split in ("train", "valid", "test"):
        for row in read_rows(out, split):
            [(kind_name, match)] = reader.questions(row["prompt"][0]["content"])
            assert kind_name == row["extra_info"]["kind"]
            kinds[kind_name] += 1
            kind = KINDS[kind_name]
            values = []
            for name, chain in zip(match.groups(), kind.chains, strict=True):
                for attribute in chain:
                    name = facts[name, attribute]
                values.append(name)
            expected = {
                None: lambda v: v[0],
                "difference": lambda v: str(int(v[0]) - int(v[1])),
                "total": lambda v: str(int(v[0]) + int(v[1])),
                "years": lambda v: str(abs(int(v[0]) - int(v[1]))),
            }[kind.operation](values)
            assert row["reward_model"]["ground_truth"] == expected
            assert row["extra_info"]["num_calls"] == sum(map(len, kind.chains)) + (kind.operation is not None)
    assert set(kinds) == set(KINDS)


def test_stated_shares_of_facts_and_entities_have_wrong_and_silent_pages(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    pages = read_pages(out)
    right, wrong = (
        {(page.name, a): v for page, stated in pages if page.source == source for a, v in stated.items()}
        for source in ("registry", "almanac")
    )
    # 160 persons and 120 cities with 3 facts, 80 companies with 2: 1000 facts, of which 35 %
    assert len(right) == 1000
    assert len(wrong) == 350
    assert not [key for key, value in wrong.items() if right[key] == value]
    silent = [page.name for page, _ in pages if page.source == "chronicle"]
    assert len(silent) == len(set(silent))
    assert 0.3 < len(silent) / 360 < 0.5  # 0.4 of the entities, standard deviation 0.026


def test_questions_and_pages_are_worded_in_every_way(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    questions = [row["prompt"][0]["content"] for split in ("train", "valid", "test") for row in read_rows(out, split)]
    text = (out / "corpus.jsonl").read_text()
    for wording in (w for wordings in PLAIN.questions.values() for w in wordings):
        assert any(re.fullmatch(re.escape(wording).replace(r"\{\}", "[A-Z].*"), question) for question in questions), wording
    for wording in (w for wordings in PLAIN.statements.values() for w in wordings):
        assert wording.partition("{")[0] in text


def test_public_reader_reads_every_row(world: tuple[Path, WorldSummary]) -> None:
    out, _ = world
    table = pq.read_table(out / "test.parquet")
    assert table.column_names == ["data_source", "prompt", "ability", "reward_model", "extra_info", "metadata"]
    file = read_tasks(out / "test.parquet")
    assert not file.bad_rows
    task, row = file.tasks[0], table.slice(0, 1).to_pylist()[0]
    assert task.question == row["extra_info"]["question"]
    assert task.references == (row["reward_model"]["ground_truth"],)
    assert task.extra["kind"] == row["extra_info"]["kind"]


def test_too_small_a_world_is_refused_with_the_keys_to_raise(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"num_train": 3000})
    with pytest.raises(ConfigError, match="raise num_persons, num_companies or num_cities"):
        make_world(config, tmp_path)
    with pytest.raises(ConfigError, match="raise num_persons or lower held_out_share"):
        make_world(SMALL.model_copy(update={"held_out_share": 0.9}), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"birthplaze": 1.0}, "birthplaze"), ({"mayor": 0.0}, "at least one"), ({"mayor": -1.0}, "at least one")],
)
def test_kind_weights_are_checked(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(WorldConfig, {"kind_weights": weights}, "test")
