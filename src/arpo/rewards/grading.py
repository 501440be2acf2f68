"""Grades: the score of an answer, its reason, and how the answer was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from arpo.tree import Trajectory

Extraction = Literal[
    "boxed", "answer_tag", "last_box_anywhere", "answer_phrase", "last_number", "last_line", "given", "none"
]  # fmt: skip
"""How an answer was found, best first: the last box of the answer block; the whole block; the last box of all completions; the
text after the last "the answer is"; the last number; the last line. `given`: the grader got the text. `none`: there is no
text."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Grade:
    """The grade of one answer.

    Example:
        Grade(score=0.5, components={"precision": 1 / 3, "recall": 1.0}, reason="F1 0.5 with 'Kelford'", extraction="boxed")
    """

    score: float
    """In [0, 1]."""
    is_exact: bool = True
    """False where an answer with a full score may be wrong: F1 is 1 for the right words in another order."""
    components: Mapping[str, float] = field(default_factory=dict[str, float])
    """Parts of the score, by the grader's names."""
    reason: str = ""
    """Reason, in a few words for people."""
    extraction: Extraction = "given"
    """How the answer was found."""

    @property
    def is_correct(self) -> bool:
        """Whether the answer is right: a full score, and for F1 also an exact match."""
        return self.score == 1.0 and self.is_exact


class GradeAnswer(Protocol):
    """Grades the text of an answer by the best of the references; pure."""

    def __call__(self, answer: str, references: Sequence[str], /) -> Grade:
        """The grade; score 0 without references."""
        ...


class Grader(Protocol):
    """Grades the answer of a finished trajectory; pure and thread-safe."""

    def __call__(self, trajectory: Trajectory) -> Grade:
        """The grade; score 0 and extraction `none` without an answer."""
        ...
