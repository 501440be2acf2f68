"""Names of the plain style: invented words of few syllables, which a small vocabulary holds whole."""

import itertools
import random
from collections.abc import Sequence

from arpo.world.names import NameParts

_ONSETS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("l", "m", "n", "r", "s", "t")
_REGION_ENDINGS = ("mark", "land", "shire", "gau")
_CITY_ENDINGS = (
    *("ford", "mere", "ton", "ham", "bury", "wick", "stead", "field", "gate", "port", "haven", "dale"),
    *("holm", "brook", "ridge", "cliff", "well", "moor", "fell", "by", "combe", "hurst", "mouth", "leigh"),
)
_COMPANY_TYPES = (
    *("Mills", "Works", "Bank", "Lines", "Press", "Glass", "Steel", "Foods", "Paper", "Tools"),
    *("Power", "Farms", "Yards", "Media", "Motors", "Timber", "Mining", "Optics", "Stores", "Foundry"),
)


def draw_plain_parts(rng: random.Random) -> NameParts:
    """Parts made of syllables from `rng`; a region bears the stem of a city."""
    open_syllables = [o + v for o, v in itertools.product(_ONSETS, _VOWELS)]
    closed_syllables = [s + c for s, c in itertools.product(open_syllables, _CODAS)]
    # Words share their syllables, which keeps a small BPE vocabulary able to hold whole words.
    heads = rng.sample(open_syllables, 24)
    firsts = _words(rng, heads, rng.sample(open_syllables, 12), 40)
    lasts = _words(rng, heads, rng.sample(closed_syllables, 12), 60)
    stems = [stem.capitalize() for stem in rng.sample(closed_syllables, 24)]
    city_endings, company_types = rng.sample(_CITY_ENDINGS, 16), rng.sample(_COMPANY_TYPES, 12)
    return NameParts(
        firsts=firsts,
        lasts=lasts,
        company_types=company_types,
        city_stems=stems,
        city_endings=city_endings,
        region_heads=stems,
        region_endings=_REGION_ENDINGS,
    )


def _words(rng: random.Random, heads: Sequence[str], tails: Sequence[str], count: int) -> list[str]:
    return [(head + tail).capitalize() for head, tail in rng.sample(list(itertools.product(heads, tails)), count)]
