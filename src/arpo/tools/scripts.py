"""Scripts written without blanks between words: Chinese, Japanese, Thai and others; and Korean, where particles join words."""

import re
import unicodedata

UNSPACED = (
    "\u3005\u3007\u3021-\u3029\u3031-\u3035\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"  # Han, kana, bopomofo
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb"  # Hangul
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecf\u0edc-\u0edf\u0f40-\u0fbc\u1000-\u103f\u1050-\u108f\u109a-\u109d\uaa60-\uaa7f"
    "\u1780-\u17d3\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7c\u1b00-\u1b4b\ua000-\ua48c\ua980-\ua9c0"  # Thai, Lao, Khmer ...
)
"""Their characters, as the inside of a regular expression's brackets."""
_RUNS = re.compile(f"[{UNSPACED}]+")


def write_grams(text: str) -> list[str]:
    """The characters of unspaced scripts in the text and the pairs of neighbours, in order; what an index holds.

    Example:
        write_grams("K2, 高山!")  # -> ["高", "高山", "山"]
    """
    return [run[i : i + n] for run in _runs(text) for i in range(len(run)) for n in (1, 2) if i + n <= len(run)]


def query_grams(text: str) -> list[str]:
    """The pairs of neighbours, and the characters that stand alone: what a query looks for, each once."""
    return list(dict.fromkeys(run[i : i + 2] for run in _runs(text) for i in range(max(1, len(run) - 1))))


def _runs(text: str) -> list[str]:
    return [] if text.isascii() else _RUNS.findall(unicodedata.normalize("NFKC", text))
