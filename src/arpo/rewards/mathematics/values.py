"""The value of a formula: an exact fraction where it is rational, else a number of high precision.

Symbols get values from their names, so that two formulas can be compared at the same points. Everything is bounded: integers of
some thousand digits, powers and factorials beyond that as floating-point numbers with an exponent of their own, and a deadline
in seconds of computing.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from threading import local
from typing import Any, cast

from arpo.rewards.mathematics.tree import Node

DIGITS = (40, 80)
"""Decimal digits of the two precisions a difference is looked at in."""
SECONDS = 2.0
"""Most seconds of computing of one comparison."""
_MAX_BITS = 60_000
_MAX_MAGNITUDE = 1 << 60
_MAX_ARGUMENT_BITS = 4_000

Value = Any
"""A Fraction, or one of mpmath's real or complex numbers."""


class LimitError(Exception):
    """The value is beyond the limits of size or time."""


class UndefinedError(Exception):
    """There is no value: division by zero, or what is no scalar."""


_thread = local()


def context(digits: int) -> Any:
    """Mpmath's arithmetic of so many digits; each thread has its own."""
    contexts = cast(dict[int, Any], _thread.__dict__.setdefault("contexts", {}))
    if digits not in contexts:
        from mpmath.ctx_mp import MPContext

        contexts[digits] = MPContext()
        contexts[digits].dps = digits
    return contexts[digits]


