"""The texts a tiny policy's tokenizer is trained on: what the policy will read and write, of training entities only."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from arpo.demonstrate.config import DemonstratorConfig
from arpo.demonstrate.demonstrator import Demonstrator

_PAGES_SHOWN = 3


def world_texts(world: Path) -> Iterator[str]:
    """Yield one text for each training task of the world in the folder `world`: a whole trajectory.

    The pages are those titled by the entity looked up, so that no index is needed, and the last result of a computation is
    the reference answer. Held-out names occur in none of the texts.
    """
    pages: dict[str, list[str]] = defaultdict(list)
    for line in (world / "train_corpus.jsonl").read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        pages[document["title"]].insert(0, document["text"])
    demonstrator = Demonstrator(0, DemonstratorConfig())
    for row in pq.read_table(world / "train.parquet").to_pylist():
        text = row["extra_info"]["question"]
        while "</answer>" not in text:
            completion = demonstrator.next_turn(text)
            text += completion
            if completion.endswith("</search>"):
                query = completion.rpartition("<search>")[2].removesuffix("</search>").strip()
                shown = pages[query.rpartition(" ")[0]][:_PAGES_SHOWN]
                text += " <result>\n" + "\n".join(f"Page {i}: {p}" for i, p in enumerate(shown, 1)) + "\n</result>"
            elif completion.endswith("</python>"):
                text += f" <result>\n{row['reward_model']['ground_truth']}\n</result>"
        yield text
