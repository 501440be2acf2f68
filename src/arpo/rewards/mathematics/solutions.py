r"""What a statement about one variable says as a set of numbers: `-2 \le x < 7` is `[-2,7)`."""

from dataclasses import dataclass
from functools import cmp_to_key

from arpo.rewards.mathematics.scalars import are_equal, order
from arpo.rewards.mathematics.tree import Node

INFINITY = Node("infinity")
MINUS_INFINITY = Node("neg", (INFINITY,))
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(slots=True, frozen=True)
class Piece:
    """An interval."""

    low: Node
    high: Node
    has_low: bool
    has_high: bool


@dataclass(slots=True, frozen=True)
class Solutions:
    """A union of intervals, and the variable it is about."""

    variable: str
    """Empty where none is named."""
    pieces: tuple[Piece, ...]


def solutions(tree: Node) -> Solutions | None:
    """The set a tree states; None where it is no statement about one variable and no set of intervals."""
    if tree.kind == "empty":
        return Solutions("", ())
    if tree.kind == "group" and tree.name in ("()", "[]", "(]", "[)"):
        return _interval(tree)
    if tree.kind == "group" and tree.name == "{}":
        return Solutions("", tuple(Piece(item, item, True, True) for item in tree.args))
    if tree.kind == "union" or (tree.kind == "group" and tree.name == "or"):
        return _union([solutions(arg) for arg in tree.args])
    if tree.kind == "group" and tree.name in ("and", "") and len(tree.args) == 2:
        return _between(*(solutions(arg) for arg in tree.args)) if all(a.kind == "relation" for a in tree.args) else None
    if tree.kind == "builder":
        found = solutions(tree.args[1])
        if found is None or tree.args[0].kind != "symbol" or found.variable != tree.args[0].name:
            return None
        return Solutions("", found.pieces)
    if tree.kind == "relation":
        return _of_relation(tree)
    return None


def same_solutions(a: Solutions, b: Solutions) -> bool:
    """Whether both are the same set, of the same variable where both name one."""
    if a.variable and b.variable and a.variable != b.variable:
        return False
    if len(a.pieces) != len(b.pieces):
        return False
    left = list(b.pieces)
    for piece in a.pieces:
        found = next((other for other in left if _same_piece(piece, other)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_piece(a: Piece, b: Piece) -> bool:
    return (a.has_low, a.has_high) == (b.has_low, b.has_high) and same_end(a.low, b.low) and same_end(a.high, b.high)


def same_end(a: Node, b: Node) -> bool:
    """Whether two ends of intervals, infinite ones among them, are equal."""
    if a.find("infinity") or b.find("infinity"):
        return order(a, b) == 0 if a.find("infinity") and b.find("infinity") else False
    return are_equal(a, b)


def _interval(tree: Node) -> Solutions | None:
    if len(tree.args) != 2:
        return None
    low, high = tree.args
    return Solutions("", (Piece(low, high, tree.name[0] == "[", tree.name[1] == "]"),))


def _union(parts: list[Solutions | None]) -> Solutions | None:
    variables, pieces = set[str](), list[Piece]()
    for part in parts:
        if part is None:
            return None
        variables.add(part.variable)
        pieces += part.pieces
    return Solutions(variables.pop(), _sorted(pieces)) if len(variables) == 1 else None


def _sorted(pieces: list[Piece]) -> tuple[Piece, ...]:
    return tuple(sorted(pieces, key=cmp_to_key(lambda a, b: order(a.low, b.low) or 0)))


def _between(a: Solutions | None, b: Solutions | None) -> Solutions | None:
    """`x > 1 and x < 3`: the one bounds below, the other above."""
    if a is None or b is None or a.variable != b.variable or len(a.pieces) != 1 or len(b.pieces) != 1:
        return None
    first, second = a.pieces[0], b.pieces[0]
    if first.low == MINUS_INFINITY:
        first, second = second, first
    if first.high != INFINITY or second.low != MINUS_INFINITY or first.low == MINUS_INFINITY or second.high == INFINITY:
        return None
    if order(first.low, second.high) != -1:
        return None
    return Solutions(a.variable, (Piece(first.low, second.high, first.has_low, second.has_high),))


def _of_relation(tree: Node) -> Solutions | None:
    signs, sides = tree.name.split(), tree.args
    if signs == ["\\in"] and sides[0].kind == "symbol":
        inside = solutions(sides[1])
        return None if inside is None or inside.variable else Solutions(sides[0].name, inside.pieces)
    if len(signs) == 2 and sides[1].kind == "symbol" and _one_way(signs):
        (low, high), (first, second) = (sides[0], sides[2]), signs
        if first[0] == ">":
            low, high, first, second = high, low, second, first
        has = ("=" in first and not low.find("infinity"), "=" in second and not high.find("infinity"))
        return Solutions(sides[1].name, (Piece(low, high, *has),))
    if len(signs) != 1 or signs[0] not in (*_FLIPPED, "!="):
        return None
    sign, left, right = signs[0], sides[0], sides[1]
    if left.kind != "symbol" and right.kind == "symbol":
        sign, left, right = _FLIPPED.get(sign, sign), right, left
    if left.kind != "symbol" or left.name in right.symbols():
        return None
    has_end = "=" in sign and sign != "!="
    below, above = Piece(MINUS_INFINITY, right, False, has_end), Piece(right, INFINITY, has_end, False)
    return Solutions(left.name, {"<": (below,), ">": (above,), "!": (below, above)}[sign[0]])


def _one_way(signs: list[str]) -> bool:
    return all(s in ("<", "<=") for s in signs) or all(s in (">", ">=") for s in signs)
