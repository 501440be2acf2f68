r"""From tokens to a tree: a Pratt parser for LaTeX, plain text and Python's notation.

Levels, loosest first: items between commas, `and`, `or`; relations; unions; ratios; sums; products, also by juxtaposition;
signs; powers; what stands behind (`!`, `%`, `°`, subscripts).
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce

from arpo.rewards.mathematics.names import ALIASES, CONSTANTS, PROSE
from arpo.rewards.mathematics.tokens import NotReadError, Token
from arpo.rewards.mathematics.tree import EMPTY_SET, REAL_NUMBERS, Node, function, number, symbol
from arpo.rewards.mathematics.units import NO_UNIT, SCALES, Unit, find_unit, named_unit

MAX_DEPTH = 60
_RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!=", "~", "\\in", "\\notin", "\\equiv", "\\cong", "\\sim", "->", "=>",
                        "\\subset", "\\subseteq", "\\supset", "\\perp", "\\parallel", ":="})  # fmt: skip
_SET_OPERATORS = {"\\cup": "union", "\\cap": "intersection", "\\setminus": "difference"}
_CLOSING = frozenset({")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"})
_OPENING = frozenset(
    {"{", "[", "\\{", "\\frac", "\\binom", "\\infty", "\\pi", "\\lfloor", "\\lceil", "\\langle", "\\angle", "\\triangle"}
)
_PUNCTUATION = frozenset(",.;:!?'\"()[]")
_SEPARATORS = frozenset({",", ";"})
_OPAQUE = frozenset(
    {"\\int", "\\iint", "\\oint", "\\sum", "\\prod", "\\lim", "\\limsup", "\\sup", "\\inf", "\\partial", "\\nabla"}
)
_MATRICES = {"matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array", "vmatrix", "Vmatrix"}
_ROWS = {"cases", "aligned", "align", "align*", "gathered", "split", "dcases", "rcases"}
_WRAPPED_NAMES = frozenset({"\\angle", "\\triangle", "\\Delta", "\\measuredangle"})
_MAX_WORDS_OF_LETTERS = 4
_UNKNOWN_FUNCTIONS = frozenset(["f", "g", "h", "F", "G"])


def read(tokens: Sequence[Token]) -> Node | None:
    """The tree of tokens; None where they are no formula."""
    try:
        return parse(list(tokens))
    except (NotReadError, RecursionError):
        return None


def parse(tokens: list[Token]) -> Node:
    """The tree of tokens that end with an `end`.

    Raises:
        NotReadError: they are no formula.
    """
    parser = _Parser(tokens)
    tree = parser.items("")
    if parser.next.kind != "end" or tree is None:
        raise NotReadError(f"{parser.next.text!r} is out of place")
    return tree


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0
        self._bars = 0
        self._units: list[Unit] = []
        self._is_in_builder = False

    # ------------------------------------------------------------------ tokens
    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    def _peek(self, offset: int = 1) -> Token:
        return self._tokens[min(self._at + offset, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self.next
        self._at += token.kind != "end"
        return token

    def _is(self, *texts: str) -> bool:
        return self.next.kind in ("operator", "command") and self.next.text in texts

    def _accept(self, *texts: str) -> bool:
        if self._is(*texts):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise NotReadError(f"{text!r} is missing")

    def _is_word(self, *words: str) -> bool:
        token = self.next
        return (token.kind in ("word", "letters") and token.text.lower() in words) or (
            token.kind == "operator" and token.text in words
        )

    def _accept_word(self, *words: str) -> bool:
        if self._is_word(*words):
            self._at += 1
            return True
        return False

    # ------------------------------------------------------------------ items
    def items(self, brackets: str) -> Node | None:
        """Items with separators between them; one item stands for itself, none is None."""
        items, joins = list[Node](), set[str]()
        while True:
            if self._is_at_end():
                break
            items.append(self._item())
            join = self._separator()
            if join is None:
                break
            joins.add(join)
        if not items:
            return None
        if len(items) == 1 and not brackets:
            return items[0]
        return Node("group", tuple(items), brackets or ("or" if joins == {"or"} else "and" if joins == {"and"} else ""))

    def _is_at_end(self) -> bool:
        return self.next.kind == "end" or self._is(*_CLOSING) or (self._is("|") and self._bars > 0)

    def _separator(self) -> str | None:
        found = None
        while self._is(*_SEPARATORS) or self._is_word("and", "or"):
            text = self._take().text.lower()
            found = text if text in ("and", "or") else (found or ",")
        return found

    def _item(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotReadError("nested too deeply")
        self._skip_remark()
        tree = self._relation()
        self._skip_remark()
        self._depth -= 1
        return tree

    def _skip_remark(self) -> None:
        """`(since x > 0)` says why, not what."""
        if not (self._is("(") and self._peek().text.lower() in ("since", "because", "as")):
            return
        depth = 0
        while self.next.kind != "end":
            text = self._take().text
            depth += (text == "(") - (text == ")")
            if depth == 0:
                return

    def _relation(self) -> Node:
        self._accept("~")  # what is about 3.14 is given as 3.14
        first = self._quantity()
        signs, sides = list[str](), [first]
        while (self.next.kind == "operator" and self.next.text in _RELATIONS) or self._is_word("in"):
            sign = self._take().text.lower()
            signs.append({":=": "=", "in": "\\in"}.get(sign, sign))
            sides.append(self._quantity())
        tree = Node("relation", tuple(sides), " ".join(signs)) if signs else first
        if modulus := self._modulus():
            return Node("mod", (tree, modulus))
        return tree

    def _modulus(self) -> Node | None:
        if self._accept("\\pmod"):
            return self._argument()
        if self._is("(") and self._peek().text in ("mod", "\\bmod"):
            self._at += 2
            modulus = self._sum()
            self._expect(")")
            return modulus
        if self._accept_word("mod"):
            return self._sum()
        return None

    # ------------------------------------------------------------------ quantities
    def _quantity(self) -> Node:
        outer, self._units = self._units, []
        written = tree = self._sets()
        unit = self._unit()
        if unit is not None and not unit.powers:  # `8th`, `$3 million`
            written = tree = self._scaled_by(tree, unit)
            unit = None
        if unit is not None:
            self._units.append(unit)
            written, tree = tree, self._scaled_by(tree, unit)
            while self.next.kind == "number" or self._goes_on_with_smaller(unit):  # 2 hours 30 minutes
                self._accept_word("and")
                part, more = self._sum(), self._unit()
                if more is None or more.powers != unit.powers or not unit.powers:
                    raise NotReadError("two quantities in a row")
                written = tree = Node("add", (tree, self._scaled_by(part, more)))
        units, self._units = self._units, outer
        percent_or_degree = _outermost(tree)
        if percent_or_degree is not None:
            kind, tree = percent_or_degree
            written = tree
            unit = find_unit(kind) or Unit(Fraction(1), (("%", 1),))
            units = [*units, unit]
        if not units:
            return tree
        if len({u.powers for u in units}) > 1:
            raise NotReadError("several units")
        return Node("quantity", (tree, written), units[-1].name)

    def _goes_on_with_smaller(self, unit: Unit) -> bool:
        """Whether `and`, a number and a smaller unit of the kind follow: `2 hours and 30 minutes`, not `2 m and 3 m`."""
        if not (self._is_word("and") and self._peek().kind == "number"):
            return False
        smaller = find_unit(self._peek(2).text)
        return smaller is not None and smaller.powers == unit.powers and smaller.factor < unit.factor

    @staticmethod
    def _scaled_by(tree: Node, unit: Unit) -> Node:
        return tree if unit.factor == 1 else Node("mul", (tree, number(unit.factor)))

    def _unit(self) -> Unit | None:
        """The unit that stands here up to the end of the item; None, and nothing taken, where there is none."""
        begin, unit, power, is_first = self._at, NO_UNIT, 1, True
        scale = 1
        while True:
            token = self.next
            if token.kind in ("word", "letters", "symbol", "function") and token.text.lower() not in ("and", "or"):
                word = token.text
                if is_first and word.lower() in SCALES and (token.kind == "word" or len(word) > 1):
                    scale *= SCALES[word.lower()]
                    self._at += 1
                    continue
                if word.lower() in ("th", "st", "nd", "rd") and is_first and not token.is_spaced:
                    self._at += 1
                    break
                if word.lower() == "per":
                    power = -1
                    self._at += 1
                    continue
                squared = {"square": 2, "sq": 2, "cubic": 3, "squared": 0, "cubed": 0}.get(word.lower())
                if squared == 0:
                    break
                if squared:
                    self._at += 1
                    word = self.next.text
                if not self._may_be_unit(token if not squared else self.next, is_first and not squared):
                    break
                self._at += 1
                part = named_unit(word)
                exponent = squared or self._unit_power()
                unit = unit.times(part, exponent * power)
                is_first = False
            elif not is_first and self._is("/"):
                self._at += 1
                power = -1
                continue
            elif not is_first and self._is("*", "-") and self._peek().kind in ("word", "letters"):
                self._at += 1
                power = 1
                continue
            else:
                break
            if not self._is("/"):
                power = 1 if power == 1 else power
        found = unit if self._at > begin and self._ends_item() else None
        if found is None:
            self._at = begin
            return None
        return replace(found, factor=found.factor * scale)

    def _may_be_unit(self, token: Token, is_first: bool) -> bool:
        if token.text.lower() in PROSE - {"per"}:
            return False
        is_known = find_unit(token.text) is not None
        if token.is_set:
            return is_known or len(token.text) > 2
        before = self._tokens[self._at - 1] if self._at else None
        if is_first and (before is None or before.kind != "number"):
            return is_known and token.kind == "letters" and token.is_spaced and len(token.text) > 2
        if token.kind == "symbol":
            return is_known and (not is_first or token.is_spaced) and not any(t.text.startswith("\\") for t in self._tokens)
        return is_known

    def _unit_power(self) -> int:
        if not self._is("^"):
            if self.next.kind == "number" and not self.next.is_spaced and self.next.text in ("2", "3"):
                return int(self._take().text)
            if self._is_word("squared", "cubed"):
                return 2 if self._take().text.lower() == "squared" else 3
            return 1
        self._at += 1
        is_braced = self._accept("{")
        sign = -1 if self._accept("-") else 1
        token = self._take()
        if token.kind != "number" or token.number is None or token.number.denominator != 1 or token.number > 9:
            raise NotReadError("a unit's power")
        if is_braced:
            self._expect("}")
        return sign * int(token.number)

    def _ends_item(self) -> bool:
        if self._is_at_end() or self._is(*_SEPARATORS) or self._is_word("and", "or"):
            return True
        return self.next.kind == "number" or self._is("(") or (self.next.kind == "operator" and self.next.text in _RELATIONS)

    # ------------------------------------------------------------------ operators
    def _sets(self) -> Node:
        tree = self._ratio()
        while self.next.kind == "operator" and self.next.text in _SET_OPERATORS:
            kind = _SET_OPERATORS[self._take().text]
            tree = Node(kind, (tree, self._ratio()))  # pyright: ignore[reportArgumentType]
        return tree

    def _ratio(self) -> Node:
        first = self._at
        parts = [self._sum()]
        while self._is(":") and not self._is_in_builder:
            self._at += 1
            parts.append(self._sum())
        if len(parts) == 1:
            return parts[0]
        spelled = [t.text for t in self._tokens[first : self._at] if t.text != ":"]
        is_time = len(spelled) == len(parts) and all(re.fullmatch(r"\d\d", t) for t in spelled[1:])
        half = self._take().text.lower() if self._is_word("am", "pm") else ""
        return Node("ratio", tuple(parts), half or ("time" if is_time and len(spelled[0]) < 3 else ""))

    def _sum(self) -> Node:
        tree = self._product()
        while self._is("+", "-", "\\pm", "\\mp"):
            sign = self._take().text
            right = self._product()
            if sign == "+":
                tree = Node("add", (tree, right))
            elif sign == "-":
                tree = Node("add", (tree, Node("neg", (right,))))
            else:
                tree = Node("add", (tree, Node("plus_minus" if sign == "\\pm" else "minus_plus", (right,))))
        return tree

    def _product(self, *, is_argument: bool = False) -> Node:
        """Factors; as the argument of a function without brackets, those written side by side before the next function."""
        tree = self._signed()
        while True:
            if self._is("*") and not is_argument:
                self._at += 1
                tree = Node("mul", (tree, self._signed()))
            elif self._is("/") and self._peek().text == "/" and not is_argument:
                self._at += 2
                tree = function("floor", Node("div", (tree, self._signed())))
            elif self._is("/") and not is_argument:
                self._at += 1
                tree = Node("div", (tree, self._signed()))
            elif self._is_times_ten():
                self._at += 1
                tree = Node("mul", (tree, self._power()))
            elif self._starts_factor() and not (is_argument and self._starts_function()):
                tree = self._beside(tree)
            else:
                return tree

    def _is_times_ten(self) -> bool:
        return (
            self.next.text in ("x", "X") and self._tokens[self._at - 1].kind == "number" and self._peek().text == "10"
            and self._peek(2).text in ("^", "end", "")
        )  # fmt: skip

    def _beside(self, left: Node) -> Node:
        before, token = self._tokens[self._at - 1], self.next
        right = self._power()
        is_mixed = (
            left.kind == "number" and left.number is not None and left.number.denominator == 1 and before.kind == "number"
            and (token.text == "\\frac" or (token.number is not None and token.number.denominator > 1))
        )  # fmt: skip
        if is_mixed and left.decimals == 0 and (right.kind == "div" or right.kind == "number"):
            value = _rational(right)
            if value is not None and 0 < value < 1:
                return Node("add", (left, right))
        if token.kind == "number" and before.kind in ("symbol", "letters", "word"):
            raise NotReadError("a number behind a name")
        if token.kind == "number" and before.kind == "number":
            if token.is_spaced and self._is("/") and self._peek().kind == "number" and left.kind == "number":
                self._at += 1
                value = Node("div", (right, self._power()))
                part = _rational(value)
                if left.number is not None and left.number.denominator == 1 and part is not None and 0 < part < 1:
                    return Node("add", (left, value))
            raise NotReadError("two numbers in a row")
        return Node("mul", (left, right))

    def _starts_function(self) -> bool:
        return self.next.kind == "function"

    def _starts_factor(self) -> bool:
        token = self.next
        if token.kind in ("symbol", "function", "number", "currency"):
            return not (token.kind == "symbol" and self._is_unit_here())
        if token.kind == "letters":
            is_half_day = token.text.lower() in ("am", "pm") and self._tokens[self._at - 1].kind == "number"
            return not is_half_day and not self._is_unit_here()
        if token.kind == "word":
            return False
        if token.kind == "command":
            return token.text.startswith("\\begin") or token.text in _OPAQUE or token.text in CONSTANTS
        if token.text == "(":
            return self._peek().text.lower() not in ("mod", "\\bmod", "since", "because", "as")
        if token.text == "|":
            return self._bars == 0 and not self._is_in_builder
        return token.kind == "operator" and token.text in _OPENING

    def _is_unit_here(self) -> bool:
        begin, units = self._at, self._units
        try:
            return self._unit() is not None
        except NotReadError:
            return False
        finally:
            self._at, self._units = begin, units

    def _signed(self) -> Node:
        if self._accept("-"):
            return Node("neg", (self._signed(),))
        if self._accept("+"):
            return self._signed()
        if self._is("\\pm", "\\mp"):
            kind = "plus_minus" if self._take().text == "\\pm" else "minus_plus"
            return Node(kind, (self._product(),))
        return self._power()

    def _power(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotReadError("nested too deeply")
        tree = self._behind(self._primary())
        self._depth -= 1
        return tree

    def _behind(self, tree: Node) -> Node:
        while True:
            if self._is("!") and self._peek().text != "=":
                self._at += 1
                tree = Node("factorial", (tree,))
            elif self._is("%") and not self._starts_operand(self._peek()):
                self._at += 1
                tree = Node("percent", (tree,))
            elif self._is("\\circ") or (self._is("^") and self._is_degree()):
                self._at += {"^": 2 if self._peek().text == "\\circ" else 4}.get(self.next.text, 1)
                is_temperature = self.next.kind == "symbol" and self.next.text in ("C", "F")
                tree = Node("degree", (tree,), {"C": "celsius", "F": "fahrenheit"}[self._take().text] if is_temperature else "")
            elif self._is("'") and tree.kind in ("symbol", "unknown"):
                self._at += 1
                tree = replace(tree, name=tree.name + "'")
            elif self._is("_") and tree.kind in ("symbol", "number"):
                tree = self._subscript(tree)
            elif self._accept("^"):
                if self._is_ordinal():
                    continue
                exponent = self._exponent()
                tree = Node("pow", (tree, exponent))
            else:
                return tree

    def _starts_operand(self, token: Token) -> bool:
        return token.kind in ("number", "symbol", "letters", "function") or token.text == "("

    def _is_degree(self) -> bool:
        return self._peek().text == "\\circ" or (
            self._peek().text == "{" and self._peek(2).text == "\\circ" and self._peek(3).text == "}"
        )

    def _is_ordinal(self) -> bool:
        skip = 1 if self._is("{") else 0
        if self._peek(skip).text not in ("th", "st", "nd", "rd"):
            return False
        self._at += 2 * skip + 1
        return True

    def _exponent(self) -> Node:
        if self._is("{"):
            return self._argument()
        if self._accept("-"):
            return Node("neg", (self._exponent(),))
        if self._accept("+"):
            return self._exponent()
        if self._is("*", "'"):
            return symbol(self._take().text)
        tree = self._behind_power(self._primary())
        return tree

    def _behind_power(self, tree: Node) -> Node:
        """What is written behind an exponent without braces, `2**3**2` among it, belongs to it."""
        if self._is("^", "!"):
            return self._behind(tree)
        return tree

    def _subscript(self, tree: Node) -> Node:
        self._at += 1
        begin = self._at
        if self._is("{"):
            self._skip_group()
            inside = self._tokens[begin + 1 : self._at - 1]
        else:
            self._take()
            inside = self._tokens[begin : self._at]
        text = " ".join(t.text for t in inside)
        if tree.kind == "number":
            base = {"two": "2", "three": "3", "eight": "8", "ten": "10", "sixteen": "16"}.get(text, text)
            if tree.number is None or tree.number.denominator != 1:
                raise NotReadError("digits of a base")
            return Node("base", name=f"{tree.number} {base}")
        return replace(tree, name=f"{tree.name}_{text}")

    def _skip_group(self) -> None:
        depth = 0
        while self.next.kind != "end":
            text = self._take().text
            depth += (text == "{") - (text == "}")
            if depth == 0:
                return
        raise NotReadError("a brace is not closed")

    # ------------------------------------------------------------------ primaries
    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return self._literal(token)
        if token.kind == "symbol":
            return self._name(token)
        if token.kind == "letters":
            return self._run(token)
        if token.kind == "word":
            return self._word(token)
        if token.kind == "function":
            return self._function(token.text)
        if token.kind == "currency":
            self._units.append(named_unit(token.text) if token.text != "pound sterling" else find_unit("gbp") or NO_UNIT)
            return self._signed()
        if token.kind == "command":
            return self._special(token.text)
        if token.kind == "operator":
            return self._bracket(token.text)
        raise NotReadError("an operand is missing")

    def _literal(self, token: Token) -> Node:
        assert token.number is not None
        following = self.next
        if following.kind == "symbol" and "." in token.text and re.fullmatch(r"overline \d+", following.text):
            self._at += 1
            return _repeating(token.text, following.text.split()[1])
        decimals = len(token.text.partition(".")[2].partition("e")[0]) if "." in token.text else 0
        return number(token.number, decimals)

    def _name(self, token: Token) -> Node:
        if token.text in _UNKNOWN_FUNCTIONS and not self.next.is_spaced:
            name = token.text
            while self._is("'"):
                self._at += 1
                name += "'"
            if self._is("("):
                self._at += 1
                return Node("unknown", self._arguments(")"), name)
            return symbol(name)
        if token.text == "mathbb R":
            return REAL_NUMBERS
        return symbol(token.text)

    def _run(self, token: Token) -> Node:
        text = token.text
        for name in ("arcsin", "arccos", "arctan", "sin", "cos", "tan", "sqrt", "log", "ln"):
            if text.startswith(name) and len(text) == len(name) + 1:
                return function(ALIASES.get(name, name), symbol(text[-1]))
        if len(text) > _MAX_WORDS_OF_LETTERS and not self._is_between_operators():
            raise NotReadError(f"{text!r} is a word")
        if (text.isupper() or len(text) > _MAX_WORDS_OF_LETTERS or self._is("_")) or (self._is("=") and self._at == 1):
            return symbol(text)
        if self._is("(") and not self.next.is_spaced and len(text) > 2:
            self._at += 1
            return Node("unknown", self._arguments(")"), text)
        tree = symbol(text[0])
        for letter in text[1:]:
            tree = Node("mul", (tree, symbol(letter)))
        return tree

    def _is_between_operators(self) -> bool:
        """Whether the token taken last is part of a formula and not of a sentence."""
        around = [*self._tokens[max(0, self._at - 2) : self._at - 1], self.next]
        return any(t.kind == "operator" and t.text not in _PUNCTUATION for t in around)

    def _word(self, token: Token) -> Node:
        """A word is read where it is a name: with a value, a subscript or an argument."""
        words = [token.text]
        while self.next.kind == "word" and self.next.text.lower() not in PROSE and len(words) < 4:
            words.append(self._take().text)
        name = " ".join(words)
        if self._is("=") or (self._is("_") and len(words) == 1):
            return symbol(name)
        if self._is("(") and len(words) == 1 and token.text.lower() not in PROSE:
            self._at += 1
            return Node("unknown", self._arguments(")"), name)
        raise NotReadError(f"{name!r} is a word")

    def _function(self, name: str) -> Node:
        name = ALIASES.get(name, name)
        if name in ("Interval", "Union", "FiniteSet"):
            return self._set_of_python(name)
        if name in ("Rational", "Matrix"):
            self._expect("(")
            args = self._arguments(")")
            if name == "Rational" and len(args) == 2:
                return Node("div", args)
            return _matrix_of_lists(args[0]) if name == "Matrix" and len(args) == 1 else function(name, *args)
        index, power = None, None
        if name == "sqrt" and self._accept("["):
            index = self._sum()
            self._expect("]")
        while self._is("_", "^"):
            if self._take().text == "_":
                index = self._argument()
            else:
                power = self._argument()
        tree = self._applied(name, index)
        if power is None:
            return tree
        if _rational(power) == -1 and name in _INVERSES:
            return function(_INVERSES[name], *tree.args)
        return Node("pow", (tree, power))

    def _set_of_python(self, name: str) -> Node:
        """`Interval.Lopen(0, 1)`, `Union(...)` and `FiniteSet(...)`, as sympy prints them."""
        brackets = "[]"
        if self._accept("."):
            brackets = {"open": "()", "Lopen": "(]", "Ropen": "[)"}.get(self._take().text, "")
        self._expect("(")
        args = self._arguments(")")
        if name == "Interval" and len(args) == 2 and brackets:
            ends = [b if not a.find("infinity") else o for a, b, o in zip(args, brackets, "()", strict=True)]
            return Node("group", args, "".join(ends))
        if name == "Interval" or not args:
            raise NotReadError(f"{name} of what?")
        return reduce(lambda a, b: Node("union", (a, b)), args) if name == "Union" else Node("group", args, "{}")

    def _applied(self, name: str, index: Node | None) -> Node:
        if name in ("max", "min", "gcd", "lcm") and self._is("\\{"):
            self._at += 1
            args = self._arguments("\\}")
        elif self._is("(") or (self._is("[") and name != "sqrt"):
            close = ")" if self._take().text == "(" else "]"
            args = self._arguments(close)
        elif name in ("sqrt", "cbrt") or self._is("{"):
            args = (self._argument(is_split=False),)
        elif self._starts_factor() or self._is("-"):
            args = (self._product(is_argument=True),)
        else:
            raise NotReadError(f"{name} of what?")
        if name == "sqrt" and len(args) == 1:
            return function("root", args[0], index) if index is not None else function("sqrt", *args)
        if name == "cbrt":
            return function("root", args[0], number(3))
        if name == "log" and len(args) == 2:
            return function("log", args[0], args[1])
        return function(name, *args, *(() if index is None else (index,)))

    def _arguments(self, close: str) -> tuple[Node, ...]:
        outer, self._bars, builder = self._bars, 0, self._is_in_builder
        self._is_in_builder = False
        args = list[Node]()
        while not self._is(close):
            args.append(self._item())
            if not self._is(close) and not self._accept(*_SEPARATORS):
                raise NotReadError(f"{close!r} is missing")
        self._at += 1
        self._bars, self._is_in_builder = outer, builder
        return tuple(args)

    def _argument(self, *, is_split: bool = True) -> Node:
        r"""What a command applies to: a group, or one token, of a number its first digit as in `\frac12`."""
        if self._accept("{"):
            if self._accept("}"):
                raise NotReadError("an empty group")
            outer, self._bars, builder = self._bars, 0, self._is_in_builder
            self._is_in_builder = False
            tree = self._item()
            self._expect("}")
            self._bars, self._is_in_builder = outer, builder
            return tree
        token = self.next
        if is_split and token.kind == "number" and token.text.isdigit() and len(token.text) > 1:
            rest = token.text[1:]
            self._tokens[self._at] = Token("number", rest, Fraction(rest))
            return number(int(token.text[0]))
        return self._primary()

    def _special(self, name: str) -> Node:
        if name in ("pi", "Pi"):
            return symbol("pi")
        if name in CONSTANTS:
            return Node("infinity")
        if name == "\\begin":
            return self._environment()
        if name in _OPAQUE:
            begin = self._at
            while not self._is_at_end() and not (self.next.kind == "operator" and self.next.text in _RELATIONS):
                if self._is("{"):
                    self._skip_group()
                else:
                    self._at += 1
            return Node("opaque", name=" ".join(t.text for t in self._tokens[begin - 1 : self._at]))
        raise NotReadError(f"{name} is not known")

    def _bracket(self, text: str) -> Node:
        if text in ("(", "[", "\\{", "{"):
            return self._brackets(text)
        if text == "|":
            self._bars += 1
            inside = self._sum()
            self._bars -= 1
            self._expect("|")
            return function("abs", inside)
        if text == "\\frac":
            return Node("div", (self._argument(), self._argument()))
        if text == "\\binom":
            return function("binomial", self._argument(), self._argument())
        if text in ("\\lfloor", "\\lceil"):
            inside = self._sum()
            self._expect("\\rfloor" if text == "\\lfloor" else "\\rceil")
            return function("floor" if text == "\\lfloor" else "ceil", inside)
        if text == "\\langle":
            items = self._arguments("\\rangle")
            return Node("group", items, "()")
        if text == "\\infty":
            return Node("infinity")
        if text == "\\pi":
            return symbol("pi")
        if text == "\\emptyset":
            return EMPTY_SET
        if text in ("\\angle", "\\triangle"):
            name = ""
            while self.next.kind in ("symbol", "letters") and len(name) < 4:
                name += self._take().text
            return symbol(f"{text} {name}")
        if text == "...":
            return symbol("...")
        raise NotReadError(f"{text!r} is out of place")

    def _brackets(self, text: str) -> Node:
        outer, self._bars, builder = self._bars, 0, self._is_in_builder
        is_set = text == "\\{"
        self._is_in_builder = is_set
        inside = self.items("" if text in "({" else text)
        if is_set and (self._accept("|") or self._accept(":")):
            self._is_in_builder = False
            condition = self.items("")
            self._expect("\\}")
            self._bars, self._is_in_builder = outer, builder
            if inside is None or condition is None:
                raise NotReadError("an empty set-builder")
            variable = inside.args[0] if inside.kind == "group" and len(inside.args) == 1 else inside
            return Node("builder", (variable, condition))
        close = self._take().text
        self._bars, self._is_in_builder = outer, builder
        if text == "{" and close == "}":
            if inside is None:
                return EMPTY_SET
            return replace(inside, name="{}") if inside.kind == "group" and inside.name == "" else inside
        if is_set and close == "\\}":
            return EMPTY_SET if inside is None else replace(inside, name="{}")
        if text + close not in ("()", "[]", "(]", "[)") or inside is None:
            raise NotReadError(f"{text} and {close} are no pair")
        if inside.kind == "group" and inside.name in ("", "[", "and", "or"):
            return replace(inside, name=text + close)
        if text + close in ("()",):
            return inside
        raise NotReadError("half an interval")

    # ------------------------------------------------------------------ environments
    def _environment(self) -> Node:
        name = self._group_text()
        if name == "array" and self._is("{"):
            self._skip_group()
        rows = self._rows(name)
        if name in _MATRICES:
            kind = "det" if name in ("vmatrix", "Vmatrix") else ""
            return Node("matrix", tuple(Node("row", tuple(row)) for row in rows), kind)
        if name in _ROWS:
            return Node("cases", tuple(Node("case", tuple(row)) for row in rows))
        raise NotReadError(f"{name} is no environment of mathematics")

    def _group_text(self) -> str:
        self._expect("{")
        text = ""
        while not self._is("}") and self.next.kind != "end":
            text += self._take().text
        self._expect("}")
        return text

    def _rows(self, name: str) -> list[list[Node]]:
        rows, row = list[list[Node]](), list[Node]()
        is_cases = name in _ROWS
        outer, self._bars = self._bars, 0
        while True:
            if self._accept("\\end"):
                if self._group_text() != name:
                    raise NotReadError("environments are not nested")
                break
            if self._accept("\\\\"):
                rows.append(row)
                row = []
            elif self._accept("&") or (is_cases and self._accept(",")):
                continue
            else:
                row.append(self._cell(is_cases and bool(row)))
        self._bars = outer
        rows = [r for r in [*rows, row] if r]
        if not rows:
            raise NotReadError("an empty environment")
        return rows

    def _cell(self, is_condition: bool) -> Node:
        if is_condition:
            while self._accept_word("if", "for", "when", "where"):
                pass
            if self._accept_word("otherwise", "else"):
                return Node("word", name="otherwise")
        return self._item()


_INVERSES = {
    "sin": "arcsin", "cos": "arccos", "tan": "arctan", "sinh": "arcsinh", "cosh": "arccosh", "tanh": "arctanh", "cot": "arccot",
}  # fmt: skip


def _rational(tree: Node) -> Fraction | None:
    """The value of a literal, its opposite, or a quotient of them; None for anything else."""
    if tree.kind == "number":
        return tree.number
    if tree.kind == "neg":
        value = _rational(tree.args[0])
        return None if value is None else -value
    if tree.kind == "div":
        top, bottom = _rational(tree.args[0]), _rational(tree.args[1])
        return top / bottom if top is not None and bottom else None
    return None


def _repeating(text: str, period: str) -> Node:
    """`0.1` with period `3` is 2/15."""
    whole, _, fixed = text.partition(".")
    shift = 10 ** len(fixed)
    value = Fraction(int(whole or 0) * shift + int(fixed or 0), shift)
    return number(value + Fraction(int(period), shift * (10 ** len(period) - 1)))


def _matrix_of_lists(rows: Node) -> Node:
    if rows.kind != "group" or rows.name != "[]":
        raise NotReadError("Matrix of what?")
    is_nested = all(row.kind == "group" and row.name == "[]" for row in rows.args)
    return Node("matrix", tuple(Node("row", row.args if is_nested else (row,)) for row in rows.args))


def _outermost(tree: Node) -> tuple[str, Node] | None:
    """`degree` or `percent` with the tree inside it, where all of the tree is one of it: `-40°`, `1/2 %`."""
    if tree.kind in ("degree", "percent"):
        return tree.name or tree.kind, tree.args[0]
    if tree.kind in ("neg", "plus_minus"):
        found = _outermost(tree.args[0])
        return None if found is None else (found[0], replace(tree, args=(found[1],)))
    if tree.kind == "mul":
        found = _outermost(tree.args[-1])
        return None if found is None else (found[0], replace(tree, args=(tree.args[0], found[1])))
    if tree.kind == "add" and all(_outermost(arg) is not None for arg in tree.args):
        found = [_outermost(arg) for arg in tree.args]
        kinds = {f[0] for f in found if f is not None}
        if len(kinds) == 1:
            return kinds.pop(), replace(tree, args=tuple(f[1] for f in found if f is not None))
    return None
