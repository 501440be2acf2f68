"""Whether two trees mean the same: structure first, then scalars by value."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from arpo.rewards.mathematics.scalars import are_equal, constant, order, ratio_is_constant
from arpo.rewards.mathematics.solutions import same_solutions, solutions
from arpo.rewards.mathematics.tree import Node, number
from arpo.rewards.policy import GradingPolicy

_LISTS = ("", "and", "or")
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_MAX_SIGNS = 4


def same_meaning(answer: Node, reference: Node, policy: GradingPolicy) -> bool:
    """Whether an answer means what a reference means.

    Raises:
        LimitError: that cannot be told within the limits.
    """
    answer, reference = _one_imaginary_unit(answer, reference)
    return _Comparison(policy).same(_simplified(answer), _simplified(reference))


class _Comparison:
    def __init__(self, policy: GradingPolicy) -> None:
        self._is_lenient = policy == "lenient"

    def same(self, a: Node, b: Node) -> bool:
        """Whether `a`, of the answer, means what `b`, of the reference, means."""
        if a.kind == b.kind == "quantity":
            return a.name == b.name and self.same(a.args[0], b.args[0])
        if "quantity" in (a.kind, b.kind) and not {"relation", "group"} & {a.kind, b.kind}:
            return self._same_beside_unit(a, b)
        if "base" in (a.kind, b.kind):
            return self._same_base(a, b)
        if "relation" in (a.kind, b.kind):
            return self._same_statement(a, b)
        if a.kind == "group" and b.kind == "group":
            return self._same_group(a, b)
        rule = _RULES.get(a.kind)
        if rule is not None and a.kind == b.kind:
            return rule(self, a, b)
        if a.kind in _SETS or b.kind in _SETS:
            return self._same_set(a, b)
        if a.kind in _RULES or b.kind in _RULES or a.kind == "group" or b.kind == "group":
            return self._same_as_matrix(a, b)
        return self._same_scalar(a, b)

    # ------------------------------------------------------------------ what one side alone names
    def _same_beside_unit(self, a: Node, b: Node) -> bool:
        named, plain = (a, b) if a.kind == "quantity" else (b, a)
        value, written = named.args
        if named.name == "%":
            is_share = self.same(*_ordered(Node("div", (value, number(100))), plain, swapped=named is b))
            return is_share or (self._is_lenient and named is b and self.same(plain, written))
        return self._is_lenient and self.same(*_ordered(written, plain, swapped=named is b))

    def _same_base(self, a: Node, b: Node) -> bool:
        if a.kind == b.kind:
            return a.name == b.name
        if b.kind != "base" or not self._is_lenient:
            return False
        digits = b.name.split()[0]
        return a.kind == "number" and a.number is not None and digits.isdigit() and a.number == int(digits) and not a.decimals

    # ------------------------------------------------------------------ statements
    def _same_statement(self, a: Node, b: Node) -> bool:
        first, second = _named_value(a), _named_value(b)
        if first is not None and second is not None:
            return (first[0] == second[0] and self.same(first[1], second[1])) or self._same_relation(a, b)
        if first is not None and b.kind != "relation" and not _has_statements(b):
            return self.same(first[1], b)
        if second is not None and a.kind != "relation" and not _has_statements(a):
            return self.same(a, second[1])
        if a.kind == b.kind and self._same_relation(a, b):
            return True
        calculated = _calculated(a) if a.kind == "relation" else _calculated(b)
        if calculated is not None and a.kind != b.kind:
            return self.same(*((calculated, b) if a.kind == "relation" else (a, calculated)))
        return self._same_set(a, b)

    def _same_relation(self, a: Node, b: Node) -> bool:
        if len(a.args) != len(b.args):
            return False
        if self._same_sides(a, b) or self._same_sides(a, _mirrored(b)):
            return True
        if len(a.args) != 2:
            return False
        if a.name == b.name == "=":
            return self._are_multiples(a, b, is_positive=False)
        for other in (b, _mirrored(b)):
            if other.name == a.name and a.name in _FLIPPED and self._are_multiples(a, other, is_positive=True):
                return True
        return False

    def _same_sides(self, a: Node, b: Node) -> bool:
        return a.name == b.name and all(self.same(x, y) for x, y in zip(a.args, b.args, strict=True))

    def _are_multiples(self, a: Node, b: Node, *, is_positive: bool) -> bool:
        f, g = (Node("add", (t.args[0], Node("neg", (t.args[1],)))) for t in (a, b))
        names = f.symbols() - {"pi", "e", "i"}
        if not names or names != g.symbols() - {"pi", "e", "i"} or f.find(*_NO_SCALARS) or g.find(*_NO_SCALARS):
            return False
        return ratio_is_constant(f, g, is_positive=is_positive)

    # ------------------------------------------------------------------ collections
    def _same_group(self, a: Node, b: Node) -> bool:
        brackets = {a.name if a.name not in _LISTS else "", b.name if b.name not in _LISTS else ""}
        if len(brackets) == 2 and brackets not in ({"", "()"}, {"", "{}"}):
            return False
        if "{}" in brackets:
            return self._covers(a, b) and self._covers(b, a, swapped=True)
        if len(a.args) != len(b.args):
            return False
        if brackets == {""} and _has_statements(a) == _has_statements(b):
            if {a.name, b.name} & {"or", "and"} and a.find("relation") and b.find("relation") and a.name != b.name:
                return self._same_set(a, b)
            return self._matches(a.args, b.args) or self._same_set(a, b)
        return all(self.same(x, y) for x, y in zip(a.args, b.args, strict=True))

    def _covers(self, a: Node, b: Node, *, swapped: bool = False) -> bool:
        return all(any(self.same(*_ordered(x, y, swapped=swapped)) for y in b.args) for x in a.args)

    def _matches(self, a: tuple[Node, ...], b: tuple[Node, ...], same: Callable[[Node, Node], bool] | None = None) -> bool:
        """Whether the items are the same in some order."""
        same, left = same or self.same, list(b)
        for item in a:
            index = next((i for i, other in enumerate(left) if same(item, other)), None)
            if index is None:
                return False
            del left[index]
        return not left

    def _same_set(self, a: Node, b: Node) -> bool:
        first, second = solutions(a), solutions(b)
        if first is not None and second is not None:
            return same_solutions(first, second)
        if a.kind == b.kind and a.kind in ("union", "intersection"):
            return self._matches(_flattened(a), _flattened(b))
        return a.kind == b.kind and a.name == b.name and len(a.args) == len(b.args) and a.kind in _SETS and all(
            self.same(x, y) for x, y in zip(a.args, b.args, strict=True)
        )  # fmt: skip

    def _same_cases(self, a: Node, b: Node) -> bool:
        return self._matches(a.args, b.args, self._same_row)

    def _same_row(self, a: Node, b: Node) -> bool:
        return len(a.args) == len(b.args) and all(self.same(x, y) for x, y in zip(a.args, b.args, strict=True))

    def _same_matrix(self, a: Node, b: Node) -> bool:
        return a.name == b.name and self._same_rows(a, b)

    def _same_rows(self, a: Node, b: Node) -> bool:
        return len(a.args) == len(b.args) and all(self._same_row(x, y) for x, y in zip(a.args, b.args, strict=True))

    def _same_as_matrix(self, a: Node, b: Node) -> bool:
        """Nested lists, as Python prints a matrix, are that matrix."""
        matrices = [_matrix(tree) for tree in (a, b)]
        return matrices[0] is not None and matrices[1] is not None and self._same_rows(matrices[0], matrices[1])

    def _same_ratio(self, a: Node, b: Node) -> bool:
        a, b = _by_24_hours(a), _by_24_hours(b)
        if len(a.args) != len(b.args):
            return False
        if all(self.same(x, y) for x, y in zip(a.args, b.args, strict=True)):
            return a.name == b.name or {a.name, b.name} <= {"", "time"}
        if "" not in (a.name, b.name) or {a.name, b.name} & {"am", "pm"}:
            return False
        values = [[constant(arg) for arg in tree.args] for tree in (a, b)]
        if any(v is None or v == 0 for row in values for v in row):
            return False
        factors = {Fraction(x or 0) / Fraction(y or 1) for x, y in zip(*values, strict=True)}
        return len(factors) == 1

    def _same_mod(self, a: Node, b: Node) -> bool:
        return self.same(a.args[0], b.args[0]) and self.same(a.args[1], b.args[1])

    def _same_word(self, a: Node, b: Node) -> bool:
        return a.name == b.name

    # ------------------------------------------------------------------ scalars
    def _same_scalar(self, a: Node, b: Node) -> bool:
        if a.find("infinity") or b.find("infinity"):
            return (
                a.find("infinity")
                and b.find("infinity")
                and (a == b or (_is_infinity(a) and _is_infinity(b) and order(a, b) == 0))
            )
        return are_equal(a, b)


_RULES: dict[str, Callable[[_Comparison, Node, Node], bool]] = {
    "matrix": _Comparison._same_matrix, "cases": _Comparison._same_cases, "ratio": _Comparison._same_ratio,
    "mod": _Comparison._same_mod, "word": _Comparison._same_word,
}  # fmt: skip
_SETS = frozenset({"union", "intersection", "difference", "builder", "empty"})
_NO_SCALARS = (
    "group",
    "matrix",
    "cases",
    "relation",
    "infinity",
    "union",
    "quantity",
    "opaque",
    "builder",
    "word",
    "ratio",
    "base",
)


def _by_24_hours(tree: Node) -> Node:
    """`3:30 pm` is 15:30, `12:30 am` is 0:30; any other tree is itself."""
    hour = constant(tree.args[0])
    if tree.name not in ("am", "pm") or hour is None or not 1 <= hour <= 12:
        return tree
    return replace(tree, args=(number(hour % 12 + (12 if tree.name == "pm" else 0)), *tree.args[1:]), name="time")


def _ordered(x: Node, y: Node, *, swapped: bool) -> tuple[Node, Node]:
    return (y, x) if swapped else (x, y)


def _has_statements(tree: Node) -> bool:
    """Whether it is a list of statements, as `x = 1, y = 2`, whose values have an order."""
    return tree.kind == "group" and any(arg.kind == "relation" for arg in tree.args)


def _is_infinity(tree: Node) -> bool:
    return tree.kind == "infinity" or (tree.kind == "neg" and _is_infinity(tree.args[0]))


def _mirrored(tree: Node) -> Node:
    signs = [_FLIPPED.get(sign, sign) for sign in reversed(tree.name.split())]
    if any(sign in ("\\in", "\\notin", "->", "=>") for sign in signs):
        return tree
    return replace(tree, args=tuple(reversed(tree.args)), name=" ".join(signs))


def _matrix(tree: Node) -> Node | None:
    if tree.kind == "matrix":
        return tree
    is_nested = tree.kind == "group" and tree.name == "[]" and all(r.kind == "group" and r.name == "[]" for r in tree.args)
    return Node("matrix", tuple(Node("row", row.args) for row in tree.args)) if is_nested else None


def _flattened(tree: Node) -> tuple[Node, ...]:
    return tuple(part for arg in tree.args for part in (_flattened(arg) if arg.kind == tree.kind else (arg,)))


def _is_name(tree: Node) -> bool:
    """Whether a side of an equation only names what the other side says: `x`, `F_1`, `f(x)`, not `x^2`."""
    if tree.kind == "symbol":
        return tree.name not in ("pi", "e", "i")
    if tree.kind == "unknown":
        return all(arg.kind in ("symbol", "number") for arg in tree.args)
    if tree.kind == "mul":  # P(A), written like a product
        return tree.args[0].kind == tree.args[1].kind == "symbol" and tree.args[0].name != tree.args[1].name
    return False


def _named_value(tree: Node) -> tuple[Node, Node] | None:
    """Name and value of `name = value`, also of `name = calculation = value`; None for any other tree."""
    if tree.kind != "relation":
        return None
    signs = set(tree.name.split())
    if signs not in ({"="}, {"~"}, {"\\equiv"}, {"=", "~"}):
        return None
    first, last = tree.args[0], tree.args[-1]
    if len(tree.args) == 2 and not _is_name(first) and _is_name(last):
        first, last = last, first
    if not _is_name(first) or (first.symbols() & last.symbols() and first.kind == "symbol"):
        return None
    if len(tree.args) > 2:
        values = [constant(side) for side in tree.args[1:]]
        if len(set(values)) != 1 or values[0] is None:
            return None
    return first, last


def _calculated(tree: Node) -> Node | None:
    """The last side of a calculation that is right: 11 of `5 + 6 = 11`; None for any other tree."""
    if tree.kind != "relation" or set(tree.name.split()) != {"="} or tree.symbols() - {"pi", "e", "i"}:
        return None
    if any(side.find(*_NO_SCALARS) for side in tree.args):
        return None
    last = tree.args[-1]
    return last if all(are_equal(side, last) for side in tree.args[:-1]) else None


def _one_imaginary_unit(a: Node, b: Node) -> tuple[Node, Node]:
    """Python writes the imaginary unit `I`; it is `i` where the other side has `i` and no `I`."""
    names = a.symbols(), b.symbols()
    if "I" in names[0] and "i" not in names[0] and "i" in names[1] and "I" not in names[1]:
        return _renamed(a, "I", "i"), b
    if "I" in names[1] and "i" not in names[1] and "i" in names[0] and "I" not in names[0]:
        return a, _renamed(b, "I", "i")
    return a, b


def _renamed(tree: Node, old: str, new: str) -> Node:
    name = new if tree.kind == "symbol" and tree.name == old else tree.name
    return replace(tree, name=name, args=tuple(_renamed(arg, old, new) for arg in tree.args))


def _simplified(tree: Node) -> Node:
    r"""The tree with `\pm` written out, systems as lists of equations, and `x = 1, x = 2` as `x = 1, 2`."""
    if tree.find("plus_minus", "minus_plus"):
        tree = _without_signs(tree)
    if tree.kind == "quantity" and not {"group", "relation"} & {tree.args[0].kind}:
        return tree
    if tree.kind == "cases" and all(len(row.args) == 1 for row in tree.args):
        tree = Node("group", tuple(row.args[0] for row in tree.args))
    if tree.kind == "relation" and tree.name == "=" and (parts := _pairs(tree)):
        tree = Node("group", parts)
    if tree.kind == "group" and tree.name in _LISTS:
        flat = tuple(part for arg in tree.args for part in (_pairs(arg) or (arg,)))
        tree = _of_one_name(replace(tree, args=flat))
    return tree


def _without_signs(tree: Node) -> Node:
    if tree.kind == "group" and tree.name in (*_LISTS, "{}"):
        args = list[Node]()
        for arg in tree.args:
            found = _without_signs(arg) if arg.find("plus_minus", "minus_plus") else arg
            args += found.args if found is not arg and found.kind == "group" and found.name == "" else [found]
        return replace(tree, args=tuple(args))
    if tree.kind == "relation" and len(tree.args) == 2 and tree.args[1].kind == "group" and tree.args[1].name in _LISTS:
        return replace(tree, args=(tree.args[0], _without_signs(tree.args[1])))
    return Node("group", tuple(_with_sign(tree, sign) for sign in (1, -1)))


def _with_sign(tree: Node, sign: int) -> Node:
    args = tuple(_with_sign(arg, sign) for arg in tree.args)
    if tree.kind in ("plus_minus", "minus_plus"):
        is_plus = (tree.kind == "plus_minus") == (sign == 1)
        return args[0] if is_plus else Node("neg", args)
    return replace(tree, args=args)


def _pairs(tree: Node) -> tuple[Node, ...]:
    """`(x, y) = (1, 2)` is `x = 1, y = 2`; empty for any other tree."""
    if tree.kind != "relation" or tree.name != "=" or len(tree.args) != 2:
        return ()
    names, values = tree.args
    is_pair = names.kind == values.kind == "group" and names.name == values.name == "()"
    if not is_pair or len(names.args) != len(values.args) or not all(n.kind == "symbol" for n in names.args):
        return ()
    return tuple(Node("relation", pair, "=") for pair in zip(names.args, values.args, strict=True))


def _of_one_name(tree: Node) -> Node:
    """`x = 1, x = 2` and `x = 1, 2` are one name with several values."""
    first = _named_value(tree.args[0])
    if first is None or first[0].kind != "symbol" or len(tree.args) < 2:
        return tree
    values = [first[1]]
    for arg in tree.args[1:]:
        named = _named_value(arg)
        if (named is not None and named[0] != first[0]) or (named is None and arg.kind == "relation"):
            return tree
        values.append(arg if named is None else named[1])
    return Node("relation", (first[0], Node("group", tuple(values), "")), "=")
