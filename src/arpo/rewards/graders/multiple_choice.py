"""Multiple choice: the letter of an option, or its text."""

import re
from collections.abc import Sequence

from arpo.rewards.answer_text import normalize, plain
from arpo.rewards.grading import Grade

_WORD = r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)s?\s*(?:is|are|:)?\s*)?"
_LETTER = r"[\(\[]?\s*([A-Za-z])\s*[\)\]]?"
_LETTERS = re.compile(rf"{_WORD}({_LETTER}(?:\s*(?:,|;|&|and)\s*{_LETTER})*)\s*[.:]?", re.IGNORECASE)
_LETTER_AND_TEXT = re.compile(r"(?:option|choice)?\s*[\(\[]?([A-Za-z])\s*[\)\].:]+\s*(\S.*)", re.IGNORECASE | re.DOTALL)


def grade_multiple_choice(answer: str, references: Sequence[str]) -> Grade:
    """1 when the answer has the letters of a reference, or the text of its option; else 0.

    Letters are read in `B`, `(b)`, `B.`, `option B`, `B. Paris`, and `A and C`, in any order; where an answer gives a letter
    and a text, the letter decides. Other answers are compared as words.

    Example:
        grade_multiple_choice("(B) Paris", ["B"]).score  # -> 1.0
        grade_multiple_choice("A dog", ["A"]).score  # -> 0.0: an article is no option
    """
    given, text = read_choice(answer)
    for reference in references:
        letters, option = read_choice(reference)
        if given and letters:
            if given == letters:
                return Grade(score=1.0, reason=f"chose {', '.join(sorted(given))}")
        elif normalize(text) and normalize(text) == normalize(option):
            return Grade(score=1.0, reason=f"gave the option's text {option!r}")
    return Grade(score=0.0, reason=f"chose {', '.join(sorted(given))}" if given else "no option's letter or text")


def read_choice(text: str) -> tuple[frozenset[str], str]:
    """The letters of the options in a text, in capitals, and the text beside them; no letters where it names none.

    Example:
        read_choice("(b) Paris") == (frozenset("B"), "Paris"); read_choice("Paris") == (frozenset(), "Paris")
    """
    text = plain(text).strip().strip("*").strip()
    if len(text) <= _MAX_LENGTH and (match := _LETTERS.fullmatch(text)):
        return frozenset(c.upper() for c in re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", match[1])), ""
    if match := _LETTER_AND_TEXT.fullmatch(text):
        return frozenset(match[1].upper()), match[2].strip()
    return frozenset(), text


_MAX_LENGTH = 100
