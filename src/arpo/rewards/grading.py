"""What a grade is: how right an answer is, why, and how the answer was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from arpo.tree import Trajectory

Extraction = Literal[
    "boxed", "answer_tag", "last_box_anywhere", "answer_phrase", "last_number", "last_line", "given", "none"
]  # fmt: skip
"""How an answer was found, best first: the last box of the answer block; the whole block; the last box anywhere in what the
model wrote; what follows the last "the answer is"; the last number; the last line. `given`: the text was handed to the grader.
`none`: the model wrote nothing at all."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Grade:
    """How right one answer is.

    Example:
        Grade(score=0.5, components={"precision": 1 / 3, "recall": 1.0}, reason="F1 0.5 with 'Kelford'", extraction="boxed")
    """

    score: float
    """In [0, 1]."""
    is_exact: bool = True
    """False where a full score leaves open whether the answer is right: F1 is 1 for the right words in another order."""
    components: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the score was made of, by the grader's own names."""
    reason: str = ""
    """Why, in a few words a person can read."""
    extraction: Extraction = "given"
    """How the answer was found."""

    @property
    def is_correct(self) -> bool:
        """Whether the answer is right: a full score, and for F1 an exact match besides."""
        return self.score == 1.0 and self.is_exact


class GradeAnswer(Protocol):
    """Grades an answer's text by the task's references, of which any one counts; pure."""

    def __call__(self, answer: str, references: Sequence[str], /) -> Grade:
        """The grade; score 0 without references."""
        ...


class Grader(Protocol):
    """Grades the answer a finished trajectory ends with; pure, and safe to call from several threads."""

    def __call__(self, trajectory: Trajectory) -> Grade:
        """The grade; score 0 and extraction `none` when there is no answer."""
        ...
