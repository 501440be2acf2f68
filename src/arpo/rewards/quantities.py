"""The number a text states, with its unit: `1.95 m`, `$3.5 million`, `90°`, `about 12 km/h`, `5+6=11`.

A text that states several numbers, a range, a date, a time or a ratio states no number.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from arpo.rewards.answer_text import is_date, parse_number
from arpo.rewards.formulas import read_formula
from arpo.rewards.mathematics.names import PROSE, words
from arpo.rewards.mathematics.scalars import constant, number_of
from arpo.rewards.mathematics.tokens import clean
from arpo.rewards.mathematics.tree import Node
from arpo.rewards.mathematics.units import find_unit, named_unit

_ABOUT = re.compile(
    r"^(?:about|approximately|approx\.?|around|roughly|nearly|circa|ca\.|~|≈|\\approx|\\sim|≅|约)\s*", re.IGNORECASE
)
_RANGE = re.compile(r"\$?[\d.,]+\s*%?\s*(?:-|to|bis)\s*\$?[\d.,]+\s*%?(?:\s*[^\W\d_]+)?", re.ASCII)
_INDIAN = re.compile(r"(?<![\d,.])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])", re.ASCII)
_UNDERSCORED = re.compile(r"(?<![\w.])\d{1,3}(?:_\d{3})+(?![\w])", re.ASCII)
_COUNTRY = re.compile(r"\b(?:US|AU|CA|NZ|HK|A|C|S)(?=\$\s*\d)")
_OWN_UNIT = re.compile(r"(?P<number>.*[\d)}½¼¾⅓⅔])\s*(?P<unit>[^\W\d_][^\d,;:=+*<>()\[\]{}\\]*)", re.DOTALL)
_NO_UNITS = PROSE | words("to minus plus negative times half squared cubed less more fewer dozen factorial percent x")
_MAX_LENGTH = 200


@dataclass(slots=True, frozen=True)
class Quantity:
    """A number with its unit."""

    value: Fraction
    """In the unit's base unit where it is a known one; of a percentage the share."""
    written: Fraction
    """In the unit as written; of a percentage the number before the sign."""
    unit: str
    """The base unit, or the words as they stand; empty when there is none."""
    is_integer: bool
    """Whether it was written without a decimal point, fraction or percent sign."""
    is_percentage: bool = False
    """Whether it has a percent sign."""


@lru_cache(maxsize=10_000)
def read_quantity(text: str) -> Quantity | None:
    r"""The quantity a text is, None for any other text.

    Known: what `parse_number` knows, powers of ten, calculations, `x = 18`, `about` and its like before it, `hundred` to
    `trillion`, digits grouped in any convention, a currency sign, and a unit behind it, which is converted where the table
    knows it and kept as words where it does not.

    Example:
        read_quantity("1.95 m") == read_quantity("195 cm"); read_quantity("$3.5 million").value == 3_500_000
        read_quantity("in 1999") is None; read_quantity("18 or 19") is None
    """
    if len(text) > _MAX_LENGTH:
        return None
    text = _ABOUT.sub("", clean(text), count=1).strip()
    text = _INDIAN.sub(lambda m: m[0].replace(",", ""), _UNDERSCORED.sub(lambda m: m[0].replace("_", ""), text))
    text = _COUNTRY.sub("", text)
    bare = None if re.search(r"[$€£¥%]", text) else parse_number(text)
    if bare is not None:
        return Quantity(bare, bare, "", is_integer=_is_integer(text))
    if is_date(text) or _RANGE.fullmatch(text):
        return None
    tree = read_formula(text)
    found = _stated(tree) if tree is not None else None
    return found if found is not None or (tree is not None and not tree.symbols()) else _with_own_unit(text)


def _stated(tree: Node) -> Quantity | None:
    if tree.kind == "relation" and set(tree.name.split()) <= {"=", "~"}:
        is_named_behind = tree.args[-1].kind == "symbol" and tree.args[-1].name not in ("pi", "e")
        return _stated(tree.args[0] if is_named_behind and len(tree.args) == 2 else tree.args[-1])
    if tree.kind == "quantity":
        return _with_unit(tree)
    if tree.kind == "group" and tree.name == "and" and all(arg.kind == "quantity" for arg in tree.args):
        parts = [_with_unit(arg) for arg in tree.args]  # 5 feet and 3 inches
        if any(p is None for p in parts) or len({p.unit for p in parts if p}) != 1:
            return None
        total = sum((p.value for p in parts if p), Fraction(0))
        return Quantity(total, total, parts[0].unit if parts[0] else "", is_integer=False)
    value = number_of(tree)
    return None if value is None else Quantity(value, value, "", is_integer=_is_whole(tree))


def _with_unit(tree: Node) -> Quantity | None:
    value, written = number_of(tree.args[0]), number_of(tree.args[1])
    if value is None or written is None:
        return None
    if tree.name == "%":
        return Quantity(value / 100, written, "", is_integer=False, is_percentage=True)
    return Quantity(value, written, tree.name, is_integer=_is_whole(tree.args[1]))


def _with_own_unit(text: str) -> Quantity | None:
    """A number with words behind it that are no known unit: `5 apples`."""
    found = _OWN_UNIT.fullmatch(text)
    if found is None:
        return None
    names = re.findall(r"[^\W\d_]+", found["unit"].lower())
    if not names or len(names) > 4 or len(names[0]) == 1 or any(name in _NO_UNITS for name in names):
        return None
    number = read_quantity(found["number"].strip())
    if number is None or (number.unit and find_unit(number.unit) is None):
        return None
    unit = " ".join([*names[:-1], named_unit(names[-1]).name])
    return Quantity(number.written, number.written, number.unit or unit, is_integer=number.is_integer)


def _is_whole(tree: Node) -> bool:
    """Whether it is an integer and written as one, or calculated from such."""
    value = constant(tree)
    return value is not None and value.denominator == 1 and not _has_decimals(tree)


def _has_decimals(tree: Node) -> bool:
    return tree.decimals > 0 or any(_has_decimals(arg) for arg in tree.args)


def _is_integer(text: str) -> bool:
    return not re.search(r"\.\d|/|%|frac|e-", text)
