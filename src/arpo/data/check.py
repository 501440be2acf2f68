"""Reports what files of tasks or conversations contain, and what is wrong with them, row by row."""

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, cast

from arpo.data.conversations import holds_conversations, scan_encoded
from arpo.data.messages import as_assistant
from arpo.data.overlap import OverlapIndex, normalise
from arpo.data.tasks import scan_tasks
from arpo.files.rows import shorten
from arpo.files.sources import BadRow, ParsedRow, Source, open_source
from arpo.protocols.base import Tokenizer, WritingProtocol
from arpo.protocols.config import ProtocolConfig, TagProtocolConfig
from arpo.protocols.tags import TagProtocol
from arpo.protocols.teaching import prompt_faults
from arpo.protocols.text_tokenizer import TextTokenizer
from arpo.types import Message

FINDINGS = {
    "bad_row": "cannot be used and is dropped",
    "repaired_box": "\\boxed damaged to a backspace and oxed; repaired on reading",
    "control_character": "a control character in prompt or reference: an escape such as \\f or \\b was lost",
    "replacement_character": "U+FFFD in prompt or reference: text was read in a wrong encoding",
    "unanswerable": "every reference says that there is no answer, or is empty in normal form",
    "duplicate": "the prompt of an earlier row, character for character",
    "near_duplicate": "the question of an earlier row in normal form, other punctuation, case or blanks",
    "contradiction": "the question of an earlier row with other references",
    "contradicts_protocol": "its prompt teaches the model to write what the protocol of --config does not read",
    "overlap": "a question of an evaluation set in normal form",
    "near_overlap": "most of a question of an evaluation set",
}
"""Kind of a finding -> what it means."""
_NO_ANSWERS = frozenset({
    "", "n / a", "na", "none", "null", "nan", "nil", "unknown", "unanswerable", "no answer", "noanswer",
    "not available", "not given", "not enough information", "cannot be determined", "i don t know",
})  # fmt: skip
"""References in normal form that are no answer."""
Kind = Literal["tasks", "conversations"]
"""What rows are."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(slots=True, frozen=True)
class Finding:
    """A finding about one row."""

    kind: str
    """A key of `FINDINGS`."""
    path: Path
    row: int
    """Counted from 1; in a JSONL file the line."""
    detail: str
    """Details; never the question."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Lengths:
    """Lengths of prompts, or of whole conversations."""

    unit: Literal["tokens", "characters"]
    mean: float
    quantiles: Mapping[str, int]
    """`min`, `median`, `p95`, `p99` and `max`; the nearest rank, so each is the length of some row."""
    bins: Sequence[tuple[int, int]]
    """(first length, rows): rows from this length to below that of the next bin."""


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """Contents and findings of one source."""

    path: Path
    kind: Kind
    num_rows: int = 0
    num_usable: int = 0
    num_questions: int = 0
    """Different questions of usable rows, in normal form."""
    schema: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Key, dotted below objects, `[]` for the entries of a list -> the types of its values in usable rows."""
    groups: dict[str, int] = field(default_factory=dict[str, int])
    """`source / ability` of tasks, turns of conversations -> rows."""
    findings: list[Finding] = field(default_factory=list[Finding])
    system_messages: dict[str, int] = field(default_factory=dict[str, int])
    """Digest of a system message -> usable rows that bring it."""
    overlaps: dict[Path, dict[str, int]] = field(default_factory=dict[Path, dict[str, int]])
    """Evaluation file -> `overlap` or `near_overlap` -> rows with a question of it."""
    lengths: Lengths | None = None
    """None when no row is usable."""

    def counts(self) -> dict[str, int]:
        """Kind of finding -> number of them; a kind without any is absent."""
        counts = Counter(finding.kind for finding in self.findings)
        return {kind: counts[kind] for kind in FINDINGS if counts[kind]}


class Encoder(NamedTuple):
    """A protocol and its tokenizer, which encode conversations and prompts."""

    protocol: WritingProtocol
    tokenizer: Tokenizer
    config: ProtocolConfig | None = None
    """The protocol's configuration, which prompts must not contradict; None: that of no run, so they may."""
    kind: Kind | None = None
    """How a run with this protocol reads rows that are a task as well as a conversation; None: as tasks."""


def check_data(
    path: Path,
    evaluation: OverlapIndex | None = None,
    count_tokens: Callable[[str], int] | None = None,
    encoder: Encoder | None = None,
) -> CheckReport:
    """Read a source once and report on it.

    Memory holds a few bytes per row, not the rows.

    Args:
        path: As `arpo.files.sources` takes it.
        evaluation: Questions that training must not have; None checks none.
        count_tokens: Tokens of a text; None measures characters.
        encoder: A conversation that it cannot encode is a bad row, as in training, and a prompt that contradicts its protocol
            a finding; None: the tag protocol with its defaults.

    Raises:
        DataError: the source cannot be read.
    """
    source = open_source(path)
    kind: Kind = "conversations" if holds_conversations(source, or_both=_is_for_conversations(encoder)) else "tasks"
    check = _Check(CheckReport(path=path, kind=kind), evaluation, count_tokens or len, encoder and encoder.config)
    check.read(source, encoder or Encoder(TagProtocol(text := TextTokenizer(), TagProtocolConfig()), text))
    check.report.lengths = measure_lengths(check.lengths, "characters" if count_tokens is None else "tokens")
    return check.report


