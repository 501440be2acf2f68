"""How varied the texts of a world are."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from arpo.errors import DataError
from arpo.world.config import WorldConfig
from arpo.world.demonstration_texts import read_demonstrations
from arpo.world.styles import STYLES

_TURN = re.compile(r"<think> (.*?)</think><(\w+)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variety:
    """Counts over a world's documents and its training tasks as the demonstrator answers them by default.

    A beginning is the first three words of a text.
    """

    num_wordings: int
    """Wordings of the kind of question that has the fewest."""
    min_page_words: int
    mean_page_words: float
    max_page_words: int
    num_questions: int
    num_question_beginnings: int
    num_thoughts: int
    num_thought_beginnings: int
    num_first_thought_beginnings: int
    """Of the thoughts that follow a question."""
    num_different_thoughts: int


def demonstrate(world: Path) -> Iterator[list[str]]:
    """Yield, for every training task, its question, then completions and results; the pages that share most words come first.

    It stands in for `arpo demos`, which needs an index and a model's tokenizer.
    """
    return read_demonstrations(world, lambda query, page: len(_words(query) & _words(page)))


def measure_variety(world: Path) -> Variety:
    """The variety of the world in the folder `world`.

    Raises:
        DataError: the folder holds no world.
    """
    description = world / "world.json"
    if not description.is_file():
        raise DataError(f"{world}: holds no world; make one with `arpo world make --out {world}`")
    config = WorldConfig.model_validate(json.loads(description.read_text(encoding="utf-8"))["config"])
    lines = (world / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    lengths = [len(json.loads(line)["text"].split()) for line in lines]
    demonstrations = list(demonstrate(world))
    thoughts = [_thoughts(texts) for texts in demonstrations]
    everything = [thought for of_task in thoughts for thought in of_task]
    return Variety(
        num_wordings=min(map(len, STYLES[config.style].questions.values())),
        min_page_words=min(lengths),
        mean_page_words=fmean(lengths),
        max_page_words=max(lengths),
        num_questions=len(demonstrations),
        num_question_beginnings=_count_beginnings(texts[0] for texts in demonstrations),
        num_thoughts=len(everything),
        num_thought_beginnings=_count_beginnings(everything),
        num_first_thought_beginnings=_count_beginnings(of_task[0] for of_task in thoughts),
        num_different_thoughts=len(set(everything)),
    )


def _thoughts(texts: Iterable[str]) -> list[str]:
    return [turn[1] for text in texts if (turn := _TURN.match(text))]


def _count_beginnings(texts: Iterable[str]) -> int:
    return len({tuple(text.split()[:3]) for text in texts})


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
