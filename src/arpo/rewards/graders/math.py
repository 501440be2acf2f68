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

    Spelling and exact values of numbers, tuples, sets and intervals decide where possible, else math-verify with guards, within
    2 seconds of computing; see `rewards.formulas`. A unit set as text counts only where both have one:
    `5\text{ cm}` and `5` are equal, `5\text{ cm}` and `5\text{ m}` are not. An irrational number may be given as a decimal with
    six right decimals; a rational one is exact.

    The component `gave_up` is 1 where the limits ended a comparison without verdict; the score is then 0.

    Example:
        grade_math(r"\dfrac{1}{2}", ["0.5"]).score  # -> 1.0
        grade_math("-5", ["5"]).score  # -> 0.0
    """
    comparison, gave_up = Comparison("different", "no reference"), False
    for reference in references:
        comparison = _compare(answer, reference)
        if comparison.is_equal:
            return Grade(score=1.0, components={"gave_up": 0.0}, reason=comparison.reason)
        gave_up = gave_up or comparison.verdict == "gave_up"
    return Grade(score=0.0, components={"gave_up": float(gave_up)}, reason=comparison.reason)


def _compare(answer: str, reference: str) -> Comparison:
    (answer, unit), (reference, reference_unit) = _split_unit(answer), _split_unit(reference)
    if unit and reference_unit and unit != reference_unit:
        return Comparison("different", "unit differs")
    if not (_is_prose(answer) or _is_prose(reference)):
        return compare_formulas(answer, reference)
    normal = normalize(answer)
    is_equal = normal != "" and normal == normalize(reference)
    return Comparison("equal" if is_equal else "different", "same words" if is_equal else "words differ")


def _split_unit(text: str) -> tuple[str, str]:
    """A formula without its final unit, set as text or a known word, and the unit; empty without one."""
    text = text.strip().removesuffix(".").strip().strip("*")
    text = text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" else text
    if degrees := _DEGREES.search(text):
        return text[: degrees.start()], "degree"
    match = _UNIT.fullmatch(text) or _UNIT_WORD.fullmatch(text)
    if match is None:
        return text, ""
    unit = match[2].lower().strip(" .")
    unit = unit if unit in UNITS else unit.removesuffix("s")
    is_unit = unit in UNITS or ("\\" in text and _is_prose(unit))
    return (match[1], unit + re.sub("[{}]", "", match[3] or "")) if is_unit else (text, "")


def _is_prose(text: str) -> bool:
    """Whether a text is words, a date or a range of years, which spelling compares and not algebra."""
    text = plain(text)
    if is_date(text):
        return True
    text = _COMMAND.sub(" ", text)
    words = re.findall(r"[^\W\d_]+", text)
    is_only_words = re.fullmatch(r"[^\W\d_]{2,}(?:[\s'’.,-]+[^\W\d_]+)*[.,]?", text.strip()) is not None
    return is_only_words or any(len(word) > 3 or (len(word) > 1 and word.lower() in ARTICLES) for word in words)
