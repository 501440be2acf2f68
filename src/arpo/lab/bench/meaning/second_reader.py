r"""A reader of its own, which decides whether a change of a formula changed its meaning.

It shares nothing with the graders: LaTeX is rewritten into Python's notation by replacement, Python's own parser reads that,
and numbers at random points are compared. Lists, intervals, relations, matrices and units are cut at their signs first.
"""

import ast
import cmath
import math
import operator
import random
import re
from collections.abc import Callable
from typing import Any, cast

_SIGN = re.compile(
    r"<=|>=|!=|=|<|>|\\in(?![a-z])|\\cup(?![a-z])|\\pm|\\mp|[,;:&%]|\\\\|\\(?:begin|end|text|mathrm|mbox)\s*\{[^{}]*\}"
    r"|\\[%$]|\^\s*\{?\s*\\circ\s*\}?|_\s*(?:\{[^{}]*\}|.)|'|!|\|"
)
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sqrt": cmath.sqrt, "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "ln": cmath.log, "log": cmath.log,
    "exp": cmath.exp, "abs": abs, "sinh": cmath.sinh, "cosh": cmath.cosh,
}  # fmt: skip
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: pow,
}  # fmt: skip
_GREEK = dict(zip(["alpha", "beta", "gamma", "theta", "rho", "phi", "lambda", "omega"], "AEGHJKLU", strict=True))
_BRACES = str.maketrans("{}", "()")
_POINTS = 4


def changes_meaning(text: str, changed: str) -> bool | None:
    """Whether the second text means something else than the first; None where one cannot be read here."""
    first, second = _skeleton(text), _skeleton(changed)
    if first is None or second is None:
        return None
    if first[0] != second[0] or len(first[1]) != len(second[1]):
        return True
    if first[0] == "=" and (same := _is_multiple(first[1], second[1])) is not None:
        return not same
    values = [[_values(part) for part in parts] for parts in (first[1], second[1])]
    if any(v is None for row in values for v in row):
        return None
    rows = cast(list[list[list[complex]]], values)
    if first[0].strip(",{}") == "":  # a bare list or a set has no order
        rows = [sorted(row, key=lambda v: (round(v[0].real, 9), round(v[0].imag, 9))) for row in rows]
    return any(not _are_close(x, y) for a, b in zip(*rows, strict=True) for x, y in zip(a, b, strict=True))


def _are_close(x: complex, y: complex) -> bool:
    if x == y or (isinstance(x, int) and isinstance(y, int)):
        return x == y
    try:
        return abs(x - y) <= 1e-9 * max(abs(x), abs(y))
    except OverflowError:
        return False


def _is_multiple(first: list[str], second: list[str]) -> bool | None:
    """Whether two equations are the same up to a factor."""
    if len(first) != 2 or len(second) != 2:
        return None
    sides = [_values(f"({a})-({b})") for a, b in (first, second)]
    if sides[0] is None or sides[1] is None or any(v == 0 for v in (*sides[0], *sides[1])):
        return None
    ratios = [x / y for x, y in zip(sides[0], sides[1], strict=True)]
    has_names = not _are_close(sides[0][0], sides[0][1])
    return has_names and all(abs(r - ratios[0]) <= 1e-9 * abs(ratios[0]) for r in ratios)


def _skeleton(text: str) -> tuple[str, list[str]] | None:
    """The signs between and around the scalars, and the scalars."""
    text = _plain(text)
    if re.search(r"\\[a-zA-Z]+|[^\x20-\x7e]", _SIGN.sub("", text)):
        return None
    signs, parts, part, depth = "", list[str](), "", 0
    is_enclosed = text[:1] in ("(", "[", "{") and text[-1:] in (")", "]", "}") and _encloses(text) and "," in text
    if is_enclosed:
        signs, text, end = text[0], text[1:-1], text[-1]
    else:
        end = ""
    for token in re.findall(rf"{_SIGN.pattern}|.", text, re.DOTALL):
        depth += (token in "([{") - (token in ")]}")
        if (depth == 0 or token.startswith("_")) and _SIGN.fullmatch(token):
            parts.append(part)
            signs += re.sub(r"\s", "", token)
            part = ""
        else:
            part += token
    parts.append(part)
    return signs + end, [p.strip() for p in parts if p.strip()]