def symbol_value(name: str, point: int) -> Fraction:
    """The value of a symbol at a point: positive at even points, of either sign at odd ones, never an integer."""
    seed = zlib.crc32(f"{name}|{point}".encode())
    value = Fraction(seed % 9973 + 1013, 2 * (seed // 9973 % 997) + 2503)
    return -value if point % 2 and seed % 3 else value


@dataclass(slots=True)
class Evaluation:
    """Evaluates trees at one point in one precision."""

    point: int
    digits: int
    deadline: float
    """In seconds of the thread's computing time."""
    known: Mapping[str, Fraction]
    """Values of symbols that are not drawn from their names."""

    @property
    def mp(self) -> Any:
        """Mpmath in this precision."""
        return context(self.digits)

    def value(self, tree: Node) -> Value:
        """The value of a tree.

        Raises:
            LimitError: it is beyond the limits.
            UndefinedError: it has none.
        """
        if time.thread_time() > self.deadline:
            raise LimitError
        if tree.kind == "number":
            return tree.number
        rule = _RULES.get(tree.kind)
        if rule is None:
            raise UndefinedError(tree.kind)
        try:
            return self._checked(rule(self, tree))
        except (ZeroDivisionError, ValueError, TypeError) as error:
            raise UndefinedError(str(error)) from error
        except (OverflowError, MemoryError) as error:
            raise LimitError from error

    def real(self, value: Value) -> Value:
        """The value as one of mpmath's numbers."""
        if isinstance(value, Fraction):
            return self.mp.mpf(value.numerator) / value.denominator
        return value

    def _checked(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            return value if value.numerator.bit_length() + value.denominator.bit_length() < _MAX_BITS else self.real(value)
        if not self.mp.isfinite(value):
            raise UndefinedError
        if abs(self.mp.mag(value)) > _MAX_MAGNITUDE and value != 0:
            raise LimitError
        return value

    def is_complex(self, value: Value) -> bool:
        """Whether it has an imaginary part."""
        return not isinstance(value, Fraction) and hasattr(value, "_mpc_") and value.imag != 0

    def small(self, value: Value) -> Value:
        """The value as a number fit for an elementary function.

        Raises:
            LimitError: it is so large that reducing it would take long.
        """
        value = self.real(value)
        if value != 0 and self.mp.mag(value) > _MAX_ARGUMENT_BITS:
            raise LimitError
        return value


def _symbol(ev: Evaluation, tree: Node) -> Value:
    name = tree.name
    if name in ev.known:
        return ev.known[name]
    if name == "pi":
        return +ev.mp.pi
    if name == "e":
        return +ev.mp.e
    if name == "i":
        return ev.mp.mpc(0, 1)
    return symbol_value(name, ev.point)


def _add(ev: Evaluation, tree: Node) -> Value:
    return _both(ev, tree, lambda a, b: a + b)


def _mul(ev: Evaluation, tree: Node) -> Value:
    return _both(ev, tree, lambda a, b: a * b)


def _div(ev: Evaluation, tree: Node) -> Value:
    return _both(ev, tree, lambda a, b: a / b)


def _both(ev: Evaluation, tree: Node, operation: Callable[[Value, Value], Value]) -> Value:
    a, b = ev.value(tree.args[0]), ev.value(tree.args[1])
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return operation(a, b)
    return operation(ev.real(a), ev.real(b))


def _neg(ev: Evaluation, tree: Node) -> Value:
    return -ev.value(tree.args[0])


def _pow(ev: Evaluation, tree: Node) -> Value:
    base_tree, exponent_tree = tree.args
    if base_tree.kind == "symbol" and base_tree.name == "e" and "e" not in ev.known:
        return ev.mp.exp(_bounded(ev, ev.value(exponent_tree), 60))
    return power(ev, ev.value(base_tree), ev.value(exponent_tree))


def _bounded(ev: Evaluation, value: Value, bits: int) -> Value:
    value = ev.real(value)
    if value != 0 and ev.mp.mag(value) > bits:
        raise LimitError
    return value


def power(ev: Evaluation, base: Value, exponent: Value) -> Value:
    """The power; of a negative number, the real root where the exponent's denominator is odd."""
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        n = exponent.numerator
        if isinstance(base, Fraction):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(n)
            if bits < _MAX_BITS or (abs(base) == 1 and abs(n) < 1 << 60):
                return base**n if abs(base) != 1 else (base if n % 2 else Fraction(1))
            if base == 0:
                return base**n
        if n.bit_length() > 60:
            raise LimitError
        return ev.real(base) ** n
    if isinstance(exponent, Fraction) and not ev.is_complex(base):
        negative = (base if isinstance(base, Fraction) else base.real) < 0
        if negative and exponent.denominator % 2:
            return (-1) ** (exponent.numerator % 2) * power(ev, -base, exponent)
        if isinstance(base, Fraction) and not negative and (root := _exact_root(base, exponent.denominator)) is not None:
            return power(ev, root, Fraction(exponent.numerator))
    base = ev.real(base)
    if base == 0:
        return base ** ev.real(exponent)
    return ev.mp.exp(_bounded(ev, ev.real(exponent) * ev.mp.log(base), 60))


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    parts = [_integer_root(part, degree) for part in (value.numerator, value.denominator)]
    return None if None in parts else Fraction(cast(int, parts[0]), cast(int, parts[1]))


def _integer_root(value: int, degree: int) -> int | None:
    if value < 2:
        return value
    if degree > value.bit_length():
        return None
    low, high = 1, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        if middle**degree < value:
            low = middle + 1
        else:
            high = middle
    return low if low**degree == value else None


def _factorial(ev: Evaluation, tree: Node) -> Value:
    return factorial(ev, ev.value(tree.args[0]))


def factorial(ev: Evaluation, n: Value) -> Value:
    """n!, exact where it has some thousand digits at most."""
    if isinstance(n, Fraction) and n.denominator == 1 and 0 <= n <= 4000:
        return Fraction(_integer_factorial(int(n)))
    return ev.mp.gamma(_bounded(ev, ev.real(n) + 1, 50))


@cache
def _integer_factorial(n: int) -> int:
    import math

    return math.factorial(n)


def _degree(ev: Evaluation, tree: Node) -> Value:
    return ev.real(ev.value(tree.args[0])) * ev.mp.pi / 180


def _percent(ev: Evaluation, tree: Node) -> Value:
    return ev.value(tree.args[0]) / 100


def _quantity(ev: Evaluation, tree: Node) -> Value:
    value = ev.value(tree.args[0])
    if tree.name == "degree":
        return ev.real(value) * ev.mp.pi / 180
    if tree.name == "%":
        return value / 100
    raise UndefinedError("a unit")


def _group(ev: Evaluation, tree: Node) -> Value:
    if len(tree.args) != 1:
        raise UndefinedError
    return ev.value(tree.args[0])


def _unknown(ev: Evaluation, tree: Node) -> Value:
    """A function of which nothing is known: some smooth one that its name chooses."""
    total = ev.real(symbol_value(tree.name, 0))
    for index, arg in enumerate(tree.args):
        factor = ev.real(symbol_value(f"{tree.name}{index}", 2))
        total += ev.mp.sin(factor * ev.small(ev.value(arg)) + index + 1) * (index + 2)
    return total


def _function(ev: Evaluation, tree: Node) -> Value:
    args = [ev.value(arg) for arg in tree.args]
    exact = _EXACT.get(tree.name)
    if exact is not None:
        return exact(ev, args)
    rule = _ELEMENTARY.get(tree.name)
    if rule is None or len(args) != 1:
        raise UndefinedError(tree.name)
    return rule(ev.mp, ev.small(args[0]))


def _log(ev: Evaluation, args: list[Value]) -> Value:
    if any(not ev.is_complex(a) and (a if isinstance(a, Fraction) else a.real) <= 0 for a in args):
        raise UndefinedError  # as in the reals, so that ln|x| is not ln x
    value = ev.mp.log(ev.real(args[0]))
    return value if len(args) == 1 else value / ev.mp.log(ev.real(args[1]))


def _extreme(choose: Callable[..., Value]) -> Callable[[Evaluation, list[Value]], Value]:
    def rule(ev: Evaluation, args: list[Value]) -> Value:
        if any(ev.is_complex(a) for a in args):
            raise UndefinedError
        return choose(args) if all(isinstance(a, Fraction) for a in args) else choose([ev.real(a) for a in args])

    return rule


def _integers(operation: Callable[..., int]) -> Callable[[Evaluation, list[Value]], Value]:
    def rule(ev: Evaluation, args: list[Value]) -> Value:
        if not all(isinstance(a, Fraction) and a.denominator == 1 for a in args):
            raise UndefinedError
        return Fraction(operation(*(int(a) for a in args)))

    return rule


def _floor(ev: Evaluation, args: list[Value], *, is_up: bool = False) -> Value:
    import math

    if isinstance(args[0], Fraction):
        return Fraction(math.ceil(args[0]) if is_up else math.floor(args[0]))
    value = ev.small(args[0])
    return (ev.mp.ceil if is_up else ev.mp.floor)(value)


def _binomial(ev: Evaluation, args: list[Value]) -> Value:
    import math

    n, k = args
    if isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1 and 0 <= k <= n <= 4000:
        return Fraction(math.comb(int(n), int(k)))
    return ev.mp.binomial(_bounded(ev, n, 40), _bounded(ev, k, 40))


def _absolute(ev: Evaluation, args: list[Value]) -> Value:
    return abs(args[0]) if isinstance(args[0], Fraction) else abs(ev.real(args[0]))


def _sign(ev: Evaluation, args: list[Value]) -> Value:
    return Fraction((args[0] > 0) - (args[0] < 0))


def _math(name: str) -> Callable[..., int]:
    import math

    return cast(Callable[..., int], getattr(math, name))


_EXACT: dict[str, Callable[[Evaluation, list[Value]], Value]] = {
    "sqrt": lambda ev, a: power(ev, a[0], Fraction(1, 2)),
    "root": lambda ev, a: power(ev, a[0], 1 / a[1] if isinstance(a[1], Fraction) else 1 / ev.real(a[1])),
    "abs": _absolute,
    "floor": _floor,
    "ceil": lambda ev, a: _floor(ev, a, is_up=True),
    "max": _extreme(max),
    "min": _extreme(min),
    "gcd": _integers(_math("gcd")),
    "lcm": _integers(_math("lcm")),
    "binomial": _binomial,
    "factorial": lambda ev, a: factorial(ev, a[0]),
    "log": _log,
    "ln": _log,
    "lg": lambda ev, a: _log(ev, [a[0], Fraction(10)]),
    "exp": lambda ev, a: ev.mp.exp(_bounded(ev, a[0], 60)),
    "sgn": _sign,
    "Re": lambda ev, a: ev.real(a[0]).real,
    "Im": lambda ev, a: ev.real(a[0]).imag,
}
_ELEMENTARY: dict[str, Callable[[Any, Value], Value]] = {
    "sin": lambda mp, x: mp.sin(x), "cos": lambda mp, x: mp.cos(x), "tan": lambda mp, x: mp.tan(x),
    "cot": lambda mp, x: mp.cot(x), "sec": lambda mp, x: mp.sec(x), "csc": lambda mp, x: mp.csc(x),
    "sinh": lambda mp, x: mp.sinh(x), "cosh": lambda mp, x: mp.cosh(x), "tanh": lambda mp, x: mp.tanh(x),
    "coth": lambda mp, x: mp.coth(x), "sech": lambda mp, x: mp.sech(x), "csch": lambda mp, x: mp.csch(x),
    "arcsin": lambda mp, x: mp.asin(x), "arccos": lambda mp, x: mp.acos(x), "arctan": lambda mp, x: mp.atan(x),
    "arccot": lambda mp, x: mp.acot(x), "arcsec": lambda mp, x: mp.asec(x), "arccsc": lambda mp, x: mp.acsc(x),
    "arcsinh": lambda mp, x: mp.asinh(x), "arccosh": lambda mp, x: mp.acosh(x), "arctanh": lambda mp, x: mp.atanh(x),
    "arcoth": lambda mp, x: mp.acoth(x), "arg": lambda mp, x: mp.arg(x),
}  # fmt: skip
_RULES: dict[str, Callable[[Evaluation, Node], Value]] = {
    "symbol": _symbol, "add": _add, "mul": _mul, "div": _div, "neg": _neg, "pow": _pow, "factorial": _factorial,
    "degree": _degree, "percent": _percent, "quantity": _quantity, "group": _group, "unknown": _unknown, "function": _function,
}  # fmt: skip
