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
        (r"\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
        (r"\left(\begin{array}{c}1\\2\end{array}\right)", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        ("[[1, 2], [3, 4]]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"), ("sqrt(2)/2 + 1/2", r"\frac{\sqrt2+1}{2}"),
        ("(-1 + sqrt(5))/2", r"\frac{-1+\sqrt5}{2}"), ("3*x**2 - 2*x + 1", "3x^2-2x+1"), ("exp(-x**2)", "e^{-x^2}"),
        ("log(8, 2)", "3"), ("pi*sqrt(2)", r"\pi\sqrt2"), ("Interval(0, 1)", "[0,1]"), ("{1, 2}", r"\{1,2\}"),
        ("(1, 2)", r"\left(1,2\right)"), ("1/3 + 2*I/3", r"\frac13+\frac23 i"), ("asin(1/2)", r"\frac{\pi}{6}"),
        ("acosh(2)", r"\ln(2+\sqrt3)"), ("factorial(5)", "120"), ("binomial(5, 2)", "10"), ("Abs(x - 1)", "|x-1|"),
        ("x >= 2", r"x \geq 2"), ("(-oo, -1) U (1, oo)", r"(-\infty,-1)\cup(1,\infty)"),
        ("x ∈ (−∞, −1) ∪ (1, ∞)", r"(-\infty,-1)\cup(1,\infty)"), ("5:30 PM", "5:30 pm"), ("5:30 p.m.", "5:30 pm"),
        ("05:30", "5:30"), (r"\text{width} = 5", "5"), (r"\text{Answer: } 5", "5"), ("Answer: 5", "5"),
        ("x = -1 or x = 3", "x=3, x=-1"), (r"x=-1\text{ and }x=3", "-1,3"), ("-1 and 3", "-1, 3"),
        (r"-1 \text{ or } 3", "3,-1"), ("1st", "1"), ("21^{st}", "21"), (r"45\%", "45%"), (r"$\frac{3}{4}$", "0.75"),
        (r"\frac{3}{4} \text{ miles}", "0.75 miles"), (r"3.0 \text{ meters}", "3 m"),
        (r"5 \text{ square feet}", r"5 \text{ ft}^2"), ("5 sq ft", "5 ft^2"), ("2x+4y=6", "x+2y=3"),
        ("x+2y-3=0", "x+2y=3"), ("y - 2 = 3(x-1)", "y=3x-1"), ("x^2/4+y^2/9=1", "9x^2+4y^2=36"),
        ("(3,4),(1,2)", "(1,2),(3,4)"), ("(3,4) and (1,2)", "(1,2),(3,4)"), (r"\pm\sqrt{3}", r"\sqrt3,-\sqrt3"),
        ("x = 1 ± √2", r"1\pm\sqrt{2}"), (r"\frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}"),
        (r"\cos^{-1} x", r"\arccos x"), (r"\tan^{-1}(1)", r"\frac{\pi}{4}"), (r"\sqrt[4]{16}", "2"), ("27^{1/3}", "3"),
        (r"\left|-5\right|", "5"), (r"\ln e^3", "3"), (r"\log 100", r"\ln 100"), (r"n \equiv 2 \pmod{5}", r"2 \pmod{5}"),
        ("no real solution", r"\varnothing"), ("There is no solution.", r"\text{No solution}"),
        ("Empty set", r"\emptyset"), (r"\text{not enough information}", "not enough information"),
        ("x=5 (since x>0)", "x=5"), ("5 (as x > 0)", "5"),
        (r"f(x) = x^2 \text{ for } x > 0", r"f(x)=x^2 \text{ for } x>0"),
        (r"\begin{cases} x & x \ge 0 \\ -x & x<0 \end{cases}",
         r"\begin{cases} -x & \text{if } x < 0 \\ x & \text{if } x \geq 0 \end{cases}"),
        (r"\begin{cases}x=1\\y=2\end{cases}", "(x,y)=(1,2)"), (r"\overline{AB}", r"\overline{AB}"),
        (r"\triangle ABC", r"\triangle ABC"), (r"30^\circ", r"30\text{ degrees}"), ("30 degrees", "30°"),
        ("98.6°F", r"98.6^\circ \text{F}"), (r"\text{$5$}", "5"), (r"\$\frac12", "$0.50"), ("50 cents", "$0.50"),
        ("1,2,...,n", r"1,2,\ldots,n"), ("1 2/3", "5/3"), ("1⅔", r"\frac53"), ("x⁻¹", r"\frac1x"), ("10⁶", "1000000"),
        ("a₁ + a₂", "a_1+a_2"), ("∛8", "2"), ("≈ 3.14", "3.14"), (r"\approx 3.14", "3.14"),
        (r"2\text{ hours and }30\text{ minutes}", "150 minutes"), ("x≠2", r"x \neq 2"), ("(2, -3)", "x=2, y=-3"),
        ("1.0e-5", "10^{-5}"), ("1E5", "100000"), (r"6\sqrt{3}\text{ cm}", r"6\sqrt3"), (r"\{x : x > 2\}", r"(2,\infty)"),
        (r"\mathbb{R}", r"(-\infty,\infty)"), ("all real numbers", r"\mathbb{R}"), ("y=x^2+1", "x^2+1"),
        (r"12\pi\text{ cubic inches}", r"12\pi \text{ in}^3"), (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt 3}"),
        (r"e^{2\ln 3}", "9"), ("sin(pi/6)", "0.5"), (r"\sin\frac{\pi}{6}", "1/2"), ("2^{1/2}", r"\sqrt2"),
        (r"-\frac{1}{2}", r"\frac{1}{-2}"), ("5 + 0i", "5"), ("3i+2", "2+3i"), ("7.0", "7"), (r"\text{ 7 }", "7"),
        ("15:30", "3:30 pm"), ("12:30 am", "0:30"), ("f(2)=5", "5"), ("{}", r"\emptyset"),
    ],
    "numeric": [
        ("12,34,567", "1234567"), ("1.234.567", "1234567"), ("12'000", "12000"), ("1.234,56", "1234.56"), ("2½", "2.5"),
        ("about 20", "20"), ("3 × 4 = 12", "12"), ("**42**", "42"), (r"$\boxed{42}$", "42"), ("5 ft 3 in", "63 inches"),
        ("60 mph", "60 miles per hour"), ("9.8 m/s^2", "9.8 m/s²"), ("½", "0.5"), ("1.5e3", "1500"), ("total = 42", "42"),
        ("-5", "−5"), ("１２", "12"), ("18 dollars", "18"), ("€5", "5"), ("100 km/h", "100 kilometers per hour"),
        ("2^5", "32"), ("25%", "0.25"), ("25", "25%"), ("1 000 000", "1000000"), ("5 apples", "5"),
        ("The answer is 42", "42"), ("42 apples", "42"), ("$42", "42"), ("42.00", "42"), ("4.2e1", "42"), ("42", "42"),
        ("6*7", "42"), ("6 × 7 = 42", "42"), ("84/2", "42"), ("42km", "42 km"), ("42 km", "42000 m"),
        ("3 hours", "180 minutes"), ("1/2", "0.5"), ("50 %", "50%"), ("~42", "42"), ("≈42", "42"), ("x=42 cm", "42 cm"),
        ("-42", "-42.0"), ("42,000.50", "42000.5"), ("42 thousand", "42000"), ("1.5 million dollars", "$1,500,000"),
        ("12 kg m/s^2", "12 N"), ("5 m²", "5 square meters"), ("100 kPa", "100000 Pa"), ("72°F", "72 °F"),
        ("¥500", "500 yen"), ("£5", "£5.00"), ("١٢", "12"), ("1 234 567", "1234567"), ("1’234", "1234"),
        ("1 234,5", "1234.5"),
    ],
    "multiple_choice": [
        ("The best option is C: Paris", "C"),
        ("Option B is wrong, so C", "C"),
        ("C is correct because A is false", "C"),
        ("Not A but C", "C"),
        ("【A】", "A"),
        ("選B", "B"),
        ("答案是B", "B"), ("选C", "C"), ("Option B", "B"), ("B) Paris", "B"), ("the answer is (D) because", "D"),
        ("**C**", "C"), ("A, C and D", "ACD"), ("Not A but C is right. Answer: C", "C"), ("C、北京", "C"),
        ("（C）北京", "C"), (r"\boxed{\text{B}}", "B"), ("(B) is incorrect, so (D)", "D"), ("The correct option is D.", "D"),
        ("D: all of the above", "D"), ("[A]", "A"), ("b", "B"), ("Ａ和Ｃ", "AC"),
        ("(B)", "B"), ("B,", "B"), ("The answer is B", "B"), ("Answer: (B)", "B"), ("B is correct", "B"),
        ("I choose B", "B"), ("I would go with option B.", "B"), ("Both A and C", "A, C"), ("选项B", "B"),
        ("正确答案是 C。", "C"), ("Ⓑ", "B"), ("B: Paris", "B"), ("b)", "B"), ("B. ", "B"), ("Neither A nor B; C", "C"),
        ("It must be (D), not (A).", "D"), ("The correct answer is option C: Paris", "C"), (r"$\textbf{(E)}$", "E"),
        ("**Answer: C**", "C"), ("A & C", "AC"), ("A,C,D", "ACD"),
        ("The correct option is C: Paris", "C"), ("【A】", "A"), ("Option B is wrong, so C", "C"), ("選B", "B"),
        ("C is correct because A is false", "C"),
    ],
    "exact_match": [
        ("Beyoncé", "Beyoncé"), ("“Hamlet”", "Hamlet"), ("1914–1918", "1914-1918"), ("東京。", "東京"), ("e-mail", "email"),
        ("R&B", "R&B"), ("The Beatles", "beatles"), ("ﬂower", "flower"), ("Ⅳ", "IV"), ("C++", "c++"), ("40 °C", "40°C"),
        ("a", "A"), ("(UTC+3)", "UTC+3"),
        ("Beyoncé", "BEYONCÉ"), ("café", "café"), ("it’s", "its"), ("１２月", "12月"), ("東京（日本）", "東京(日本)"),
        ("¿Qué?", "qué"), ("№ 5", "No 5"), ("hello…", "hello"), ("St. John’s", "St Johns"), ("U.S.A.", "USA"),
        ("Mr. Smith", "Mr Smith"), ("\"War and Peace\"", "War and Peace"), ("A Tale of Two Cities", "Tale of Two Cities"),
        ("C♯", "C♯"), ("24/7", "24/7"), ("42.", "42"),
        ("½", "1/2"), ("1945 年", "1945年"),
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
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\4&3\end{pmatrix}"), ("x>=2", "x>2"),
        ("x^2", "2x"), ("x_1", "x_2"), ("f'(x)", "f(x)"), ("f'(x)", "f''(x)"), ("f(x)", "g(x)"), ("AB", "AC"),
        (r"\overline{AB}", r"\overline{AC}"), (r"\vec{AB}", r"\vec{BA}"), (r"5 \text{ cm}", r"5 \text{ mm}"),
        ("5 cm^2", "5 cm^3"), (r"\$5", "5 euros"), ("€5", "$5"), (r"30^\circ", r"30 \text{ radians}"), ("72°F", "72°C"),
        ("10:15", "10:51"), ("1:2", "1:3"), (r"x \equiv 2 \pmod 5", r"x \equiv 3 \pmod 5"),
        (r"n > 2 \text{ even}", r"n > 2 \text{ odd}"), ("no solution", "infinitely many solutions"), ("True", "False"),
        ("Yes", "No"), ("increasing", "decreasing"), (r"\text{A}", r"\text{B}"), (r"\log x", r"\log_2 x"),
        (r"\sinh x", r"\sin x"), (r"\arcsin x", r"\sin x"), (r"\max(a,b)", r"\min(a,b)"),
        (r"\lfloor x \rfloor", r"\lceil x \rceil"), (r"\binom{5}{2}", r"\binom{5}{1}"), ("n!", "(n+1)!"),
        ("(2n)!", "2n!"), ("2^{n+1}", "2^n+1"), (r"\frac{a+b}{c}", r"a+\frac{b}{c}"), ("(a+b)^2", "a+b^2"),
        ("a-(b-c)", "a-b-c"), (r"\sqrt{a+b}", r"\sqrt{a}+b"), ("-x^2", "(-x)^2"), ("2,3", "(3,2)"),
        ("(1,2),(3,4)", "(1,3),(2,4)"), ("[1,2)", "(1,2]"), (r"(1,2)\cup(3,4)", r"(1,2)\cap(3,4)"),
        (r"(1,2)\cup(3,4)", r"(1,2)\cup(3,5)"), ("x<1 or x>2", "x<1 and x>2"), ("x<2 and x>1", "x<2 or x>1"),
        (r"x \in (1,2)", r"x \notin (1,2)"), (r"\{1,2,3\}", r"\{1,2\}"), ("1,1,2", "1,2"), ("x=1, y=2", "x=2, y=1"),
        ("(2,1)", "x=1,y=2"), ("a=1, b=2", "1"), ("12_5", "12_6"), ("0.1", "0.01"), ("1000", "1,00"),
        (r"\frac{1}{2}", r"\frac{2}{1}"), ("3+4i", "3-4i"), ("e^x", "e^{-x}"), (r"\sin^2 x", r"\sin x^2"),
        (r"\int_0^1 x dx", r"\int_0^2 x dx"), (r"\sum_{n=1}^{5} n", r"\sum_{n=1}^{6} n"),
        (r"\lim_{x\to 0} x", r"\lim_{x\to 1} x"), (r"\frac{dy}{dx}", r"\frac{dx}{dy}"), (r"\alpha", r"\beta"),
        (r"x \le y", r"x \ge y"), (r"x \subset y", r"x \supset y"), (r"A \perp B", r"A \parallel B"),
        ("8", r"8 \text{ or } 9"), (r"8 \text{ or } 9", "8"), ("at least 5", "at most 5"), ("more than 5", "less than 5"),
        (r"5 \text{ if } n>0", r"5 \text{ if } n<0"), (r"5 \text{ if } n>0", "5"), ("10^{100}", "10^{101}"),
        ("1.0000000001", "1"), ("99999999999999999", "99999999999999998"), (r"\frac{1}{3}", "0.3333333"),
        ("3.14159", r"\pi"), ("4/2", "4/3"), ("2/4/8", "2/(4/8)"), ("1", "2"), (r"-\pm3", "3"), (r"\emptyset", r"\{0\}"),
        (r"\infty", "1"), ("May 5", "May 6"), ("1 May 1954", "May 1954"), ("3 or 4", "3 and 5"), ("100 m", "100 km"),
        ("1,2", "1.2"), ("even", "odd"), ("x^2+1=0", "x^2-1=0"), ("y=x^2", "x=y^2"), (r"(-\infty,2]", r"(-\infty,2)"),
        (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        ("2:30 pm", "2:30"), ("12:00 pm", "12:00 am"),
    ],
    "numeric": [
        ("2020", "2020-01"), ("5 or 6", "6"), ("10:30", "10"), ("1/2/2020", "1"), ("3, 4", "3"), ("between 3 and 5", "3"),
        ("5 km", "5 m"), ("$5", "€5"), ("3-5", "-2"), ("20-25", "20"), ("4th of July", "4"), ("3:4", "3"), ("-5", "5"),
        ("5%", "5"), ("x > 5", "5"), ("10²", "102"), ("3 to 5", "3"), ("1e-3", "1"), ("±5", "5"),
        ("6 or 7", "6"), ("6, 7", "6"), ("6-7", "6"), ("from 6 to 7", "7"), ("6:07", "6"), ("6/7/2020", "6"),
        ("June 7", "7"), ("2020-06-07", "7"), ("not 6", "6"), ("6 ≤ x", "6"), ("6 < x < 7", "6"), ("x ≠ 6", "6"),
        ("6±1", "6"), ("6", "7"), ("6 km", "6 miles"), ("6²", "6"), ("6!", "6"), ("√6", "6"), ("6i", "6"), ("6^2", "62"),
        ("six", "7"), ("1,234", "1.234"), ("1 2 3", "123"), ("6e2", "6"), (".6", "6"), ("6%", "600"), ("$6", "€6"),
        ("6 dollars", "6 cents"), ("6 hours", "6 minutes"), ("6", "5"), ("6/0", "6"), ("6=7", "6"), ("(6)(7)", "6"),
        ("(6, 7)", "6"), ("[6]", "7"), ("0x6", "6"), ("6th to 7th", "6"), ("6 dozen", "6"), ("minus 6", "6"),
        ("6 million", "6"), ("−6", "6"),
    ],
    "multiple_choice": [
        ("So A or B", "A"),
        ("A is correct only if B is", "A"),
        ("both A is right and B is right", "A"),
        ("but I am unsure", "I"),
        ("so a dog", "A"),
        ("A or B", "A"), ("A and B", "A"), ("not A", "A"), ("Vitamin C", "C"), ("A B C D", "A"),
        ("all of the above", "A"), ("I think so", "I"), ("K. Marx", "K"), ("(A), (B), (C)", "B"), ("答案不是A", "A"),
        ("A is wrong", "A"),
        ("A/B", "A"), ("A or C", "C"), ("either A or B", "B"), ("AB", "A"), ("(A)(B)", "A"), ("A, B", "A"), ("none", "A"),
        ("C", "D"), ("I. Newton", "I"), ("Plan B from outer space", "B"), ("not B", "B"), ("B is wrong", "B"),
        ("(A), maybe (B)", "A"), ("选A或B", "A"), ("answer is A or B", "B"), ("D", "E"), ("C is incorrect", "C"),
        ("The answer is not C", "C"), ("everything except A", "A"), ("A B", "A"), ("All: A, B, C, D", "D"),
    ],
    "exact_match": [
        ("10²", "102"), ("H₂O", "H2O2"), ("C#", "C"), ("A+", "A-"), ("A+", "A"), ("-5", "5"), ("F#", "F"),
        ("pH > 7", "pH < 7"), ("x ≤ 3", "x ≥ 3"), ("3½", "31/2"), ("②", "2"), ("Vitamin A", "Vitamin"), ("AB−", "AB+"),
        ("37°", "37"), ("GMT+1", "GMT-1"), ("$5", "€5"), ("it costs $5", "it costs €5"), ("5%", "5"), ("K+", "K"),
        ("Na+", "Na-"), ("no", "yes"), ("Vitamin A deficiency", "vitamin deficiency"), ("m/s", "ms"),
        ("-5°C", "5°C"), ("+5", "-5"), ("C+", "C"), ("C-", "C+"), ("F#", "Fb"), (".NET", "#NET"), ("x²", "x2"),
        ("x₂", "x2"), ("10⁶", "106"), ("H2O", "H2O2"), ("1,5", "15"), ("3:30", "330"), ("p < 0.05", "p > 0.05"),
        ("≥5", "≤5"), ("5 m", "5 km"), ("$10", "€10"), ("a", "the"), ("an", "a"), ("vitamin A", "vitamin"),
        ("Plan A", "Plan"), ("grade A", "grade"), ("A*", "A"), ("B−", "B"), ("O+", "O"), ("Na+", "Na"), ("e-", "e"),
        ("[-1,1]", "[1,1]"), ("AC/DC", "ACDC"), ("1914-1918", "19141918"), ("#1", "1"), ("@home", "home"), ("p", "q"),
        ("n=3", "n≠3"), ("3>2", "3<2"), ("x∈A", "x∉A"), ("no", "not"), ("①", "1"), ("Ⅳ", "V"), ("T−1", "T+1"),
        ("UTC−5", "UTC+5"), ("60°", "60"), ("ΔH = -5", "ΔH = 5"),
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