def _encloses(text: str) -> bool:
    depth = 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return index == len(text) - 1
    return False


def _plain(text: str) -> str:
    text = text.strip().strip("$").rstrip(".").replace(r"\mid", "|")
    text = re.sub(r"_\{\\text\{([^{}]*)\}\}", r"_{\1}", text)
    text = re.sub(r"\\(?:left|right|displaystyle|,|;|!|:|quad)|(?<!\\)\\ ", "", text).replace(r"\{", "{").replace(r"\}", "}")
    text = re.sub(r"\\(?:leqslant|leq|le)(?![a-z])", "<=", re.sub(r"\\(?:geqslant|geq|ge)(?![a-z])", ">=", text))
    text = re.sub(r"\\neq?(?![a-z])", "!=", text)
    text = re.sub(r"\\(?:times|cdot)(?![a-z])", "*", text).replace(r"\div", "/").replace(r"\pi", " pi ")
    text = re.sub(r"\\infty|\\infin", " inf ", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text) if not re.search(r"[(\[{]", text) else text
    for _ in range(8):
        text = re.sub(r"\\[dt]?frac\s*(\d)\s*(\d)", r"((\1)/(\2))", text)
        text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r" sqrt(\1)", text)
        text = re.sub(r"\\sqrt\s*(\d)", r" sqrt(\1)", text)
        text = re.sub(r"\^\s*\{([^{}]*)\}", r"^(\1)", text)
    text = re.sub(r"\\(sin|cos|tan|ln|log|exp)\s*\(", r" \1(", text)
    text = re.sub(r"\\(sin|cos|tan|ln|log|exp)\s*\{([^{}]*)\}", r" \1(\2)", text)
    text = re.sub(r"\\(sin|cos|tan|ln|log|exp)\s*(\d+|[a-zA-Z])(?![\w(])", r" \1(\2)", text)
    text = re.sub(r"\\(alpha|beta|gamma|theta|rho|phi|lambda|omega)(?![a-z])", lambda m: f" {_GREEK[m[1]]} ", text)
    return re.sub(r"\s+", " ", text).strip()


def _values(part: str) -> list[complex] | None:
    """Values of a scalar at the points."""
    source = re.sub(r"\bpi\b", "π", part).replace("^", "**").translate(_BRACES)
    source = re.sub(r"(?<=[\dπ)])\s*(?=[a-zA-Zπ(])", "*", source)
    source = re.sub(r"(?<=[)])\s*(?=\d)", "*", source)
    source = re.sub(r"(?<![a-zA-Z])([a-z])\s*(?=\()", r"\1*", source)
    names = "|".join((*_FUNCTIONS, "inf"))
    source = re.sub(rf"(?!(?:{names})\b)\b[a-zA-Zπ]{{2,6}}\b", lambda m: "*".join(m[0]), source)
    source = re.sub(r"(?<=[a-zA-Zπ])\s+(?=[a-zA-Zπ\d])", "*", source) if not re.search(names, source) else source
    try:
        tree = ast.parse(source.strip(), mode="eval")
        return [_value(tree.body, point) for point in range(_POINTS)]
    except (SyntaxError, ValueError, TypeError, KeyError, ZeroDivisionError, OverflowError, RecursionError):
        return None


def _value(node: ast.expr, point: int) -> complex:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name):
        if node.id in ("π", "e", "inf"):
            return {"π": math.pi, "e": math.e, "inf": math.inf}[node.id]
        return random.Random(f"{node.id}{point}").uniform(0.3, 2.7)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, point)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, point), _value(node.right, point)
        if isinstance(node.op, ast.Pow) and abs(right) > 500:
            raise ValueError("too large")
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
        return _FUNCTIONS[node.func.id](_value(node.args[0], point))
    raise ValueError("no formula")
