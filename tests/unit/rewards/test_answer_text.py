from fractions import Fraction

import pytest

from arpo.rewards.answer_text import extract_boxed, normalize, parse_number
from arpo.rewards.matching import is_mathematical


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{Kelford}", "Kelford"),
        (r"first \boxed{1}, then \boxed{ \frac{1}{2} } .", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{(0, 1\}}", r"(0, 1\}"),
        (r"\boxed {x}", "x"),
        (r"\boxed{}", ""),
        (r"\boxed{a{b}{c{d}}}", "a{b}{c{d}}"),
        (r"\boxed{unclosed {x}", None),
        ("no box", None),
        (r"\boxed 5", None),
    ],
)
def test_extract_boxed(text: str, box: str | None):
    assert extract_boxed(text) == box


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", Fraction(42)), ("-5", Fraction(-5)), ("- 5", Fraction(-5)), ("−5", Fraction(-5)), ("+5", Fraction(5)),
        ("1,000", Fraction(1000)), ("12,345,678.5", Fraction(24691357, 2)), ("204.0", Fraction(204)), (".5", Fraction(1, 2)),
        ("12%", Fraction(3, 25)), (r"12\%", Fraction(3, 25)), ("$5", Fraction(5)), (r"\$5", Fraction(5)),
        ("-$5.50", Fraction(-11, 2)),
        ("3 €", Fraction(3)), ("1/2", Fraction(1, 2)), (r"\frac{1}{2}", Fraction(1, 2)), (r"-\dfrac{3}{4}", Fraction(-3, 4)),
        (r"\frac12", Fraction(1, 2)), (r"\frac{-1}{2}", Fraction(-1, 2)), ("2e3", Fraction(2000)), (r"1{,}000", Fraction(1000)),
        (r"10\,000", Fraction(10000)), ("$42$", Fraction(42)), (r"\text{7}", Fraction(7)), (" 7 ", Fraction(7)),
    ],
)  # fmt: skip
def test_numbers_have_exact_values(text: str, value: Fraction):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "-", ".", "%", "e5", "x", "1,2", "1,00", "10,0000", "(1,2)", "1 2", "20 June 1837", "2020-01-05", "1914-1918", "3D",
    "1.2.3",
     "1/0", r"\frac{1}{0}", "1//2", "9" * 101, "1e999", "٣x"],
)  # fmt: skip
def test_other_texts_are_no_numbers(text: str):
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Beatles!", "beatles"), ("A", "a"), ("the", "the"), ("a an the", "a an the"), ("U.S.", "us"),
        ("well-known", "wellknown"),
        ("-5 degrees", "-5 degrees"), ("costs $1,000.", "costs 1000"), ("1.50 m", "3/2 m"), ("(1,2)", "1,2"), ("12%", "3/25"),
        ("2020-01-05", "2020-01-05"), ("1914–1918", "1914-1918"), ("10:30 pm", "10:30 pm"), (r"\text{Paris}", "paris"),
        (r"\textbf{\text{New York}}", "new york"), ("“Quoted”", "quoted"), ("John's", "johns"),
        ("May 5, 1999", "may 5 1999"), ("", ""),
    ],
)  # fmt: skip
def test_normal_form(text: str, normal: str):
    assert normalize(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "3",
        "-1.5",
        "1/2",
        "x = 3",
        "x^2+1",
        "(1,2)",
        r"\sqrt{2}",
        r"\frac{x}{y}",
        "2*pi",
        "[4, 5)",
        "0,1",
        "-1, 2.5, 1/2",
        "f(x) = 2x",
    ],
)
def test_formulas_are_mathematical(text: str):
    assert is_mathematical(text)


@pytest.mark.parametrize(
    "text",
    [
        "Kelford",
        "3D",
        "2020-01-05",
        "20/06/1837",
        "1914-1918",
        "20 June 1837",
        "A",
        "well-known",
        r"\text{Paris}",
        "",
        "C++ compiler",
    ],
)
def test_words_and_dates_are_not(text: str):
    assert not is_mathematical(text)
