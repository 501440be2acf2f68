"""The fields of a benchmark in the table, and the forms of the rows of its files."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Row = Mapping[str, Any]
Domain = Literal["math", "knowledge", "deep_search"]
FieldType = Literal["text", "texts", "integer", "number", "flag"]
AnswerReading = Literal["whole", "after_hashes", "last_box"]

TYPE_NAMES: dict[FieldType, str] = {
    "text": "a text that is not blank",
    "texts": "a list of texts, one at least not blank",
    "integer": "an integer, or a text of digits",
    "number": "a text or a number",
    "flag": "true or false",
}
"""Type of a field -> the words of an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowForm:
    """The form of the rows of one kind of file.

    Field names are in lower case here and match any case; `info.level` is `level` in the struct `info`.
    """

    name: str
    """`reference`: the files of the papers' public code. `hub`: the original. `both` when they look alike."""
    fields: Mapping[str, FieldType]
    """Fields of every row; further fields are allowed."""
    question: str
    """The field with the question."""
    answer: str = "answer"
    """The field with the answer, or with the solution that holds it."""
    reading: AnswerReading = "whole"
    r"""The answer: the whole field, the text after `#### `, or the last `\boxed{...}`."""
    aliases: str | None = None
    """The field with further accepted answers, a list that may be empty."""
    group: str | None = None
    """The field with the row's group; None when this form has none."""
    group_pattern: str = "(.*)"
    """Regular expression whose first group is the group in that field."""
    decode: Callable[[Row], Row] | None = None
    """Decodes a row first; raises ValueError when it cannot."""
    screen: Callable[[Row], str] | None = None
    """Why a good row cannot be asked, e.g. its picture is missing; empty when it can. Such rows are skipped and reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A set of questions the papers evaluate on.

    Where `size` is smaller than `hub_size`, the papers evaluate on a sample, which their public code ships.
    """

    name: str
    """Its key in `BENCHMARKS`, in commands and in configurations."""
    title: str
    """Its name in the papers."""
    domain: Domain
    """The papers' grouping: mathematics, knowledge-intensive questions, deep search."""
    source: str
    """Data set on the Hugging Face hub, with its configuration where it has several."""
    split: str
    """The hub's split with public answers."""
    size: int | None
    """Questions in the papers' set; None when neither the papers nor their code say."""
    hub_size: int
    """Questions in the hub's split."""
    licence: str
    """Licence as the source states it; `not stated` where it states none."""
    protocol: str
    """The papers' agent: system prompt, then tools."""
    metric: Literal["accuracy", "f1"]
    """The headline: `f1`, or the share of right answers, pass@1."""
    grader: str
    """Name of the grader in `arpo.rewards`; it decides where no judge is configured."""
    grading: Literal["strict", "lenient"]
    """The grader's policy for a unit, a percent sign or a base that one of answer and reference lacks: docs/rewards.md."""
    has_judge: bool
    """Whether the papers let a model judge the answers (Qwen2.5-72B-Instruct, Correct or Incorrect)."""
    group_key: str | None
    """Field that splits results, where the file has it: `level`, `category`, ...; None for no groups."""
    forms: tuple[RowForm, ...]
    """Forms of its files; a file has the first form whose fields its first row has."""
    note: str = ""
    """Further notes for users."""


def unlock_xbench(row: Row) -> Row:
    """An xbench row with its question and answer in plain text.

    The publisher stores both as base64 of the text's UTF-8 bytes XORed with the row's `canary`, so that crawlers do not read
    them; its evaluation program undoes this in the same way.

    Raises:
        ValueError: a field is no such text.

    Example:
        unlock_xbench({"prompt": "CQA=", "answer": "Kw==", "canary": "ab"})  # h^a=09 i^b=0b; J^a=2b -> prompt "hb", answer "J"
    """
    canary = str(row["canary"]).encode()

    def unlock(name: str) -> str:
        try:
            locked = base64.b64decode(str(row[name]), validate=True)
            return bytes(byte ^ canary[i % len(canary)] for i, byte in enumerate(locked)).decode()
        except (ValueError, ZeroDivisionError):
            raise ValueError(
                f"{name} is not encrypted by canary as the original is; plain rows have `question` and `answer`, no canary"
            ) from None

    return {**row, "prompt": unlock("prompt"), "answer": unlock("answer")}


def needs_file(row: Row) -> str:
    """GAIA: rows with a file beside them are no text questions, and answers of the test split are private."""
    if row.get("file_name"):
        return f"needs the file {row['file_name']!r}; the papers' set is text only"
    return "its answer is not public (split test)" if row["final answer"].strip() == "?" else ""


def needs_image(row: Row) -> str:
    """HLE: rows with a picture are no text questions."""
    return "needs an image; the papers' set is text only" if row.get("image") or row.get("has_image") else ""


def is_unanswerable(row: Row) -> str:
    """MuSiQue-Full mixes in questions that its paragraphs do not answer."""
    return "" if row["answerable"] else "unanswerable by design (MuSiQue-Full); MuSiQue-Ans has answerable ones only"
