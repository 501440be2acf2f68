"""One spelling for what Unicode writes in several ways; nothing that carries meaning is lost."""

import unicodedata
from functools import lru_cache

_KEPT = ("<super>", "<sub>", "<fraction>", "<circle>")
"""Compatibility forms that say something: `10²` is not `102`, `3½` is not `31/2`, `②` is not `2`."""
_DASHES = dict.fromkeys("‐‑‒–—―−﹘﹣－", "-")
_QUOTES = dict.fromkeys("‘’‚‛′´", "'") | dict.fromkeys("“”„‟«»‹›「」『』″", '"')
_UNIFIED = _DASHES | _QUOTES


def unify(text: str) -> str:
    r"""The text with compatibility forms, dashes, quotes and blanks in one spelling, and without format characters.

    NFKC except for superscripts, subscripts, vulgar fractions and circled numbers, which mean something.

    Example:
        unify("１９４５年") == "1945年"; unify("ﬁnal") == "final"; unify("10²") == "10²"
    """
    if text.isascii() and text.isprintable():
        return text
    return unicodedata.normalize("NFC", "".join(_unify_character(c) for c in text))


@lru_cache(maxsize=4096)
def _unify_character(character: str) -> str:
    if character in _UNIFIED:
        return _UNIFIED[character]
    category = unicodedata.category(character)
    if character in "\n\t\r" or category[0] == "Z":
        return "\n" if character in "\n\r" else " "
    if category in ("Cf", "Cc", "Cs") or "\ufe00" <= character <= "\ufe0f":
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    form = unicodedata.decomposition(character)
    if form.startswith(_KEPT) or not form.startswith("<"):
        return character
    return "".join(_UNIFIED.get(c, c) for c in unicodedata.normalize("NFKC", character))
