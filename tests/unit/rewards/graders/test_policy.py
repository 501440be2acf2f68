"""What one side alone names: the policies of docs/rewards.md."""

import pytest

from arpo.data.benchmarks import BENCHMARKS
from arpo.errors import ConfigError
from arpo.rewards.config import CompositeConfig
from arpo.rewards.graders import POLICED, find_grader


@pytest.mark.parametrize(
    ("grader", "answer", "reference", "strict", "lenient"),
    [
        ("math", "5", r"5\text{ cm}", 0, 1), ("math", r"5\text{ cm}", "5", 0, 1), ("math", r"\$5", "5", 0, 1),
        ("math", "50", r"50\%", 0, 1), ("math", r"50\%", "50", 0, 0), ("math", "0.5", r"50\%", 1, 1),
        ("math", "4210", "4210_5", 0, 1), ("math", "4210_5", "4210", 0, 0), ("math", "13", "C. 13", 0, 1),
        ("math", "5 cm", "0.05 m", 1, 1), ("math", "5 cm", "5 m", 0, 0),
        ("numeric", "1.95", "1.95 m", 0, 1), ("numeric", "50", "50%", 0, 1), ("numeric", "50%", "50", 0, 0),
        ("exact_match", "50", r"50\%", 0, 1), ("f1", "50", r"50\%", 0, 1), ("exact_match", "it costs $5", "it costs 5", 0, 1),
    ],
)  # fmt: skip
def test_what_one_side_alone_names(grader: str, answer: str, reference: str, strict: int, lenient: int):
    assert find_grader(grader, "strict").grade_answer(answer, [reference]).score == strict
    assert find_grader(grader, "lenient").grade_answer(answer, [reference]).score == lenient
    assert find_grader(grader).grade_answer(answer, [reference]).score == lenient


def test_a_policy_without_effect_is_refused():
    assert CompositeConfig(grader="math", grading="strict").grading == "strict"
    with pytest.raises((ValueError, ConfigError), match="grading"):
        CompositeConfig(grader="multiple_choice", grading="strict")


def test_every_benchmark_has_a_grader_that_its_policy_concerns():
    assert {b.grader for b in BENCHMARKS.values()} <= set(POLICED)
    assert BENCHMARKS["math500"].grading == "lenient"
    assert BENCHMARKS["hotpotqa"].grading == "strict"
