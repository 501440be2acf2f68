"""No text crashes, hangs or leaves the range, and what should be symmetric is."""

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo.rewards import formulas
from arpo.rewards.answer_text import extract_boxed, normalize, parse_number, plain
from arpo.rewards.extraction import extract_answer
from arpo.rewards.formulas import compare_formulas
from arpo.rewards.graders import GRADERS
from arpo.rewards.matching import exact_match, is_mathematical, token_f1
from arpo.rewards.quantities import read_quantity
from arpo.rewards.released import released_f1, released_format_fault
from arpo.rewards.spelling import unify

FRAGMENTS = [
    "\\boxed{", "\\boxed ", "<answer>", "</answer>", "<think>", "</think>", "{", "}", "\\{", "\\}", "(", ")", "[",
    "]", ",", ";", " ", "\n", "\\frac", "\\dfrac{1}{2}", "\\sqrt", "\\text{", "\\text{ cm}", "^", "_", "^\\circ", "%",
    "\\%", "$", "-", "−", "+", "/", "=", "<", ".", "1", "2", "10", "0", "1,000", "0.5", "1e9", "٣", "½", "x", "pi",
    "the", "A", "B.", "yes", "no", "Kelford", "the answer is", "million", "km/h", "\\left", "\\right", "\\cup",
    "\\infty", "\x00", "\ud800", "é", "日本",
]  # fmt: skip
texts = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join), st.text(max_size=30))
quick = settings(max_examples=40, deadline=None, derandomize=True)
thorough = settings(max_examples=20_000, deadline=None)
BY_ALGEBRA = "different"


def check_reading(text: str) -> None:
    answer = extract_answer(text, prefers_number=True)
    assert (answer.text == "") <= (answer.extraction in ("none", "boxed", "answer_tag", "last_box_anywhere", "answer_phrase"))
    assert answer.text in text or answer.extraction in ("last_number", "last_line", "answer_phrase")
    boxed = extract_boxed(text)
    assert boxed is None or boxed in text
    assert normalize(normalize(text)) == normalize(normalize(normalize(text)))
    assert len(plain(text)) <= len(unify(text))
    assert isinstance(is_mathematical(text), bool)
    quantity = read_quantity(text)
    assert parse_number(text) is None or quantity is not None
    released_format_fault(text)


def check_pair(answer: str, reference: str) -> None:
    for compare in (exact_match, token_f1, released_f1):
        score = compare(answer, reference)
        assert 0 <= score <= 1
        assert compare(reference, answer) == pytest.approx(score)
    assert exact_match(answer, reference) <= token_f1(answer, reference)
    assert compare_formulas(answer, reference).is_equal == compare_formulas(reference, answer).is_equal
    for name, grader in GRADERS.items():
        grade = grader.grade_answer(answer, [reference])
        assert 0 <= grade.score <= 1, name
        assert grader.grade_answer(answer, ["no such answer", reference]).score >= grade.score * (
            not name.startswith("released")
        )
        assert grader.grade_answer(answer, []).score == 0
    for name in ("exact_match", "f1", "math", "multiple_choice", "released_em", "released_f1", "released_math_equal"):
        grade = GRADERS[name].grade_answer
        if not (name.startswith("released") and "[" in (answer.strip()[:1], reference.strip()[:1])):
            assert grade(answer, [reference]).score == pytest.approx(grade(reference, [answer]).score), name


def check_itself(text: str) -> None:
    for name in ("exact_match", "f1"):
        assert GRADERS[name].grade_answer(text, [text]).score == 1
    if read_quantity(text) is not None:
        assert GRADERS["numeric"].grade_answer(text, [text]).score == 1


@quick
@given(texts)
def test_any_text_is_read(text: str):
    check_reading(text)
    check_itself(text)


@quick
@given(texts, texts)
def test_any_two_texts_are_graded(answer: str, reference: str):
    with mock.patch.object(formulas, "compare", return_value=BY_ALGEBRA):  # its own processes are fuzzed below
        check_pair(answer, reference)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(texts, texts)
def test_any_two_texts_are_given_to_algebra(answer: str, reference: str):
    assert 0 <= GRADERS["math"].grade_answer(answer, [reference]).score <= 1


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 1000, "{" * 4000, "\\text{" * 1000 + "}" * 1000, " " * 4000, "answer is" + " " * 4000, "1," * 2000,
        "9" * 4000, "<answer>" * 600, "-" * 4000, "(" * 2000 + ")" * 2000, "\\frac" * 1000, "a " * 2000,
        "1/" * 2000,
        "answer: " * 600, "A and " * 800, "1 " * 2000, "$" * 4000, "\\ " * 2000,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_long_texts_take_no_longer_than_their_length(text: str):
    """4,000 characters are graded; what is exponential in them would take for ever."""
    with mock.patch.object(formulas, "compare", return_value=BY_ALGEBRA):
        check_reading(text)
        check_pair(text, "1")


@pytest.mark.slow
@thorough
@given(texts, texts)
def test_thoroughly(answer: str, reference: str):
    check_reading(answer)
    check_itself(answer)
    with mock.patch.object(formulas, "compare", return_value=BY_ALGEBRA):
        check_pair(answer, reference)
