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
from arpo.world.facts import make_world_facts
from arpo.world.styles import STYLES

_THOUGHT = re.compile(r"<think> (.*?)</think>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variety:
    """Counts over a world's documents and its training tasks as the demonstrator answers them by default.

    Texts that differ in names and numbers alone count once. A beginning is the first three words of a text.
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
    style = STYLES[config.style]
    facts = make_world_facts(config, style)
    names = {word for name in (*facts.entities, *facts.regions) for word in name.split()}
    lines = (world / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    lengths = [len(json.loads(line)["text"].split()) for line in lines]
    questions, thoughts = list[str](), list[list[str]]()
    for question, *texts in demonstrate(world):
        questions.append(_without(names, question))
        thoughts.append([_without(names, found[1]) for text in texts if (found := _THOUGHT.match(text))])
    every_thought = [thought for of_task in thoughts for thought in of_task]
    return Variety(
        num_wordings=min(map(len, style.questions.values())),
        min_page_words=min(lengths),
        mean_page_words=fmean(lengths),
        max_page_words=max(lengths),
        num_questions=len(questions),
        num_question_beginnings=_count_beginnings(questions),
        num_thoughts=len(every_thought),
        num_thought_beginnings=_count_beginnings(every_thought),
        num_first_thought_beginnings=_count_beginnings(of_task[0] for of_task in thoughts),
        num_different_thoughts=len(set(every_thought)),
    )


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _without(names: set[str], text: str) -> str:
    """The text with a star for every name and number."""
    starred = re.sub(r"\w+", lambda word: "*" if word[0] in names or word[0].isdigit() else word[0], text)
    return starred.replace("* *", "*")


def _count_beginnings(texts: Iterable[str]) -> int:
    return len({tuple(text.split()[:3]) for text in texts})
