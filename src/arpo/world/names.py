"""Names made of few parts, so that a new entity is a new combination of parts every tokenizer has met."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class NamePool:
    """Names of one type of entity, all different."""

    names: list[str]
    num_free: int
    """Number of last names whose parts all occur in the names before them."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one world."""

    persons: NamePool
    """First and last name, e.g. "Mira Tolvan"."""
    companies: NamePool
    """Last name and type, e.g. "Tolvan Mills"."""
    cities: NamePool
    """One word of stem and ending, e.g. "Kelford"."""
    regions: NamePool
    """One word, e.g. "Kelmark"."""


def make_names(rng: random.Random, *, num_persons: int, num_companies: int, num_cities: int, num_regions: int) -> Names:
    """Distinct names, drawn from parts that themselves are drawn from `rng`.

    A company bears a family's name and a region the stem of a city, as they do; it keeps the number of parts small.
    """
    open_syllables = [o + v for o, v in itertools.product(_ONSETS, _VOWELS)]
    closed_syllables = [s + c for s, c in itertools.product(open_syllables, _CODAS)]
    # Words share their syllables, which keeps a small BPE vocabulary able to hold whole words.
    heads = rng.sample(open_syllables, 24)
    firsts = _words(rng, heads, rng.sample(open_syllables, 12), 40)
    lasts = _words(rng, heads, rng.sample(closed_syllables, 12), 60)
    stems = [stem.capitalize() for stem in rng.sample(closed_syllables, 24)]
    city_endings, company_types = rng.sample(_CITY_ENDINGS, 16), rng.sample(_COMPANY_TYPES, 12)
    return Names(
        persons=_pairs(rng, firsts, lasts, " ", num_persons),
        companies=_pairs(rng, lasts[:30], company_types, " ", num_companies),
        cities=_pairs(rng, stems, city_endings, "", num_cities),
        regions=_pairs(rng, stems, _REGION_ENDINGS, "", num_regions),
    )


def _words(rng: random.Random, heads: Sequence[str], tails: Sequence[str], count: int) -> list[str]:
    return [(head + tail).capitalize() for head, tail in rng.sample(list(itertools.product(heads, tails)), count)]


def _pairs(rng: random.Random, heads: Sequence[str], tails: Sequence[str], joint: str, count: int) -> NamePool:
    covering, free, shown = list[str](), list[str](), set[str]()
    for head, tail in rng.sample(list(itertools.product(heads, tails)), count):
        (free if {head, tail} <= shown else covering).append(head + joint + tail)
        shown |= {head, tail}
    return NamePool(covering + free, len(free))
