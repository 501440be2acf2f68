"""Reads the verdict in a judge's reply."""

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arpo.clients.openai import ChatReply

READING_VERSION = "2"
"""Of `read_verdict`; verdicts another version read are not used."""

_REASONING = r"(?:\w+:)?(?:think|thinking|thoughts?|reason|reasoning|analysis|reflection|scratchpad)"
_REASONING_END = re.compile(rf".*(?:[<\[◁]\s*/\s*{_REASONING}\s*[>\]▷]|<\|message\|>|<\|end_of_thought\|>)", re.I | re.DOTALL)
_MARKUP = re.compile(
    rf"<\|[^|<>]{{1,40}}\|>|</?(?!{_REASONING}\b|del\b|strike\b)[a-z][\w:-]{{0,30}}\s*/?>|\[/?(?:inst|eos|end)\]"
    r"|```\w*|\\(?:boxed|fbox|text\w*|math\w+|bold\w*|emph)\s*(?=\{)",
    re.I,
)
_NAMES = (
    "verdict|judge?ment|decision|conclusion|evaluation|assessment|result|answer|grade|correctness|label|rating|"
    "判断|判定|结论|結論|裁决|评判|评价|评估|结果|結果|答案|評価|판정|판단|결과|평가"
)
_VERDICT = re.compile(
    rf"[\W_]*(?:(?:the|my|final|overall)\s+)*(?:(?:{_NAMES})[\W_]*[:=\n—–-][\W_]*)?"
    r"(?<!!)(in)?correct(?:[\W_]+(?(1)in)correct)*[\W_]*",
    re.I,
)
_NAME = re.compile(rf"(?:{_NAMES})", re.I)
_SIGNS = str.maketrans(
    {**dict.fromkeys("✅✓✔☑👍", " Correct "), **dict.fromkeys("❌✗✘✖👎", " Incorrect "), **dict.fromkeys("´\ufe0f")}
)
_HARMLESS = "`$=<>|"
"""Symbols beside a verdict that say nothing; others, such as `~`, `¬` and `≠`, may turn it round."""
_SHOWN_CHARS = 100


@dataclass(slots=True, frozen=True, kw_only=True)
class Verdict:
    """What the judge says of an answer."""

    is_correct: bool | None
    """None: ungraded."""
    reason: str = ""
    """Why there is no verdict, in one line; empty when there is one."""


def read_verdict(reply: ChatReply) -> Verdict:
    """The verdict of a reply: Correct or Incorrect and nothing else that says anything.

    Reasoning before it (up to the last closing mark, whether an opening one is there or not), end tokens, tags, emphasis,
    quotes, brackets, a box, punctuation of any script, invisible characters and a name such as `Verdict:` are no part of it; a
    JSON object is read by the keys that are such names. No verdict: a sentence that holds the word, both words, a question, a
    negation, a reply that `max_tokens` cut.
    """
    if reply.is_truncated:
        return Verdict(is_correct=None, reason="the judge's reply was cut by max_tokens; raise reward.judge.max_tokens")
    said = without_reasoning(reply.text)
    found = _read_json(said)
    verdict = found.pop() if len(found) == 1 else None if found else _read(said)
    if verdict is None:
        shown = " ".join(said.split())[:_SHOWN_CHARS]
        return Verdict(is_correct=None, reason=f"the judge said neither Correct nor Incorrect: {shown!r}")
    return Verdict(is_correct=verdict)


def without_reasoning(text: str) -> str:
    """The text after the last mark that closes reasoning, without format characters."""
    plain = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return _REASONING_END.sub("", plain, count=1)


def _read(said: str) -> bool | None:
    plain = _MARKUP.sub(" ", unicodedata.normalize("NFKC", said.translate(_SIGNS)))
    found = _VERDICT.fullmatch(plain)
    return found[1] is None if found is not None and all(map(_says_nothing_else, plain)) else None


def _says_nothing_else(char: str) -> bool:
    category = unicodedata.category(char)
    is_question = category == "Po" and "QUESTION" in unicodedata.name(char, "")
    return (category[0] in "LPZC" or char in _HARMLESS) and not is_question


def _read_json(said: str) -> set[bool | None]:
    """What the keys of a JSON object say that are names of a verdict; empty: it is no object, or has none."""
    try:
        pairs = json.loads(_MARKUP.sub(" ", said), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return set()
    return set(_verdicts(pairs)) if isinstance(pairs, _Pairs) else set()


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of a JSON object, repeated ones included."""


def _verdicts(pairs: _Pairs) -> Iterator[bool | None]:
    for key, value in pairs:
        if isinstance(value, _Pairs):
            yield from _verdicts(value)
        elif key.casefold() in ("correct", "is_correct"):
            yield value if isinstance(value, bool) else None
        elif _NAME.search(key):
            yield _read(str(value))
