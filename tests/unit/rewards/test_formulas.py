import pytest

from arpo.rewards import formulas
from arpo.rewards.formulas import compare_formulas

BY_SIGHT = [
    # exact values of numbers
    ("0.5", r"\frac{1}{2}", True), ("1,000", "1000", True), (r"1\frac{1}{2}", "3/2", True), ("1 1/2", "1.5", True),
    ("-5", "5", False), ("1.2", "12", False), ("1/2", "12", False), ("12%", "12", False), (r"12\%", "0.12", True),
    ("0.333333", r"\frac{1}{3}", False), (r"\(42\)", "42", True), (r"\[42\]", "42", True),
    # spelling
    (r"\dfrac{1}{x}", r"\frac{1}{x}", True), (r"\left( x, y \right)", "(x,y)", True),
    # tuples, intervals, sets, bare lists
    ("(1,2)", "12", False), ("(1,2)", "(2,1)", False), ("(1,2)", "[1,2]", False), ("(0,1]", "(0,1)", False),
    ("[4, 5.0)", "[4,5)", True), (r"(1,2)", r"\{1,2\}", False), (r"\{1,2\}", r"\{2,1\}", True),
    (r"\{1,1,2\}", r"\{1,2\}", True),
    ("1,2", "(1,2)", True), ("2,1", "(1,2)", False), ("2, 1", "1,2", True), ("1,1", "1,2", False), ("2,1", r"\{1,2\}", True),
    (r"S = \{1,2\}", r"\{2,1\}", True), ("(1/2, 0.5)", r"(0.5,\frac12)", True), ("1,2,3", "1,2", False),
    ("(x,1)", "(x,1,2)", False),
    ("[1,2]", "1,2", False),
    # percentages, bases, equations to be solved
    ("1010_2", "1010", False), ("1010_2", "1010_3", False), ("1010_{2}", r"1010_{\text{two}}", True), ("x+1=3", "3", False),
    (r"50\%", "x", False),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reference", "is_equal"), BY_SIGHT)
def test_decided_by_structure_and_value(answer: str, reference: str, is_equal: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formulas, "compare", lambda *pair: pytest.fail(f"math-verify was asked about {pair}"))
    for pair in ((answer, reference), (reference, answer)):
        assert compare_formulas(*pair, "strict").is_equal is is_equal, pair


@pytest.mark.parametrize(
    ("answer", "reference", "is_equal"),
    [
        ("x = 3", "3", True), ("f(x) = 2x", "2x", True), ("x+1", "1+x", True), (r"\sqrt{4}", "2", True),
        ("2^{10}", "1024", True),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt2}", True), (r"3\pm\sqrt2", r"3+\sqrt2, 3-\sqrt2", True),
        (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)", True), (r"0\le x\le 1", "[0,1]", True),
        ("x<1", "1>x", True),
        (r"(\sqrt{4}, 1)", "(2, 1)", True), (r"x\in[0,1]", "[0,1]", True), ("3.141593", r"\pi", True),
        (r"\emptyset", r"\{\}", True),
        ("x = 3", "x = 4", False), ("y = 3", "x = 3", False), ("2x", "2", False), ("x < 1", r"x \le 1", False),
        ("3.14", r"\pi", False),
        (r"3+\sqrt2", r"3\pm\sqrt2", False), (r"(\sqrt{4}, 1)", "(1, 2)", False), (r"\infty", r"-\infty", False),
        (r"(\sqrt2,3)", r"\{\sqrt2,3\}", False),
    ],
)  # fmt: skip
def test_decided_by_meaning(answer: str, reference: str, is_equal: bool):
    assert compare_formulas(answer, reference).is_equal is is_equal
    assert compare_formulas(reference, answer).is_equal is is_equal


def test_the_reason_says_how():
    assert compare_formulas("0.50", "0.5").reason == "same value"
    assert compare_formulas(r"\dfrac{1}{2}", "0.5").reason == "same meaning"
    assert compare_formulas("(1,2]", "(1,2)").reason == "different meaning"
    assert compare_formulas("2020-01-05", "2014").reason == "date differs"
    assert compare_formulas("x" * 501, "y").reason == "too long for a formula"
    assert compare_formulas("", "").reason == "empty"
