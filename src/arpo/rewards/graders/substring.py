"""Substring: the answer contains a reference, the papers' "accuracy"."""

from collections.abc import Sequence

from arpo.rewards.answer_text import normalize
from arpo.rewards.grading import Grade


def grade_substring(answer: str, references: Sequence[str]) -> Grade:
    """1 when the words of a reference occur in the answer, whole and in sequence, in normal form; else 0.

    The reverse, an answer that is part of a reference, is the component `answer_in_reference` and scores 0: "of" is part
    of every title. An answer that lists every candidate gets 1, so this is for reports beside other metrics, not for training.
    The reference's code compares characters instead of words: with it "12" contains "1", and anything the empty text.

    Example:
        grade_substring("It is in the town of Kelford.", ["Kelford"]).score  # -> 1.0
        grade_substring("12", ["1"]).score  # -> 0.0
    """
    words = normalize(answer)
    contained = next((r for r in references if _contains(words, normalize(r))), None)
    is_part = any(_contains(normalize(r), words) for r in references)
    return Grade(
        score=float(contained is not None),
        components={"answer_in_reference": float(is_part)},
        reason=f"contains {contained!r}"
        if contained is not None
        else "part of a reference"
        if is_part
        else "contains no reference",
    )


def _contains(words: str, part: str) -> bool:
    return part != "" and f" {part} " in f" {words} "
