"""What a policy will read and write in a world, without an index: of training entities only."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from arpo.world.config import DemonstratorConfig
from arpo.world.demonstrator import Demonstrator

_NAME_WEIGHT = 20
"""Repetitions of the names of persons and companies, so that each of their words becomes one token before any whole city does:
a city seen in training would then be one token and a held-out one two."""
_NAME = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+)?")
_CALL = re.compile(r"<(search|python)> (.*?)</", re.DOTALL)


def world_texts(world: Path) -> Iterator[str]:
    """Yield the training texts of a tiny policy's tokenizer, each piece as the agent loop encodes it.

    They are the texts of `read_demonstrations`; two-word names follow, `_NAME_WEIGHT` times. No text holds a held-out name.
    """
    for texts in read_demonstrations(world):
        yield from texts
    yield from [f" {name}" for name in _read_pages(world) if " " in name] * _NAME_WEIGHT


def read_demonstrations(world: Path, score: Callable[[str, str], float] = lambda query, page: 0) -> Iterator[list[str]]:
    """Yield, for every training task of the world in the folder `world`, its question, then completions and results in turn.

    A search returns the two pages of highest `score(query, page)` with the entity as title, the first ones of equals; a
    computation returns the reference answer.
    """
    pages = _read_pages(world)
    demonstrator = Demonstrator(0, DemonstratorConfig())
    for row in pq.read_table(world / "train.parquet").to_pylist():
        prefix = row["extra_info"]["question"]
        texts = [prefix]
        while True:
            completion = demonstrator.next_turn(prefix)
            texts.append(completion)
            call = _CALL.search(completion)
            if call is None:
                break
            name, content = call.groups()
            if name == "search":
                hits = sorted(pages[_NAME.findall(content)[0]], key=lambda page: -score(content, page))
                result = "\n".join(f"Page {i}: {page}" for i, page in enumerate(hits[:2], start=1))
            else:
                result = row["reward_model"]["ground_truth"]
            texts.append(result)
            prefix += f"{completion} <result>\n{result}\n</result>"
        yield texts


def _read_pages(world: Path) -> dict[str, list[str]]:
    """Title to its pages, of the documents that training may see."""
    pages: dict[str, list[str]] = defaultdict(list)
    for line in (world / "train_corpus.jsonl").read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        pages[document["title"]].append(document["text"])
    return pages