def _is_for_conversations(encoder: Encoder | None) -> bool:
    return encoder is not None and encoder.kind == "conversations"


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
    """Checks row by row, against the rows before."""

    def __init__(
        self,
        report: CheckReport,
        evaluation: OverlapIndex | None,
        measure: Callable[[str], int],
        protocol: ProtocolConfig | None,
    ):
        self.report = report
        self._protocol = protocol
        self.lengths = array("q")
        self._evaluation = evaluation
        self._measure = measure
        self._prompts: dict[bytes, int] = {}
        self._questions: dict[bytes, tuple[int, bytes]] = {}
        self._types: dict[str, set[str]] = {}

    def read(self, source: Source, encoder: Encoder) -> None:
        report = self.report
        if report.kind == "tasks":
            for row in scan_tasks(source, self._add_bad_row):
                task = row.value.task
                if row.value.was_repaired:
                    self._note("repaired_box", row, "in the prompt")
                if all(normalise(reference) in _NO_ANSWERS for reference in task.references):
                    self._note("unanswerable", row, shorten(list(task.references)))
                self._check(row, task.messages, (), task.references, group=f"{task.source} / {task.ability or '-'}")
        else:
            for row in scan_encoded(source, encoder.protocol, encoder.tokenizer, self._add_bad_row):
                prompt, turns = row.value.conversation.task_messages, row.value.conversation.turns
                num_results = sum(turn.role == "tool" for turn in turns)
                self._check(row, prompt, turns, (), group=f"{num_results} result{'s' * (num_results != 1)}")
        report.schema = {key: sorted(types) for key, types in self._types.items()}
        report.num_questions = len(self._questions)
        report.groups = dict(sorted(report.groups.items(), key=lambda item: -item[1]))

    def _add_bad_row(self, bad: BadRow) -> None:
        self.report.num_rows += 1
        self.report.findings.append(Finding("bad_row", bad.path, bad.row, bad.reason))

    def _note(self, kind: str, row: ParsedRow[Any], detail: str) -> None:
        self.report.findings.append(Finding(kind, row.path, row.row.number, detail))

    def _check(
        self,
        row: ParsedRow[Any],
        prompt: Sequence[Message],
        turns: Sequence[Message],
        references: Sequence[str],
        *,
        group: str,
    ) -> None:
        self.report.num_rows += 1
        self.report.num_usable += 1
        self.report.groups[group] = self.report.groups.get(group, 0) + 1
        _add_types(row.row.value, "", self._types)
        texts = [text for message in (*prompt, *turns) for text in _texts(message)]
        self.lengths.append(sum(map(self._measure, texts)))
        self._check_characters(row, [*texts, *references])
        self._check_protocol(row, prompt)
        self._check_duplicates(row, prompt, references)
        self._check_overlap(row, prompt[-1].content)

    def _check_characters(self, row: ParsedRow[Any], texts: Sequence[str]) -> None:
        for text in texts:
            if control := _CONTROL.search(text):
                detail = f"U+{ord(control[0]):04X} at character {control.start() + 1}"
                return self._note("control_character", row, detail)
            if "\ufffd" in text:
                return self._note("replacement_character", row, f"at character {text.index(chr(0xFFFD)) + 1}")

    def _check_protocol(self, row: ParsedRow[Any], prompt: Sequence[Message]) -> None:
        own = [message.content for message in prompt if message.role == "system"]
        if own:
            key = _digest(*own).hex()
            self.report.system_messages[key] = self.report.system_messages.get(key, 0) + 1
        for fault in prompt_faults(prompt, self._protocol) if self._protocol is not None else ():
            self._note("contradicts_protocol", row, fault)

    def _check_duplicates(self, row: ParsedRow[Any], prompt: Sequence[Message], references: Sequence[str]) -> None:
        exact = _digest(*(part for message in prompt for part in (message.role, message.content)))
        question, answers = _digest(normalise(prompt[-1].content)), _digest(*sorted(map(normalise, references)))
        first_of_prompt = self._prompts.setdefault(exact, row.number)
        first_of_question, first_answers = self._questions.setdefault(question, (row.number, answers))
        if first_of_prompt != row.number:
            self._note("duplicate", row, f"of row {first_of_prompt}")
        elif first_of_question != row.number:
            self._note("near_duplicate", row, f"of row {first_of_question}")
        if first_answers != answers:
            self._note("contradiction", row, f"to row {first_of_question}")

    def _check_overlap(self, row: ParsedRow[Any], question: str) -> None:
        overlap = self._evaluation.find(question) if self._evaluation is not None else None
        if overlap is not None:
            kind = "overlap" if overlap.is_exact else "near_overlap"
            counts = self.report.overlaps.setdefault(overlap.path, {})
            counts[kind] = counts.get(kind, 0) + 1
            self._note(kind, row, f"{overlap.path}, row {overlap.row}: {overlap.containment:.0%}")


def _texts(message: Message) -> list[str]:
    turn = as_assistant(message)
    calls = (json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False) for call in turn.calls)
    return [text for text in (turn.reasoning, turn.content, *calls) if text]


def _add_types(value: Any, key: str, types: dict[str, set[str]]) -> None:
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            _add_types(entry, f"{key}.{name}" if key else str(name), types)
    elif isinstance(value, list) and value:
        for entry in cast(list[Any], value):
            _add_types(entry, f"{key}[]", types)
    else:
        types.setdefault(key, set()).add(_TYPES.get(type(value), type(value).__name__))


_TYPES = {str: "text", int: "integer", float: "number", bool: "boolean", type(None): "null", list: "list", dict: "object"}


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=12).digest()
