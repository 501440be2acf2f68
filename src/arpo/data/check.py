"""What is in files of tasks or conversations, and what is wrong with it, row by row."""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from arpo.data.conversations import Conversation, holds_conversations, scan_conversations
from arpo.data.overlap import OverlapIndex, normalise
from arpo.data.tasks import scan_tasks
from arpo.files.rows import shorten
from arpo.files.sources import BadRow, Source, open_source
from arpo.types import Message, Task

FINDINGS = {
    "bad_row": "cannot be used and is left out",
    "repaired_box": "\\boxed damaged to a backspace and oxed; repaired on reading",
    "control_character": "a control character in prompt or reference: an escape such as \\f or \\b was lost",
    "replacement_character": "U+FFFD in prompt or reference: text was read in a wrong encoding",
    "unanswerable": "every reference says that there is no answer, or nothing is left of it in normal form",
    "duplicate": "the prompt of an earlier row, character for character",
    "near_duplicate": "the question of an earlier row in normal form, other punctuation, case or blanks",
    "contradiction": "the question of an earlier row with other references",
    "overlap": "a question of an evaluation set in normal form",
    "near_overlap": "most of a question of an evaluation set",
}
"""Kind of a finding -> what it means."""
_NO_ANSWERS = frozenset({
    "", "a", "an", "the", "n / a", "na", "none", "null", "nan", "nil", "unknown", "unanswerable", "no answer", "noanswer",
    "not available", "not given", "not enough information", "cannot be determined", "i don t know",
})  # fmt: skip
"""References in normal form that are none; where answers are compared, nothing is left of an article alone."""
Kind = Literal["tasks", "conversations"]
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(slots=True, frozen=True)
class Finding:
    """Something about one row."""

    kind: str
    """A key of `FINDINGS`."""
    path: Path
    row: int
    """Counted from 1; in a JSONL file the line."""
    detail: str
    """What exactly; never the question."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Lengths:
    """How long prompts, or whole conversations, are."""

    unit: Literal["tokens", "characters"]
    mean: float
    quantiles: Mapping[str, int]
    """`min`, `median`, `p95`, `p99` and `max`; the nearest rank, so each is the length of some row."""
    bins: Sequence[tuple[int, int]]
    """(first length, rows): rows from this length to below that of the next bin."""


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """What one source holds."""

    path: Path
    kind: Kind
    num_rows: int = 0
    num_usable: int = 0
    schema: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Key, dotted below objects -> the types of its values in usable rows."""
    groups: dict[str, int] = field(default_factory=dict[str, int])
    """`source / ability` of tasks, turns of conversations -> rows."""
    findings: list[Finding] = field(default_factory=list[Finding])
    overlaps: dict[Path, dict[str, int]] = field(default_factory=dict[Path, dict[str, int]])
    """Evaluation file -> `overlap` or `near_overlap` -> rows with a question of it."""
    lengths: Lengths | None = None
    """None when no row is usable."""

    def counts(self) -> dict[str, int]:
        """Kind of a finding -> how often it was found; kinds that were not are absent."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in FINDINGS if found[kind]}


def check_data(
    path: Path, evaluation: OverlapIndex | None = None, count_tokens: Callable[[str], int] | None = None
) -> CheckReport:
    """Read a source once and report on it.

    Memory holds a few bytes per row, not the rows.

    Args:
        path: What `arpo.files.sources` takes.
        evaluation: Questions that training must not hold; None looks for none.
        count_tokens: Tokens of a text; None measures characters.

    Raises:
        DataError: the source cannot be read.
    """
    source = open_source(path)
    kind: Kind = "conversations" if holds_conversations(source) else "tasks"
    check = _Check(CheckReport(path=path, kind=kind), evaluation, count_tokens or len)
    (check.read_conversations if kind == "conversations" else check.read_tasks)(source)
    check.report.lengths = measure_lengths(check.lengths, "characters" if count_tokens is None else "tokens")
    return check.report


def measure_lengths(lengths: Sequence[int], unit: Literal["tokens", "characters"]) -> Lengths | None:
    """Mean, quantiles and a histogram in at most 20 bins of equal width, which is 1, 2 or 5 times a power of ten; None of none.

    Example: of the lengths 31, 35, 58 the median is 35, p95 is 58, and the bins of width 2 from 30, 34 and 58 hold one each.
    """
    if not lengths:
        return None
    ordered = sorted(lengths)
    width = next(w for w in _WIDTHS if ordered[-1] // w - ordered[0] // w < _MAX_BINS)
    counted = Counter(length // width for length in ordered)
    return Lengths(
        unit=unit,
        mean=fmean(ordered),
        quantiles={name: ordered[max(0, ceil(share * len(ordered)) - 1)] for name, share in _QUANTILES.items()},
        bins=[(i * width, counted[i]) for i in range(min(counted), max(counted) + 1)],
    )


_MAX_BINS = 20
_WIDTHS = [digit * 10**power for power in range(19) for digit in (1, 2, 5)]
_QUANTILES = {"min": 0.0, "median": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


class _Check:
    """What is remembered from row to row."""

    def __init__(self, report: CheckReport, evaluation: OverlapIndex | None, measure: Callable[[str], int]):
        self.report = report
        self.lengths = array("q")
        self._evaluation = evaluation
        self._measure = measure
        self._prompts: dict[bytes, int] = {}
        self._questions: dict[bytes, tuple[int, bytes]] = {}
        self._types: dict[str, set[str]] = {}
        self._rows = 0

    def read_tasks(self, source: Source) -> None:
        for found in scan_tasks(source):
            self._rows += 1
            if isinstance(found, BadRow):
                self._bad(found)
                continue
            task, place = found.task, (source.files[found.file].path, found.row.number)
            if found.was_repaired:
                self._note("repaired_box", place, "in the prompt")
            self._look_at_references(task, place)
            group = f"{task.source} / {task.ability or '-'}"
            self._usable(task.messages, [], task.references, place, found.row.value, group)
        self._finish()

    def read_conversations(self, source: Source) -> None:
        for found in scan_conversations(source):
            self._rows += 1
            if isinstance(found, BadRow):
                self._bad(found)
                continue
            conversation, place, row = found.conversation, (found.path, found.row.number), found.row.value
            self._usable(conversation.task_messages, conversation.turns, (), place, row, _count_turns(conversation))
        self._finish()

    def _bad(self, bad: BadRow) -> None:
        self.report.findings.append(Finding("bad_row", bad.path, bad.row, bad.reason))

    def _note(self, kind: str, place: tuple[Path, int], detail: str) -> None:
        self.report.findings.append(Finding(kind, *place, detail))

    def _usable(
        self,
        prompt: Sequence[Message],
        turns: Sequence[Message],
        references: Sequence[str],
        place: tuple[Path, int],
        row: Any,
        group: str,
    ) -> None:
        report = self.report
        report.num_usable += 1
        report.groups[group] = report.groups.get(group, 0) + 1
        _add_types(row, "", self._types)
        texts = [message.content for message in (*prompt, *turns)]
        self.lengths.append(sum(map(self._measure, texts)))
        self._look_at_characters([*texts, *references], place)
        question = next(m.content for m in reversed(prompt) if m.role == "user")
        self._look_for_duplicates(prompt, question, references, place)
        self._look_for_overlap(question, place)

    def _look_at_references(self, task: Task, place: tuple[Path, int]) -> None:
        if all(_is_no_answer(reference) for reference in task.references):
            self._note("unanswerable", place, shorten(list(task.references)))

    def _look_at_characters(self, texts: Iterable[str], place: tuple[Path, int]) -> None:
        for text in texts:
            found = _CONTROL.search(text)
            if found:
                self._note("control_character", place, f"U+{ord(found[0]):04X} at character {found.start() + 1}")
                return
            if "\ufffd" in text:
                self._note("replacement_character", place, f"at character {text.index(chr(0xFFFD)) + 1}")
                return

    def _look_for_duplicates(
        self, prompt: Sequence[Message], question: str, references: Sequence[str], place: tuple[Path, int]
    ) -> None:
        exact = _digest(*(part for message in prompt for part in (message.role, message.content)))
        same, answers = _digest(normalise(question)), _digest(*sorted(map(normalise, references)))
        first_of_prompt = self._prompts.setdefault(exact, self._rows)
        first_of_question, first_answers = self._questions.setdefault(same, (self._rows, answers))
        if first_of_prompt != self._rows:
            self._note("duplicate", place, f"of row {first_of_prompt}")
        elif first_of_question != self._rows:
            self._note("near_duplicate", place, f"of row {first_of_question}")
        if first_answers != answers:
            self._note("contradiction", place, f"to row {first_of_question}")

    def _look_for_overlap(self, question: str, place: tuple[Path, int]) -> None:
        overlap = self._evaluation.find(question) if self._evaluation is not None else None
        if overlap is not None:
            kind = "overlap" if overlap.is_exact else "near_overlap"
            counts = self.report.overlaps.setdefault(overlap.path, {})
            counts[kind] = counts.get(kind, 0) + 1
            self._note(kind, place, f"{overlap.path}, row {overlap.row}: {overlap.containment:.0%}")

    def _finish(self) -> None:
        self.report.num_rows = self._rows
        self.report.schema = {key: sorted(types) for key, types in self._types.items()}
        self.report.groups = dict(sorted(self.report.groups.items(), key=lambda item: -item[1]))


def _is_no_answer(reference: str) -> bool:
    return normalise(reference) in _NO_ANSWERS


def _count_turns(conversation: Conversation) -> str:
    results = sum(turn.role == "tool" for turn in conversation.turns)
    return f"{results} result{'s' * (results != 1)}"


def _add_types(value: Any, key: str, types: dict[str, set[str]]) -> None:
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            _add_types(entry, f"{key}.{name}" if key else str(name), types)
    elif isinstance(value, list) and value:
        _add_types(value[0], f"{key}[]", types)
    else:
        types.setdefault(key, set()).add(_TYPES.get(type(value), type(value).__name__))


_TYPES = {str: "text", int: "integer", float: "number", bool: "boolean", type(None): "null", list: "list", dict: "object"}


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=12).digest()
