"""Rewrites and changes every reference, grades the result, and counts what the graders got wrong."""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from arpo.lab.bench.meaning.changes import CHANGES
from arpo.lab.bench.meaning.references import Reference, Style
from arpo.lab.bench.meaning.rewritings import REWRITINGS
from arpo.lab.bench.meaning.second_reader import changes_meaning
from arpo.rewards.graders import find_grader

GRADERS_OF: dict[Style, tuple[str, ...]] = {
    "math": ("math", "exact_match"), "number": ("numeric", "math", "exact_match"), "words": ("exact_match", "math"),
}  # fmt: skip
"""The graders of each style of reference."""
MAX_KEPT = 20


@dataclass(slots=True)
class Count:
    """Pairs of one kind."""

    kind: str
    pairs: int = 0
    """Pairs graded."""
    wrong: int = 0
    """Of these, pairs with the wrong verdict."""
    unread: int = 0
    """Changes that were left out because the second reader could not tell whether the meaning changed."""
    examples: list[list[str]] = field(default_factory=list[list[str]])
    """The first wrong pairs: answer, reference."""

    def add(self, answer: str, reference: str, *, is_wrong: bool) -> None:
        """Count a pair."""
        self.pairs += 1
        if is_wrong:
            self.wrong += 1
            if len(self.examples) < MAX_KEPT:
                self.examples.append([answer, reference])


@dataclass(slots=True, frozen=True)
class Proof:
    """What the graders made of all pairs."""

    num_references: int
    rewritings: Sequence[Count]
    changes: Sequence[Count]

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """The counts as rows of a report."""
        return {
            "rewritings": [
                {"kind": c.kind, "pairs": c.pairs, "wrong": c.wrong, "examples": c.examples} for c in self.rewritings
            ],
            "changes": [
                {"kind": c.kind, "pairs": c.pairs, "wrong": c.wrong, "unread": c.unread, "examples": c.examples}
                for c in self.changes
            ],
        }


def prove(references: Iterable[Reference], seed: int, on_reference: Callable[[], object] = lambda: None) -> Proof:
    """Grade every rewriting and every change of the references, under the policy `strict`."""
    rewritings, changes = dict[str, Count](), dict[str, Count]()
    number = 0
    for reference in references:
        number += 1
        for kind, rewrite in REWRITINGS[reference.style].items():
            answer = rewrite(reference.text, _rng(seed, kind, reference))
            if answer is not None:
                for grader in GRADERS_OF[reference.style]:
                    if "\\boxed" in answer and grader == "exact_match":
                        continue  # a box is read before the grader sees the answer
                    is_right = _grade(grader, answer, reference) == 1.0
                    _count(rewritings, f"{grader}: {kind}").add(answer, reference.text, is_wrong=not is_right)
        for kind, change in CHANGES[reference.style].items():
            answer = change(reference.text, _rng(seed, kind, reference))
            is_another = None if answer is None else _is_another(reference, answer, kind)
            for grader in GRADERS_OF[reference.style]:
                if answer is None:
                    continue
                if is_another is None:
                    _count(changes, f"{grader}: {kind}").unread += 1
                elif is_another:
                    is_right = _grade(grader, answer, reference) == 1.0
                    _count(changes, f"{grader}: {kind}").add(answer, reference.text, is_wrong=is_right)
        on_reference()
    return Proof(number, list(rewritings.values()), list(changes.values()))


def _rng(seed: int, kind: str, reference: Reference) -> random.Random:
    return random.Random(f"{seed} {kind} {reference.text}")


def _grade(grader: str, answer: str, reference: Reference) -> float:
    return find_grader(grader, "strict").grade_answer(answer, [reference.text]).score


def _count(counts: dict[str, Count], kind: str) -> Count:
    return counts.setdefault(kind, Count(kind))


def _is_another(reference: Reference, answer: str, kind: str) -> bool | None:
    """Whether the changed answer means something else: a formula by its values, words and units by their text."""
    if reference.style == "words":
        return _letters(reference.text) != _letters(answer)
    if kind == "unit":
        return True
    return changes_meaning(reference.text, answer)


def _letters(text: str) -> str:
    return re.sub(r"\s+", " ", text.casefold()).strip()
