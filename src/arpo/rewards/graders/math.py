"""Mathematics: the answer equals a reference as a formula."""

import re
from collections.abc import Sequence

from arpo.rewards.answer_text import ARTICLES, is_date, normalize, plain
from arpo.rewards.formulas import Comparison, compare_formulas
from arpo.rewards.grading import Grade
from arpo.rewards.quantities import UNITS

_UNIT = re.compile(r"(.*\S)\s*\\(?:text|mathrm|mbox|textrm)\s*\{([^{}]*)\}(\^\{?[23]\}?)?", re.DOTALL)
_UNIT_WORD = re.compile(r"(.*\d)\s+([a-zA-Z/]+)(\^\{?[23]\}?)?", re.DOTALL)
_DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree|°)$")
_COMMAND = re.compile(
    r"\\[a-zA-Z]+|(?<![a-zA-Z])(?:sqrt|sin|cos|tan|log|exp|arcsin|arccos|arctan|gcd|max|min|mod|inf)(?![a-zA-Z])"
)


def grade_math(answer: str, references: Sequence[str]) -> Grade:
    r"""1 when the answer and a reference are equal as formulas, else 0; words are compared as words.

    By sight where possible (spelling, exact values of numbers, tuples, sets and intervals of numbers), else by math-verify with
    guards, within 2 seconds of computing; see `rewards.formulas`. A unit set as text counts only where both name one:
    `5\text{ cm}` and `5` are equal, `5\text{ cm}` and `5\text{ m}` are not. An irrational number may be given as a decimal with
    six right decimals; a rational one is exact.

    The component `gave_up` is 1 where no verdict was reached within the limits; the score is then 0.

    Example:
        grade_math(r"\dfrac{1}{2}", ["0.5"]).score  # -> 1.0
        grade_math("-5", ["5"]).score  # -> 0.0
    """
    found = Comparison("different", "no reference")
    gave_up = False
    for reference in references:
        found = _compare(answer, reference)
        if found.is_equal:
            break
        gave_up = gave_up or found.verdict == "gave_up"
    return Grade(
        score=float(found.is_equal),
        components={"gave_up": float(gave_up and not found.is_equal)},
        reason=found.reason,
    )


def _compare(answer: str, reference: str) -> Comparison:
    (answer, unit), (reference, wanted) = _split_unit(answer), _split_unit(reference)
    if unit and wanted and unit != wanted:
        return Comparison("different", "unit differs")
    if not (_is_prose(answer) or _is_prose(reference)):
        return compare_formulas(answer, reference)
    normal = normalize(answer)
    is_equal = normal != "" and normal == normalize(reference)
    return Comparison("equal" if is_equal else "different", "same words" if is_equal else "words differ")


def _split_unit(text: str) -> tuple[str, str]:
    """A formula without the unit behind it, set as text or a known word, and the unit; empty where there is none."""
    text = text.strip().removesuffix(".").strip().strip("*")
    text = text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" else text
    if found := _DEGREES.search(text):
        return text[: found.start()], "degree"
    found = _UNIT.fullmatch(text) or _UNIT_WORD.fullmatch(text)
    if found is None:
        return text, ""
    unit = found[2].lower().strip(" .")
    unit = unit if unit in UNITS else unit.removesuffix("s")
    is_unit = unit in UNITS or ("\\" in text and _is_prose(unit))
    return (found[1], unit + re.sub("[{}]", "", found[3] or "")) if is_unit else (text, "")


def _is_prose(text: str) -> bool:
    """Whether a text is words, a date or a range of years, so that spelling and not algebra decides about it."""
    text = plain(text)
    if is_date(text):
        return True
    text = _COMMAND.sub(" ", text)
    words = re.findall(r"[^\W\d_]+", text)
    is_only_words = re.fullmatch(r"[^\W\d_]{2,}(?:[\s'’.,-]+[^\W\d_]+)*[.,]?", text.strip()) is not None
    return is_only_words or any(len(word) > 3 or (len(word) > 1 and word.lower() in ARTICLES) for word in words)
