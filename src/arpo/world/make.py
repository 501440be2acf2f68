"""Writes a world to disk: two corpora, three task files and a description."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from arpo.files.whole import whole, write_json, write_text
from arpo.world.config import WorldConfig
from arpo.world.corpus import Document, make_documents
from arpo.world.facts import make_world_facts
from arpo.world.kinds import KINDS
from arpo.world.questions import Question, make_questions
from arpo.world.styles import STYLES


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSummary:
    """Sizes of the world that `make_world` wrote."""

    num_entities: int
    num_held_out_entities: int
    num_documents: int
    """Lines of `corpus.jsonl`."""
    num_train_documents: int
    """Lines of `train_corpus.jsonl`."""
    num_train: int
    num_valid: int
    num_test: int
    mean_calls: float
    """Tool calls of the shortest solution, mean over the test questions."""


def make_world(config: WorldConfig, out: Path) -> WorldSummary:
    """Write a world to the folder `out`: the same configuration gives the same bytes.

    Files: `corpus.jsonl` (every document), `train_corpus.jsonl` (those that name no held-out entity), `train.parquet`,
    `valid.parquet` and `test.parquet` (the public RL schema), `world.json` (configuration and counts).

    Raises:
        ConfigError: the world has too few entities for the share held out, or for the number of questions of some kind.
    """
    style = STYLES[config.style]
    world = make_world_facts(config, style)
    documents = make_documents(world, style, config)
    questions = make_questions(world, style, config)
    train_documents = [d for d in documents if not d.is_held_out]

    out.mkdir(parents=True, exist_ok=True)
    _write_documents(out / "corpus.jsonl", documents)
    _write_documents(out / "train_corpus.jsonl", train_documents)
    for split, of_split in questions.items():
        _write_tasks(out / f"{split}.parquet", split, of_split)
    summary = WorldSummary(
        num_entities=len(world.entities),
        num_held_out_entities=sum(e.is_held_out for e in world.entities.values()),
        num_documents=len(documents),
        num_train_documents=len(train_documents),
        num_train=len(questions["train"]),
        num_valid=len(questions["valid"]),
        num_test=len(questions["test"]),
        mean_calls=sum(KINDS[q.kind].num_calls for q in questions["test"]) / len(questions["test"]),
    )
    description = {"config": config.model_dump(mode="json"), "counts": asdict(summary)}
    write_json(out / "world.json", description)
    return summary


def _write_documents(path: Path, documents: Iterable[Document]) -> None:
    lines = (json.dumps({"id": d.id, "title": d.title, "text": d.text}) for d in documents)
    write_text(path, "".join(line + "\n" for line in lines))


def _write_tasks(path: Path, split: str, questions: Sequence[Question]) -> None:
    rows = [
        {
            "data_source": "world",
            "prompt": [{"content": question.text, "role": "user"}],
            "ability": "qa",
            "reward_model": {"ground_truth": question.answer, "style": "rule"},
            "extra_info": {
                "index": index,
                "kind": question.kind,
                "never_seen": question.never_seen,
                "num_calls": KINDS[question.kind].num_calls,
                "question": question.text,
                "split": split,
            },
            "metadata": None,
        }
        for index, question in enumerate(questions)
    ]
    with whole(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows), partial)
