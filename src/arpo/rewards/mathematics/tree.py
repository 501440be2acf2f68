"""The tree a formula is read into."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Kind = Literal[
    # scalars
    "number", "symbol", "add", "mul", "div", "pow", "neg", "plus_minus", "minus_plus", "factorial", "degree", "percent",
    "base", "function", "unknown", "opaque", "infinity",
    # collections: `name` is the pair of brackets
    "group", "union", "intersection", "difference", "builder", "empty", "matrix", "row", "cases", "case",
    # statements
    "relation", "ratio", "mod", "quantity", "word",
]  # fmt: skip
"""`unknown`: a function that is only a name, as in `f(x)`; `opaque`: an integral, a sum, a limit; `group`: items in brackets,
`name` `()`, `[]`, `(]`, `[)`, `{}` or empty for a bare list; `relation`: `name` the signs with blanks between, as in
`-2 <= x < 7`; `quantity`: a value and, as `name`, its unit."""


@dataclass(slots=True, frozen=True)
class Node:
    """A formula or a part of one."""

    kind: Kind
    args: tuple["Node", ...] = ()
    name: str = ""
    """Of a symbol, function, unit, bracket pair or relation; empty where the kind has none."""
    number: Fraction | None = None
    """The value of a `number`; None for every other kind."""
    decimals: int = 0
    """Digits behind the decimal point as written; 0 for integers and all that is no literal."""

    def find(self, *kinds: Kind) -> bool:
        """Whether a part of the tree, or all of it, is of one of the kinds."""
        return self.kind in kinds or any(arg.find(*kinds) for arg in self.args)

    def symbols(self) -> frozenset[str]:
        """Names of its symbols."""
        own = {self.name} if self.kind == "symbol" else set[str]()
        return frozenset(own.union(*(arg.symbols() for arg in self.args)))


def number(value: int | Fraction, decimals: int = 0) -> Node:
    """A literal."""
    return Node("number", number=Fraction(value), decimals=decimals)


def symbol(name: str) -> Node:
    """A name with a value."""
    return Node("symbol", name=name)


def function(name: str, *args: Node) -> Node:
    """A function with a meaning, applied."""
    return Node("function", args, name)


EMPTY_SET = Node("empty")
REAL_NUMBERS = Node("group", (Node("neg", (Node("infinity"),)), Node("infinity")), "()")
