"""Multiple choice: the letter of an option, or its text."""

import re
from collections.abc import Sequence

from arpo.rewards.answer_text import normalize
from arpo.rewards.grading import Grade
from arpo.rewards.mathematics.tokens import clean

_LETTER = r"[(\[]?\s*(?<![A-Za-z'])([A-Za-z])(?![A-Za-z'])\s*[)\]]?"
_JOIN = r"\s*(?:,|;|&|/|\+|、|\band\b|\bor\b|和|与|及|或|\s)\s*(?:and\b|or\b)?\s*"
_LIST = rf"{_LETTER}(?:{_JOIN}{_LETTER})*"
_SAYS = (
    r"(?:the\s+)?(?:correct\s+|right\s+|final\s+|best\s+)?(?:options?|choices?|answers?)\s*(?:is|are|:|would be|must be)?\s*:?",
    r"(?:正确|正確)?(?:答案|选项|選項)(?:是|为|為|选|選)?\s*:?",
    r"(?:应|應|故|所以)?[选選](?:择|擇|项|項)?\s*:?",
    r"答え(?:は)?\s*:?",
    r"정답(?:은)?\s*:?",
    r"ответ\s*:?",
    r"respuesta(?:\s+es)?\s*:?",
    r"réponse(?:\s+est)?\s*:?",
    r"antwort(?:\s+ist)?\s*:?",
    r"resposta(?:\s+é)?\s*:?",
)
_SAYS_FIRMLY = (
    r"\banswers?\s+(?:is|are)\s*:?",
    r"\banswer\s*:",
    r"\b(?:choose|pick|select|go with)\b",
    r"\b(?:correct|right|best|final)\s+(?:option|choice)\s*(?:is|:)\s*:?",
    r"\b(?:so|hence|thus|therefore|but)\b\s*,?\s*(?:it\s+(?:is|must\s+be)\b)?",
    *_SAYS[1:],
)
_OPTION = r"\s*(?:\b(?:option|choice)s?\s*)?"
_ENDS = r"(?=\s*(?:[.,;:!?)。，；]|$|\b(?:because|since|as|so|for)\b))"
_ONLY_LETTERS = re.compile(rf"(?:(?:{'|'.join(_SAYS)}){_OPTION})?({_LIST})\s*(?:选项|项)?\s*[.:!。]?", re.IGNORECASE)
_RUN = re.compile(r"[A-J]{2,6}")
_ANSWER_IS = re.compile(rf"(?:{'|'.join(_SAYS_FIRMLY)}){_OPTION}({_LIST}){_ENDS}", re.IGNORECASE)
_IS_RIGHT = re.compile(
    r"(?<![A-Za-z'])[(\[]?([A-J])[)\]]?\s+(?:is|must be)\s+(?:the\s+)?(?:only\s+)?(?:correct|right|true|best)\b"
    r"(?!\s+(?:if|only|when)\b)"
)
_LABEL = re.compile(
    r"(?:(?:option|choice)\s*)?(?:[(\[]\s*([A-Za-z])\s*[)\]]\s*[.:、-]?|([A-Za-z])\s*(?:[).:、]+|\s-+(?=\s)|-(?=\s)))\s*(\S.*)",
    re.IGNORECASE | re.DOTALL,
)
_INITIAL = re.compile(r"[I-Z]\.\s*(?:[A-Z]\.\s*)*[A-Z][a-z]+(?:[ -][A-Z][a-z]+)*")
"""A person's name: `J. Smith`; letters before I are options oftener than initials."""
_MENTION = re.compile(
    r"[(\[]\s*([A-Za-z])\s*[)\]]|(?:\b(?:option|choice)s?\s+)([A-J])\b"
    r"|(?:^|[,;:.。，；]\s*)([A-J])(?=\s*(?:[,;.!?。，；]|$))"
)
_REJECTED = re.compile(
    r"(?:\b(?:not|neither|nor|rather than|instead of|eliminat\w+|rul\w+ out|exclud\w+)\s+(?:option\s+)?"
    r"|不是|排除|不选)[(\[]?([A-J])\b[)\]]?"
    r"|[(\[]?\b([A-J])\b[)\]]?\s*(?::|(?:is|are|was|must be|seems)\s+(?:also\s+|clearly\s+)?)?\s*"
    r"(?:wrong|incorrect|false|not\b|no\b|excluded|eliminated|impossible|错|不对|不正确)"
)
_CONFIRMED = re.compile(
    rf"(?:\b(?:both|only)\s+)(?P<only>{_LIST})\.?|(?P<right>{_LIST})\s+(?:is|are)\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answer|option|choice)s?)?\.?",
    re.IGNORECASE,
)
_CIRCLED = {ord("Ⓐ") + i: chr(ord("A") + i) for i in range(26)}
_MAX_LENGTH = 500


