r"""Names with a meaning: commands, functions, Greek letters, and the words that are prose."""


def _listed(text: str) -> list[str]:
    return text.split()


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


FUNCTIONS = words(
    "sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec arccsc asin acos atan acot "
    "arcsinh arccosh arctanh arcoth arsinh arcosh artanh asinh acosh atanh log ln lg exp sqrt cbrt root abs floor ceil "
    "ceiling max min gcd lcm det sgn sign Re Im arg binomial factorial comb Rational Fraction Abs Max Min Matrix re im "
    "Interval Union FiniteSet"
)
ALIASES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "acot": "arccot", "asinh": "arcsinh", "acosh": "arccosh",
    "atanh": "arctanh", "arsinh": "arcsinh", "arcosh": "arccosh", "artanh": "arctanh", "ceiling": "ceil", "Abs": "abs",
    "Max": "max", "Min": "min", "sign": "sgn", "comb": "binomial", "Fraction": "Rational", "re": "Re", "im": "Im",
}  # fmt: skip
CONSTANTS = frozenset({"pi", "oo", "inf", "infinity", "Infinity", "Pi"})
GREEK = {
    name: name.removeprefix("var")
    for name in _listed(
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma tau "
        "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega ell hbar"
    )
}
"""Letters by their command; `var` forms are forms of the same letter."""
_GREEK_CHARACTERS = dict(
    zip(
        "αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΣΦΨΩϕϵϑℓ",
        _listed(
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
            "Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega phi epsilon theta ell"
        ),
        strict=True,
    )
)
UNICODE = {character: f"\\{name} " for character, name in _GREEK_CHARACTERS.items()} | {
    "π": "\\pi ", "√": "\\sqrt ", "∛": "\\sqrt[3]", "∞": "\\infty ", "±": "\\pm ", "∓": "\\mp ", "×": "\\times ", "÷": "\\div ",
    "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ", "•": "\\cdot ", "≤": "\\le ", "≥": "\\ge ", "⩽": "\\le ", "⩾": "\\ge ",
    "≠": "\\ne ", "≈": "\\approx ", "≡": "\\equiv ", "∈": "\\in ", "∉": "\\notin ", "∪": "\\cup ", "∩": "\\cap ",
    "∅": "\\emptyset ", "∖": "\\setminus ", "→": "\\to ", "∠": "\\angle ", "⌊": "\\lfloor ", "⌋": "\\rfloor ",
    "⌈": "\\lceil ", "⌉": "\\rceil ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}",
    "ℂ": "\\mathbb{C}", "°": "\\degree ", "∣": "|", "⟨": "\\langle ", "⟩": "\\rangle ", "∑": "\\sum ", "∫": "\\int ",
    "⁄": "/", "∕": "/", "∧": "\\land ", "∨": "\\lor ", "∆": "\\Delta ", "△": "\\triangle ", "⊥": "\\perp ", "∥": "\\parallel ",
    "º": "\\degree ", "µ": "\\mu ",
}  # fmt: skip
COMMANDS = {
    "\\cdot": "*", "\\times": "*", "\\ast": "*", "\\div": "/", "\\pm": "\\pm", "\\mp": "\\mp", "\\le": "<=", "\\leq": "<=",
    "\\leqslant": "<=", "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", "\\lt": "<", "\\gt": ">", "\\ne": "!=", "\\neq": "!=",
    "\\approx": "~", "\\simeq": "~", "\\in": "\\in", "\\equiv": "\\equiv", "\\cong": "\\cong", "\\sim": "\\sim",
    "\\notin": "\\notin", "\\to": "->", "\\rightarrow": "->", "\\implies": "=>", "\\Rightarrow": "=>", "\\Longrightarrow": "=>",
    "\\cup": "\\cup", "\\cap": "\\cap", "\\setminus": "\\setminus", "\\backslash": "\\setminus", "\\{": "\\{", "\\}": "\\}",
    "\\lbrace": "\\{", "\\rbrace": "\\}", "\\mid": "|", "\\vert": "|", "\\lvert": "|", "\\rvert": "|", "\\colon": ":",
    "\\langle": "\\langle", "\\rangle": "\\rangle", "\\lfloor": "\\lfloor", "\\rfloor": "\\rfloor", "\\lceil": "\\lceil",
    "\\rceil": "\\rceil", "\\%": "%", "\\degree": "\\circ", "\\circ": "\\circ", "\\emptyset": "\\emptyset",
    "\\varnothing": "\\emptyset", "\\land": "and", "\\wedge": "and", "\\lor": "or", "\\vee": "or", "\\ldots": "...",
    "\\dots": "...", "\\cdots": "...", "\\lparen": "(", "\\rparen": ")", "\\lbrack": "[", "\\rbrack": "]", "\\_": "_",
    "\\prime": "'", "\\subset": "\\subset", "\\subseteq": "\\subseteq", "\\supset": "\\supset", "\\perp": "\\perp",
    "\\parallel": "\\parallel", "\\mod": "mod", "\\bmod": "mod", "\\colonequals": "=", "\\&": "&&", "\\#": "#",
    "\\frac": "\\frac", "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\binom": "\\binom",
    "\\dbinom": "\\binom", "\\tbinom": "\\binom", "\\infty": "\\infty", "\\infin": "\\infty", "\\pi": "\\pi",
    "\\angle": "\\angle", "\\measuredangle": "\\angle", "\\triangle": "\\triangle",
}  # fmt: skip
"""Commands that are operators, by their one spelling."""
SPACES = frozenset(
    ["\\,", "\\;", "\\:", "\\!", "\\ ", "\\>", "\\quad", "\\qquad", "\\thinspace", "\\medspace", "\\enspace", "\\\n"]
)
STYLES = words(
    r"\left \right \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \biggl \biggr \Biggl \Biggr \middle \displaystyle "
    r"\textstyle \scriptstyle \limits \nolimits \mathstrut \( \) \[ \]"
)
TEXTS = words(
    r"\text \textbf \textit \textrm \textsf \texttt \textnormal \mathrm \mathbf \mathit \mathsf \mathtt \mbox \hbox "
    r"\operatorname \operatorname* \mathop \emph \boldsymbol \bm \mathbb \mathcal \textcolor \color \boxed"
)
ACCENTS = words(r"\vec \overrightarrow \bar \hat \tilde \widehat \widetilde \dot \ddot \overline \underline")
PROSE = words(
    "the and or not is are was were be of for if when where since because otherwise else then than that this with such any "
    "all each no none to from by as at on an it its there which only both either neither nor between but so mod has have "
    "had does do did can cannot per"
)
"""Words of at most three letters, and some longer ones, that are no products of letters."""
