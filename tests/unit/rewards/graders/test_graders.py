from fractions import Fraction

import pytest

from arpo.rewards.graders import GRADERS
from arpo.rewards.graders.numeric import NumericGrader
from arpo.rewards.grading import Grade


def score(grader: str, answer: str, *references: str) -> float:
    return GRADERS[grader].grade_answer(answer, references).score


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("The Beatles.", ["Beatles"], 1), ("-5", ["5"], 0), ("A", ["A"], 1), (r"\dfrac{1}{2}", ["x", "0.5"], 1), ("Bo", [], 0),
        ("2020-01-05", ["2014"], 0),
    ],
)  # fmt: skip
def test_exact_match(answer, references, expected):
    assert score("exact_match", answer, *references) == expected


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("the town of Kelford", ["Kelford"], 0.5),  # town, of, kelford against kelford: 2 * 1 / (3 + 1)
        ("new new york", ["york", "new york new york"], 6 / 7),  # 2 * 3 / (3 + 4), more than 2 * 1 / (3 + 1)
        ("Paris.", ["Paris"], 1), ("no", ["no one"], 0), ("Bo", [], 0),
    ],
)  # fmt: skip
def test_f1(answer, references, expected):
    assert score("f1", answer, *references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "references", "expected", "is_part"),
    [
        ("It is in the town of Kelford.", ["Kelford"], 1, 0), ("12", ["1"], 0, 0), ("Kelford", ["the town of Kelford"], 0, 1),
        ("Kelfordshire", ["Kelford"], 0, 0), ("anything", [""], 0, 0), ("", ["Kelford"], 0, 0), ("Kelford", ["Kelford"], 1, 1),
        ("it is 1,000 m", ["1000"], 1, 0),
    ],
)  # fmt: skip
def test_substring(answer, references, expected, is_part):
    grade = GRADERS["substring"].grade_answer(answer, references)
    assert (grade.score, grade.components["answer_in_reference"]) == (expected, is_part)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("42", "42.0", 1), ("1,000", "1000", 1), ("-5", "5", 0), ("1999", "2000", 0), ("1.2", "12", 0),
        ("about 3.5 million", "3,500,000", 1),
        ("$3.5 million", "3500000", 1), ("195 cm", "1.95 m", 1), ("195", "1.95 m", 0), ("1.95", "1.95 m", 1),
        ("1.95 m", "1.95", 1),
        ("5 cm", "5 m", 0), ("5 kg", "5 m", 0), ("5 apples", "5 apple", 1), ("5 apples", "5 pears", 0), ("12%", "12", 0),
        ("12 %", "0.12", 1),
        ("90^\\circ", "90 degrees", 1), ("1 hour", "60 minutes", 1), ("36 km/h", "10 m/s", 1), ("3 square metres", "3 m^2", 1),
        (r"5\text{ cm}", "5", 1), (r"\frac{1}{2}", "0.5", 1), ("€5", "$5", 0), ("$5", "5 dollars", 1), ("two", "2", 0),
        ("in 1999", "1999", 0),
        # a third of 1: off by 1/30000 of 1/3, so 1e-4 of it; 0.333 is off by 1e-3
        ("0.3333", "1/3", 1), ("0.333", "1/3", 0), ("3.1416", "3.14159265", 1), ("3.142", "3.14159265", 0), ("0.0001", "0", 0),
    ],
)  # fmt: skip
def test_numeric(answer, reference, expected):
    assert score("numeric", answer, reference) == expected


def test_numeric_tolerance_is_relative_and_inclusive():
    grader = NumericGrader(Fraction(1, 100))
    assert [grader(a, ["50.0"]).score for a in ("49.5", "50.5", "49.49", "50.51")] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("B", "B", 1), ("(b)", "B", 1), ("B.", "B", 1), ("B. Paris", "B", 1), ("B", "B) Paris", 1), ("Paris", "B. Paris", 1),
        ("option B", "B", 1), ("The correct answer is B.", "B", 1), (r"\text{B}", "B", 1), (r"\textbf{(B)}", "B", 1),
        ("**B**", "B", 1),
        ("A", "A", 1), ("A dog", "A", 0), ("a", "A", 1), ("C", "B", 0), ("A and C", "C, A", 1), ("A, C", "A", 0),
        ("A", "A, C", 0),
        ("B. London", "B. Paris", 1), ("", "B", 0), ("London", "B. Paris", 0), ("yes", "Yes", 1),
    ],
)  # fmt: skip
def test_multiple_choice(answer, reference, expected):
    assert score("multiple_choice", answer, reference) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("42", "42", 1), ("42.", "42", 1), ("**42**", "42", 1), ("$42$", "42", 1), (r"5\text{ cm}", "5", 1),
        ("5", r"5\text{ cm}", 1),
        (r"5\text{ cm}", r"5\text{ m}", 0), (r"90^\circ", "90", 1), (r"90^{\circ}", r"90\text{ degrees}", 1),
        (r"3\sqrt{3} - 6", r"3\sqrt{3}-6", 1), ("2x", "x+x", 1), (r"\text{east}", "East", 1), ("east", "seat", 0),
        ("x = 3", "3", 1),
        ("2020-01-05", "2014", 0), ("Kelford", "Kelford.", 1), ("", "0", 0), ("-x", "x", 0), (r"\text{(B)}", "B", 1),
        ("I", "1", 0),
        (r"12\,\text{inches}", "12", 1), ("5 cm", "5", 1), ("5 cm", "5 m", 0),
    ],
)  # fmt: skip
def test_math(answer, reference, expected):
    assert score("math", answer, reference) == expected


def test_math_says_when_it_gave_up():
    grade = GRADERS["math"].grade_answer("9^{9^{9^9}}", ["7"])
    assert (grade.score, grade.components) == (0.0, {"gave_up": 1.0})
    assert GRADERS["math"].grade_answer("2+2", ["5", "4"]) == Grade(
        score=1.0, components={"gave_up": 0.0}, reason="same meaning"
    )


@pytest.mark.parametrize("name", GRADERS)
def test_every_grader_reads_a_trajectory(make_trajectory, name):
    right = make_trajectory("<think> so </think> <answer> \\boxed{42} </answer>", references=("42",))
    grade = GRADERS[name](right)
    assert (grade.score, grade.extraction) == (1.0, "boxed")
    nothing = GRADERS[name](make_trajectory("<think> </think>", references=("42",)))
    assert (nothing.score, nothing.extraction, nothing.reason) == (0.0, "none", "no answer")


@pytest.mark.parametrize(("name", "extraction"), [("math", "last_number"), ("numeric", "last_number"), ("f1", "last_line")])
def test_without_box_and_phrase_only_graders_of_numbers_read_the_last_number(make_trajectory, name, extraction):
    grade = GRADERS[name](make_trajectory("I count 42 of them", references=("42",)))
    assert grade.extraction == extraction
    assert grade.score == (1.0 if extraction == "last_number" else 2 / 6)  # i count 42 of them: 2 * 1 / (5 + 1)
