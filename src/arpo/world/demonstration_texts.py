"""The training texts of a tiny policy's tokenizer: what the policy will read and write, of training entities only."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from arpo.world.config import DemonstratorConfig
from arpo.world.demonstrator import Demonstrator

_NAME_WEIGHT = 20
"""Repetitions of the names of persons and companies, so that each of their words becomes one token before any whole city does:
a city seen in training would then be one token and a held-out one two."""
_NAME = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+)?")
_CALL = re.compile(r"<(search|python)> (.*?)</")


def world_texts(world: Path) -> Iterator[str]:
    """Yield questions, completions and results of the world in the folder `world`, each piece as the agent loop encodes it.

    The demonstrator writes them for every training task. A search returns the pages with the entity as title, without an index;
    a computation returns the reference answer. Two-word names follow, `_NAME_WEIGHT` times. No text holds a held-out name.
    """
    pages: dict[str, list[str]] = defaultdict(list)
    for line in (world / "train_corpus.jsonl").read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        pages[document["title"]].append(document["text"])
    demonstrator = Demonstrator(0, DemonstratorConfig())
    for row in pq.read_table(world / "train.parquet").to_pylist():
        prefix = row["extra_info"]["question"]
        yield prefix
        while True:
            completion = demonstrator.next_turn(prefix)
            yield completion
            call = _CALL.search(completion)
            if call is None:
                break
            name, content = call.groups()
            if name == "search":
                hits = pages[_NAME.search(content)[0]]
                result = "\n".join(f"Page {i}: {page}" for i, page in enumerate(hits[:2], start=1))
            else:
                result = row["reward_model"]["ground_truth"]
            yield result
            prefix += f"{completion} <result>\n{result}\n</result>"
    yield from [f" {name}" for name in pages if " " in name] * _NAME_WEIGHT