def grade_multiple_choice(answer: str, references: Sequence[str]) -> Grade:
    """1 when the answer commits to the letters of a reference, or gives the text of its option; else 0.

    Letters are read in `B`, `(b)`, `B.`, `option B`, `B. Paris`, `答案是B`, `A and C` and `AC`, in any order; a letter that is
    said to be wrong does not count, and naming several pays only where the reference has several. Where an answer gives a
    letter and a text, the letter decides. Other answers are compared as words.

    Example:
        grade_multiple_choice("(B) Paris", ["B"]).score  # -> 1.0
        grade_multiple_choice("A dog", ["A"]).score  # -> 0.0: an article is no option
    """
    given, text = read_choice(answer)
    for reference in references:
        letters, wanted = read_choice(reference)
        if given and letters:
            if given == letters:
                return Grade(score=1.0, reason=f"chose {', '.join(sorted(given))}")
        elif len(given) < 2 and normalize(text) and normalize(text) == normalize(wanted):
            return Grade(score=1.0, reason=f"gave the option's text {wanted!r}")
    return Grade(score=0.0, reason=f"chose {', '.join(sorted(given))}" if given else "no option's letter or text")


def read_choice(text: str) -> tuple[frozenset[str], str]:
    """The letters of the options a text commits to, in capitals, and the text beside them; no letters where it names none.

    Example:
        read_choice("(b) Paris") == (frozenset("B"), "Paris"); read_choice("Paris") == (frozenset(), "Paris")
    """
    text = re.sub(r"\*\*|__|`", "", _plain(text)).strip()
    if len(text) > _MAX_LENGTH:
        return frozenset(), text
    if _RUN.fullmatch(text) and sorted(set(text)) == list(text):
        return frozenset(text), ""
    if found := _ONLY_LETTERS.fullmatch(text):
        return _letters(found[1]), ""
    if found := _CONFIRMED.fullmatch(text):
        return _letters(found["only"] or found["right"]), text
    if found := list(_ANSWER_IS.finditer(text)):
        return _letters(found[-1][1]), text
    if right := set(_IS_RIGHT.findall(text)):
        return frozenset(right), text
    if _INITIAL.fullmatch(text):
        return frozenset(), text
    rejected = {c.upper() for pair in _REJECTED.findall(text) for c in pair if c}
    if found := _LABEL.fullmatch(text):
        label = (found[1] or found[2]).upper()
        if found[1] or found[2].isupper() or text[len(found[2])] == ")":
            named = ({label} | _mentions(found[3])) - rejected
            return frozenset(named or {label}), found[3].strip() if len(named) < 2 else text
    named = _mentions(text) - rejected
    return (frozenset(named), text) if named else (frozenset(), text)


_BRACKETS = str.maketrans("【】「」〔〕", "[][][]")


def _plain(text: str) -> str:
    text = text.translate(_BRACKETS)
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox|boxed)\s*\{([^{}]*)\}", r"\1", clean(text.translate(_CIRCLED)))
    return clean(re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox|boxed)\s*\{([^{}]*)\}", r"\1", text))


def _letters(text: str) -> frozenset[str]:
    return frozenset(c.upper() for c in re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", text))


def _mentions(text: str) -> set[str]:
    return {c.upper() for groups in _MENTION.findall(text) for c in groups if c}
