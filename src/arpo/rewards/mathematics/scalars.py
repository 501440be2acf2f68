"""Whether two scalars are equal: exactly where they are rational, else at points in high precision."""

import time
from collections.abc import Mapping
from fractions import Fraction

from arpo.rewards.mathematics.tree import Node
from arpo.rewards.mathematics.values import (
    DIGITS,
    SECONDS,
    Evaluation,
    LimitError,
    UndefinedError,
    Value,
    context,
)  # fmt: skip

NUM_POINTS = 6
_MIN_DECIMALS = 6


def constant(tree: Node) -> Fraction | None:
    """The value of a tree that is rational without doubt; None for any other."""
    if tree.kind == "number":
        return tree.number
    if tree.symbols() or tree.find("opaque", "unknown"):
        return None
    try:
        value = Evaluation(0, DIGITS[0], time.thread_time() + SECONDS, {}).value(tree)
    except (LimitError, UndefinedError):
        return None
    return value if isinstance(value, Fraction) else None


def number_of(tree: Node) -> Fraction | None:
    """The value of a tree without symbols, of an irrational one to 40 digits; None where it has none."""
    if tree.symbols() - {"pi", "e"} or tree.find("opaque", "unknown"):
        return None
    try:
        evaluation = Evaluation(0, DIGITS[0], time.thread_time() + SECONDS, {})
        value = evaluation.value(tree)
        if isinstance(value, Fraction):
            return value
        if evaluation.is_complex(value) or abs(evaluation.mp.mag(value)) > 20_000:
            return None
        sign, mantissa, exponent, _ = evaluation.mp.mpf(value.real)._mpf_
        return (-1) ** sign * Fraction(int(mantissa)) * Fraction(2) ** exponent
    except (LimitError, UndefinedError):
        return None


def are_equal(a: Node, b: Node) -> bool:
    """Whether two scalars are equal at every point.

    A decimal with six digits or more behind the point stands for the irrational number it is rounded or cut from.

    Raises:
        LimitError: that cannot be told within the limits.
    """
    if a == b and not a.find("opaque"):
        return True
    if a.find("opaque") or b.find("opaque"):
        return a == b
    first, second = constant(a), constant(b)
    if first is not None and second is not None:
        return first == second
    names = (a.symbols() | b.symbols()) - {"pi", "e", "i"}
    if not names and (first is not None or second is not None) and _is_decimal_of(a, b):
        return True
    points = NUM_POINTS if names or a.find("unknown") or b.find("unknown") else 1
    deadline = time.thread_time() + SECONDS
    seen = 0
    for point in range(points):
        same = _same_at(a, b, point, deadline)
        if same is False:
            return False
        seen += same is True
    return seen > 0 and seen * 2 >= points


def _same_at(a: Node, b: Node, point: int, deadline: float, known: Mapping[str, Fraction] | None = None) -> bool | None:
    """Whether both have one value at a point; None where neither has one there."""
    differences, scale = list[Value](), None
    for digits in DIGITS:
        evaluation = Evaluation(point, digits, deadline, known or {})
        values = [_value(evaluation, tree) for tree in (a, b)]
        if values[0] is None or values[1] is None:
            return None if values[0] is None and values[1] is None else False
        if isinstance(values[0], Fraction) and isinstance(values[1], Fraction):
            return values[0] == values[1]
        x, y = evaluation.real(values[0]), evaluation.real(values[1])
        difference, scale = abs(x - y), max(abs(x), abs(y))
        if difference == 0 or difference <= scale * evaluation.mp.mpf(10) ** (12 - digits):
            if digits == DIGITS[-1]:
                return True
        elif digits == DIGITS[0] and difference > evaluation.mp.mpf(10) ** -25 * scale and scale > 0 and difference > 1e-20:
            return False
        differences.append(difference)
    mp = context(DIGITS[-1])
    shrinks = mp.mpf(differences[0]) * mp.mpf(10) ** -30 >= differences[-1]
    return bool(shrinks and differences[-1] < mp.mpf(10) ** -50)


def _value(evaluation: Evaluation, tree: Node) -> Value | None:
    try:
        return evaluation.value(tree)
    except UndefinedError:
        return None


def ratio_is_constant(a: Node, b: Node, *, is_positive: bool = False) -> bool:
    """Whether one is the other times a number other than 0, the same at all points; `is_positive`: a positive one.

    Raises:
        LimitError: that cannot be told within the limits.
    """
    deadline = time.thread_time() + SECONDS
    ratios = list[Value]()
    for point in range(NUM_POINTS):
        evaluation = Evaluation(point, DIGITS[-1], deadline, {})
        x, y = _value(evaluation, a), _value(evaluation, b)
        if x is None or y is None:
            if (x is None) != (y is None):
                return False
            continue
        if y == 0 or x == 0:
            return False
        ratios.append(x / y if isinstance(x, Fraction) and isinstance(y, Fraction) else evaluation.real(x) / evaluation.real(y))
    if len(ratios) * 2 < NUM_POINTS:
        return False
    first = ratios[0]
    tolerance = context(DIGITS[-1]).mpf(10) ** -50
    if any(abs(r - first) > (0 if isinstance(r - first, Fraction) else tolerance * abs(first)) for r in ratios):
        return False
    return not is_positive or (not hasattr(first, "_mpc_") and first > 0)


def order(a: Node, b: Node) -> int | None:
    """-1, 0 or 1 as the first constant is below, at or above the second; None where that is not known."""
    signs = [_infinite(a), _infinite(b)]
    if signs != [0, 0]:
        return (signs[0] > signs[1]) - (signs[0] < signs[1])
    x, y = number_of(a), number_of(b)
    if x is None or y is None:
        return None
    return (x > y) - (x < y)


def _infinite(tree: Node) -> int:
    if tree.kind == "infinity":
        return 1
    return -_infinite(tree.args[0]) if tree.kind == "neg" else 0


def _is_decimal_of(a: Node, b: Node) -> bool:
    for decimal, exact in ((a, b), (b, a)):
        literal = decimal.args[0] if decimal.kind == "neg" else decimal
        if literal.kind != "number" or literal.decimals < _MIN_DECIMALS or constant(exact) is not None:
            continue
        value, wanted = constant(decimal), number_of(exact)
        if value is None or wanted is None or abs(value) < Fraction(1000, 10**literal.decimals):
            continue
        if abs(value - wanted) < Fraction(1, 10**literal.decimals) and abs(value) <= abs(wanted) + Fraction(
            1, 2 * 10**literal.decimals
        ):
            return True
    return False
