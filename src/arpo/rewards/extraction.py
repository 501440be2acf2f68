r"""Finds the answer of a trajectory: the box in its answer block, or the named fallbacks."""

import re
from dataclasses import dataclass

from arpo.rewards.answer_text import boxed_answer
from arpo.rewards.grading import Extraction
from arpo.tree import Trajectory

_ANSWER_BLOCK = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_SET = r"[\s*_#]*"
"""Markdown around a phrase."""
_PHRASE = re.compile(
    rf"(?:\b(?:final\s+)?answers?{_SET}(?:\bis\b|\bare\b|:|=)|(?:^|\n)[\s*_#]*final\s+answer\b|(?:^|\n)\s*\#{{1,6}}\s*answer\b|(?:^|\n)\s*\#{{4}}(?=\s)"
    rf"|\brespuesta(?:\s+final)?{_SET}(?:\bes\b|:)|\bréponse(?:\s+finale)?{_SET}(?:\best\b|:)|\b(?:antwort|lösung){_SET}(?:\bist\b|\blautet\b|:)"
    rf"|\bresposta(?:\s+final)?{_SET}(?:\bé\b|:)|\brisposta(?:\s+finale)?{_SET}(?:\bè\b|:)|\bответ{_SET}(?:[-—:]|\bравен\b)?"
    rf"|答案{_SET}(?:是|为|為|:|：)|答{_SET}[:：]|答え{_SET}(?:は|:|：)|정답{_SET}(?:은|:|：)|답{_SET}(?:은|:|：)){_SET}[:：]?{_SET}(?=\S)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|[*_`]+(?:\s|$))|[。！？]")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Gov|Sen|Rep|Mt|Ft|No|Nos|vs|approx|ca|al|Inc|Ltd|Co|Corp|Bros)"
    r"|\b[A-Z](?:\.[A-Z])*|\be\.g|\bi\.e)$"
)
_NEW_SENTENCE = re.compile(
    r"\s+(?:Because|It|The|This|That|These|So|Therefore|Since|Note|We|I|Thus|Hence|All|Here|Or|And|But|As|If|In|For|You|They|He|She)\b"
)
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
    boxed = boxed_answer(block)
    return Answer(block.strip(), "answer_tag") if boxed is None else Answer(boxed, "boxed")


def _from_text(text: str, prefers_number: bool) -> Answer:
    boxed = boxed_answer(text)
    if boxed is not None:
        return Answer(boxed, "last_box_anywhere")
    text = _TAG.sub("\n", text)
    if phrases := list(_PHRASE.finditer(text)):
        return Answer(_first_sentence(text[phrases[-1].end() :]), "answer_phrase")
    if prefers_number and (numbers := _NUMBER.findall(text)):
        return Answer(numbers[-1].strip(), "last_number")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Answer(lines[-1], "last_line") if lines else Answer("", "none")


def _first_sentence(text: str) -> str:
    """The text up to the end of its first sentence or line; the stop of `Mr. Smith` ends none."""
    line = text.split("\n", 1)[0]
    for end in _SENTENCE_END.finditer(line):
        before, after = line[: end.start()], line[end.end() :]
        is_name = end[0] == "." and _ABBREVIATION.search(before) is not None and re.match(r"\s+[A-Z0-9]", after) is not None
        if not (is_name and _NEW_SENTENCE.match(after) is None):
            line = before
            break
    return line.strip(" *_:`")
