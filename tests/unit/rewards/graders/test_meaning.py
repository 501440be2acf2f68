"""What means the same is right and what means something else is wrong, a kind of fault after the other."""

import json
from pathlib import Path

import pytest

from arpo.rewards.graders import GRADERS

GRADES = Path(__file__).parents[4].parent / "shared" / "cases" / "grades.json"

SAME = {
    "math": [
        (r"\begin{bmatrix} 0.5 & 1 \\ 2 & 3 \\ \end{bmatrix}", r"\begin{pmatrix}\frac{1}{2}&1\\2&3\end{pmatrix}"),
        ("Matrix([[1, 2], [3, 4]])", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"), (r"11\sqrt2", r"11\sqrt{2}"),
        ("14 - I", "14-i"), ("oo", r"\infty"), ("-oo", r"-\infty"), ("14.0 + -1.0*I", "14-i"),
        ("Rational(1, 3)", r"\frac13"), ("√2", r"\sqrt{2}"), ("x²+1", "x^2+1"), ("x**2 + 1", "x^2+1"), ("exp(1)", "e"),
        ("log(2)", r"\ln 2"), ("2·3", "6"), ("2*I", "2i"), ("-2*pi", r"-2\pi"),
        ("x<1 or x>2", r"(-\infty,1)\cup(2,\infty)"), (r"x < 1 \text{ or } x > 2", r"(-\infty,1)\cup(2,\infty)"),
        (r"\{x \mid x \ge 3\}", r"[3,\infty)"), ("x>3", r"(3,+\infty)"), (r"\frac{15\sqrt3}{4}", r"\frac{15}{4}\sqrt{3}"),
        ("3:7", "3 : 7"), (r"90^\circ", "90"), ("90°", r"90^{\circ}"), (r"12\text{ cm}^2", "12 cm^2"),
        ("17 m/s", r"17 \, \mathrm{m/s}"), ("5 cm", "0.05 m"), ("50%", r"50\%"), ("50", r"50\%"), ("0.5", r"50\%"),
        ("y = 2x+1", "2x - y + 1 = 0"), ("x=2, y=1", "y=1, x=2"), ("(x,y)=(2,1)", "x=2, y=1"),
        ("(x,y,z)=(2,1,4)", "(2,1,4)"), ("n = 1, 3, 4", "1,3,4"), (r"x=\pm 2", "x=2, x=-2"), (r"x=\pm 2", r"\{-2,2\}"),
        ("2, -2", r"\pm 2"), (r"\text{(C)}", "C"), ("3rd", "3"), (r"3^\text{rd}", "3"),
        (r"\text{Volume} = 12\pi", r"12\pi"), (r"V = 12\pi", r"12\pi"), ("no solutions", r"\emptyset"),
        (r"\varnothing", r"\{\}"), (r"\boxed{7}", "7"), ("1{,}000", "1000"), ("1,000,000", "10^6"),
        (r"\frac{1}{2}\text{ hour}", r"30\text{ minutes}"), (r"2\cos^2 x - 1", r"\cos 2x"), (r"\cos(2x)", r"\cos 2x"),
        (r"\log_2 8", "3"), (r"\tan(45^\circ)", "1"), (r"\binom{5}{2}", "10"), ("5!", "120"),
        (r"1.\overline{3}", r"\frac43"), (r"0.1\overline{6}", "1/6"), (r"\frac{\pi}{2}", "1.570796"),
        (r"a_n=\frac1n", r"\frac{1}{n}"), ("f(x)=x^2-1", "(x-1)(x+1)"), ("f(x)=(x+1)(x-1)", "f(x)=x^2-1"),
        (r"x \equiv 3 \pmod{7}", r"3 \pmod 7"), ("3 mod 7", r"3 \pmod{7}"), (r"[0, \frac12)", "[0,0.5)"),
        (r"\left(\frac12, 3\right)", "(1/2, 3)"), ("{1, 2, 3}", r"\{3,2,1\}"), ("[1, 2, 3]", "[1,2,3]"),
        (r"\begin{cases} a=0 \\ b=2 \end{cases}", "a=0, b=2"),
        (r"\begin{cases} x+1, & x>0 \\ 0, & x \le 0 \end{cases}",
         r"\begin{cases} x+1 & \text{if } x>0 \\ 0 & \text{if } x\leq0 \end{cases}"),
        ("x = 5 (because x > 0)", "5"), ("C. 13", "C. 13"), ("13", "C. 13"), ("AB=3", "3"),
        (r"|z|=\sqrt2", r"|z| = \sqrt{2}"), ("2^{25/51}-1", r"2^{\frac{25}{51}} - 1"), (r"\frac{a}{b}", "a/b"),
        ("(x-2)^{2} + (y-1)^{2} = 5", "(x-2)^2+(y-1)^2=5"), (r"6.63\times10^{-34}", "6.63e-34"),
        ("2 sqrt(3)", r"2\sqrt{3}"), ("2*sqrt(3)/3", r"\frac{2}{\sqrt{3}}"), ("(-oo, 3)", r"(-\infty,3)"), ("17", "17."),
        ("The answer is 17", "The answer is 17."), (r"\text{Saturday}", "saturday"),
        ("the circle x^2+y^2=4", "circle $y^2+x^2=4$"), (r"\$5", "5"), ("$5", "5 dollars"),
        (r"5 \text{ dollars}", r"\$5.00"), ("3/4", r"75\%"), (r"52 \text{ or } 54", "52, 54"),
        (r"3 \text{ and } 5", "3,5"), ("2x-6=0", "x=3"), (r"4\!:\!51\!:\!06 \text{ p.m.}", "4:51:06 pm"), ("8th", "8"),
        ("-6[-W]", "6W"), (r"\frac{-1}{2}", r"-\frac12"), ("a^{-1}", r"\frac1a"), (r"e^{i\pi}", "-1"),
        (r"\lfloor 3.7 \rfloor", "3"), (r"\sqrt[3]{-8}", "-2"), ("abs(-3)", "3"), (r"2\sqrt{ab}", r"2\sqrt{a b}"),
        (r"x \ne 2", r"(-\infty,2)\cup(2,\infty)"), (r"\int_0^1 x dx", r"\frac12"),
        (r"\left\{ 0, -1, -\frac{2}{3}\right\}", r"\{-2/3,-1,0\}"), (r"\frac{√6}{2}", r"\frac{\sqrt6}{2}"),
        ("(2, 4), (4, 2)", "(4,2),(2,4)"), (r"y=\log _{2} \frac {1}{x}", r"y = -\log_2 x"),
        (r"x = \frac{\pi}{6} + k\pi", r"x = \pi k+\frac{\pi}{6}"), ("1,234,567", "1234567"),
        (r"\dfrac{1}{2004!}", r"\frac{1}{2004!}"), ("Yes", "yes"), (r"\text{neither}", "Neither"),
        (r"3024+ \sqrt {3}", r"\sqrt3+3024"), (r"\angle E = 135^\circ", r"135^\circ"), ("100,200,300", "100, 200, 300"),
        ("12-hour", "12-hour"), ("2n - 4", "2(n-2)"), (r"\mathrm{e}^2", "e^2"), (r"x\leq3", "x <= 3"), ("x≤3", "(-∞, 3]"),
        ("11π/6", r"\frac{11\pi}{6}"), ("sin x", r"\sin(x)"), (r"\tfrac{1}{2}", ".5"), (r"5 \times 10^3", "5000"),
        (r"1.5 \cdot 10^{-3}", "0.0015"),
    ],
    "numeric": [
        ("12,34,567", "1234567"), ("1.234.567", "1234567"), ("12'000", "12000"), ("1.234,56", "1234.56"), ("2½", "2.5"),
        ("about 20", "20"), ("3 × 4 = 12", "12"), ("**42**", "42"), (r"$\boxed{42}$", "42"), ("5 ft 3 in", "63 inches"),
        ("60 mph", "60 miles per hour"), ("9.8 m/s^2", "9.8 m/s²"), ("½", "0.5"), ("1.5e3", "1500"), ("total = 42", "42"),
        ("-5", "−5"), ("１２", "12"), ("18 dollars", "18"), ("€5", "5"), ("100 km/h", "100 kilometers per hour"),
        ("2^5", "32"), ("25%", "0.25"), ("25", "25%"), ("1 000 000", "1000000"), ("5 apples", "5"),
    ],
    "multiple_choice": [
        ("答案是B", "B"), ("选C", "C"), ("Option B", "B"), ("B) Paris", "B"), ("the answer is (D) because", "D"),
        ("**C**", "C"), ("A, C and D", "ACD"), ("Not A but C is right. Answer: C", "C"), ("C、北京", "C"),
        ("（C）北京", "C"), (r"\boxed{\text{B}}", "B"), ("(B) is incorrect, so (D)", "D"), ("The correct option is D.", "D"),
        ("D: all of the above", "D"), ("[A]", "A"), ("b", "B"), ("Ａ和Ｃ", "AC"),
    ],
    "exact_match": [
        ("Beyoncé", "Beyoncé"), ("“Hamlet”", "Hamlet"), ("1914–1918", "1914-1918"), ("東京。", "東京"), ("e-mail", "email"),
        ("R&B", "R&B"), ("The Beatles", "beatles"), ("ﬂower", "flower"), ("Ⅳ", "IV"), ("C++", "c++"), ("40 °C", "40°C"),
        ("a", "A"), ("(UTC+3)", "UTC+3"),
    ],
}  # fmt: skip

DIFFERENT = {
    "math": [
        (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"), ("a^2-b^2", "a^2+b^2"),
        ("cosh(x)", "cos(x)"), ("10^{-17}", "10^{-18}"), (r"6.63\times10^{-34}", r"6.63\times10^{-19}"), ("x>1", "x<1"),
        ("x>1", r"x\ge1"), ("x>1", "y>1"), ("even n", "odd n"), ("(1,2)", "(2,1)"), ("[1,2]", "(1,2)"), ("3 pm", "3 am"),
        ("11:18", "11:19"), (r"4\sqrt2", "4"), ("x=3", "y=3"), ("5 cm", "5 m"), ("5 cm", "5 cm^2"), ("50%", "50"),
        ("1010_2", "1010_3"), ("2^{10}", "2^{11}"), (r"\infty", r"-\infty"), ("x+1", "x-1"), ("v_0+1", "v_1+1"),
        (r"F_{\text{total}}", r"F_{\text{net}}"), (r"\ln x", r"\log_2 x"), (r"\sqrt{x^2}", "x"), ("|x|", "x"),
        ("n!", "n"), (r"\{1,2\}", "(1,2)"), (r"12^{\text{th}}", "13"), ("7", r"7 \pmod 5"), ("Area=5", "Perimeter=5"),
        ("no solution", "one solution"), (r"x=3 \text{ only if } n>2", r"x=3 \text{ only if } n<2"), ("2,3", "2,3,4"),
        (r"\frac{1}{1000000!}", r"\frac{1}{1000001!}"), ("9-11", "9/11"), ("east", "seat"), (r"\pm 2", "2"),
        (r"30^\circ", r"30^\circ C"), ("A", "B"), ("I", "1"), ("e", r"\pi"), ("x = 3 or x = 4", "x = 3"),
        (r"\sin x", r"\cos x"), ("0", "1"), ("", "0"), ("1/2", "12"), ("2x", "x2^2"), (r"\frac{x}{y}", r"\frac{y}{x}"),
        ("a<b", "a>b"), ("x^{2}", "x_{2}"), ("3:7", "7:3"), ("2003^{2002^{2001}}", "7"), ("10^{10^{10}}", "7"),
        (r"-2 \le x < 7", r"-2 \le x \le 7"), ("mgh", "mgk"), ("5!", "5"), (r"\overline{AB}", "AB"), (r"\vec{a}", "a"),
        (r"3\sqrt[3]{2}", r"3\sqrt{2}"), (r"x \in (1,2)", r"x \in [1,2]"), ("1,000", "1"), ("12:00 am", "12:00 pm"),
    ],
    "numeric": [
        ("2020", "2020-01"), ("5 or 6", "6"), ("10:30", "10"), ("1/2/2020", "1"), ("3, 4", "3"), ("between 3 and 5", "3"),
        ("5 km", "5 m"), ("$5", "€5"), ("3-5", "-2"), ("20-25", "20"), ("4th of July", "4"), ("3:4", "3"), ("-5", "5"),
        ("5%", "5"), ("x > 5", "5"), ("10²", "102"), ("3 to 5", "3"), ("1e-3", "1"), ("±5", "5"),
    ],
    "multiple_choice": [
        ("A or B", "A"), ("A and B", "A"), ("not A", "A"), ("Vitamin C", "C"), ("A B C D", "A"),
        ("all of the above", "A"), ("I think so", "I"), ("K. Marx", "K"), ("(A), (B), (C)", "B"), ("答案不是A", "A"),
        ("A is wrong", "A"),
    ],
    "exact_match": [
        ("10²", "102"), ("H₂O", "H2O2"), ("C#", "C"), ("A+", "A-"), ("A+", "A"), ("-5", "5"), ("F#", "F"),
        ("pH > 7", "pH < 7"), ("x ≤ 3", "x ≥ 3"), ("3½", "31/2"), ("②", "2"), ("Vitamin A", "Vitamin"), ("AB−", "AB+"),
        ("37°", "37"), ("GMT+1", "GMT-1"), ("$5", "€5"), ("it costs $5", "it costs €5"), ("5%", "5"), ("K+", "K"),
        ("Na+", "Na-"), ("no", "yes"), ("Vitamin A deficiency", "vitamin deficiency"), ("m/s", "ms"),
    ],
}  # fmt: skip


def _cases(pairs: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str, str]]:
    return [(grader, answer, reference) for grader, listed in pairs.items() for answer, reference in listed]


@pytest.mark.parametrize(("grader", "answer", "reference"), _cases(SAME))
def test_the_same_meaning_is_right(grader: str, answer: str, reference: str):
    assert GRADERS[grader].grade_answer(answer, [reference]).score == 1.0


@pytest.mark.parametrize(("grader", "answer", "reference"), _cases(DIFFERENT))
def test_another_meaning_is_wrong(grader: str, answer: str, reference: str):
    assert GRADERS[grader].grade_answer(answer, [reference]).score < 1.0


def test_the_pairs_beside_the_project():
    if not GRADES.is_file():
        pytest.skip("the file of graded pairs is not beside the project")
    wrong = [
        (grader, verdict, answer, reference)
        for grader, verdicts in json.loads(GRADES.read_text(encoding="utf-8")).items()
        if grader != "about"
        for verdict, pairs in verdicts.items()
        for answer, reference in pairs
        if (GRADERS[grader].grade_answer(answer, [reference]).score == 1.0) != (verdict == "same")
    ]
    assert wrong == []
