r"""The metrics of the reference's evaluation, fault for fault, so that its numbers can be compared with ours.

| grader | what it is |
|---|---|
| `released_em` | equal after lower case, articles and blanks; punctuation stays, so that `Paris.` is not `Paris` |
| `released_acc` | the reference's characters occur in the answer: `12` contains `1`, anything contains the empty reference |
| `released_f1` | token F1 in that normal form |
| `released_math_equal` | equal spelling after the rewriting of the MATH benchmark's `is_equiv`; `1/4` is not `0.25` |

A single reference that begins with `[` is first split at its commas, even an interval. These are the metrics of question
answering; for mathematics the reference code keeps articles and splits nothing, as `released_math_equal` does. docs/rewards.md
lists their errors.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from arpo.rewards.grading import Grade
from arpo.rewards.matching import word_f1

_REWRITES = (
    ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
    ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""),
)  # fmt: skip


def grade_released_em(answer: str, references: Sequence[str]) -> Grade:
    """1 when the normal forms are equal, else 0."""
    return _best(lambda a, r: float(a == r), answer, references)


def grade_released_acc(answer: str, references: Sequence[str]) -> Grade:
    """1 when the reference's normal form is part of the answer's, else 0."""
    return _best(lambda a, r: float(r in a), answer, references)


def grade_released_f1(answer: str, references: Sequence[str]) -> Grade:
    """Token F1 of the normal forms; `released_em` decides whether the answer is right."""
    grade = _best(partial(word_f1, as_released=True), answer, references)
    return replace(grade, is_exact=grade_released_em(answer, references).is_correct)


def grade_released_math_equal(answer: str, references: Sequence[str]) -> Grade:
    """1 when `is_equiv` takes the answer for a reference, else 0."""
    score = max((float(is_equiv(_normalize(answer, False), _normalize(r, False))) for r in references), default=0.0)
    return Grade(score=score, reason="as the reference's is_equiv")


def is_equiv(answer: str, reference: str) -> bool:
    """Whether both are spelled the same after rewriting; where that fails on one, whether they are the same text."""
    try:
        return _rewrite(answer) == _rewrite(reference)
    except (IndexError, ValueError):
        return answer == reference


def _best(metric: Callable[[str, str], float], answer: str, references: Sequence[str]) -> Grade:
    if len(references) == 1 and references[0].startswith("["):
        references = [part.strip() for part in re.split(r",\s*", references[0].strip("[]"))]
    answer = _normalize(answer, True)
    score = max((metric(answer, _normalize(r, True)) for r in references), default=0.0)
    return Grade(score=score, reason="as the reference's evaluation")


def _normalize(text: str, drops_articles: bool) -> str:
    text = text.lower().strip()
    return " ".join((re.sub(r"\b(a|an|the)\b", " ", text) if drops_articles else text).split())


def _rewrite(text: str) -> str:
    for old, new in _REWRITES:
        text = text.replace(old, new)
    if "\\text{ " in text:  # a unit
        text, _ = text.split("\\text{ ")
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    text = "0" + text if text.startswith(".") else text
    sides = text.split("=")
    text = sides[1] if len(sides) == 2 and len(sides[0]) <= 2 else text
    text = _brace_roots(text).replace(" ", "")
    text = _brace_fractions(text)
    text = "\\frac{1}{2}" if text == "0.5" else text
    quotient = re.fullmatch(r"(0|-?[1-9]\d*)/(0|-?[1-9]\d*)", text, re.ASCII)
    return f"\\frac{{{quotient[1]}}}{{{quotient[2]}}}" if quotient else text


def _brace_roots(text: str) -> str:
    first, *rest = text.split("\\sqrt")
    return first + "".join("\\sqrt" + (part if part[0] == "{" else f"{{{part[0]}}}{part[1:]}") for part in rest)


def _brace_fractions(text: str) -> str:
    braced, *rest = text.split("\\frac")
    for part in rest:
        if part[0] == "{":
            braced += "\\frac" + part
        elif len(part) < 2:
            return text
        else:
            denominator = part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}"
            braced += f"\\frac{{{part[0]}}}{denominator}"
    return braced
