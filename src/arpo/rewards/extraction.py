r"""Finds the answer of a trajectory: the box in its answer block, or the named fallbacks."""

import re
from dataclasses import dataclass

from arpo.rewards.answer_text import extract_boxed
from arpo.rewards.grading import Extraction
from arpo.tree import Trajectory

_ANSWER_BLOCK = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_PHRASE = re.compile(r"\banswer\s*(?:is|:|=)\s*(?::\s*)?(?=\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_NUMBER = re.compile(r"(?<![\w.,])[-+−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+(?:\.\d+)?)?\s*%?", re.ASCII)
_TAG = re.compile(r"</?(?:think|answer|search|python|result)>")


@dataclass(slots=True, frozen=True)
class Answer:
    """An answer and how it was found."""

    text: str
    """Empty without an answer."""
    extraction: Extraction


def read_answer(trajectory: Trajectory, *, prefers_number: bool = False) -> Answer:
    """The answer of a finished trajectory, from its last answer block or, without one, from all its completions.

    Tool results are never read.

    Args:
        trajectory: The path.
        prefers_number: Whether the answer of a text without box and phrase is its last number, not its last line.
    """
    blocks = [n.parse.answer for n in trajectory.completions if n.parse is not None and n.parse.answer is not None]
    if blocks:
        return _from_block(blocks[-1])
    return _from_text("\n".join(n.text for n in trajectory.completions), prefers_number)


def extract_answer(text: str, *, prefers_number: bool = False) -> Answer:
    r"""The answer in a text, by the first rule that finds one; see `grading.Extraction` for the rules.

    Example:
        extract_answer(r"<answer> so \boxed{4} </answer>") == Answer("4", "boxed")
        extract_answer("so the answer is 4.") == Answer("4", "answer_phrase")
    """
    blocks = _ANSWER_BLOCK.findall(text)
    return _from_block(blocks[-1]) if blocks else _from_text(text, prefers_number)


def _from_block(block: str) -> Answer:
    boxed = extract_boxed(block)
    return Answer(block.strip(), "answer_tag") if boxed is None else Answer(boxed, "boxed")


def _from_text(text: str, prefers_number: bool) -> Answer:
    boxed = extract_boxed(text)
    if boxed is not None:
        return Answer(boxed, "last_box_anywhere")
    text = _TAG.sub("\n", text)
    if phrases := list(_PHRASE.finditer(text)):
        line = text[phrases[-1].end() :].split("\n", 1)[0]
        return Answer(_SENTENCE_END.split(line)[0].strip(" *:"), "answer_phrase")
    if prefers_number and (numbers := _NUMBER.findall(text)):
        return Answer(numbers[-1].strip(), "last_number")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Answer(lines[-1], "last_line") if lines else Answer("", "none")
