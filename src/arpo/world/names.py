"""Names made of few parts, so that a new entity is a new combination of parts that others show."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NameParts:
    """The parts of the names of one world."""

    firsts: Sequence[str]
    """First names."""
    lasts: Sequence[str]
    """Last names, which companies bear as well."""
    company_types: Sequence[str]
    """Second words of companies."""
    city_stems: Sequence[str]
    """Beginnings of a city's one word."""
    city_endings: Sequence[str]
    """Endings of a city's one word."""
    region_heads: Sequence[str]
    """Beginnings of regions, with the space after them where they are words."""
    region_endings: Sequence[str]
    """Endings of regions."""


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
    """Head and ending, e.g. "Kelmark"."""


def make_names(
    rng: random.Random, parts: NameParts, *, num_persons: int, num_companies: int, num_cities: int, num_regions: int
) -> Names:
    """Distinct names; the companies bear the first half of the last names, which keeps the number of parts small."""
    return Names(
        persons=_pairs(rng, parts.firsts, parts.lasts, " ", num_persons),
        companies=_pairs(rng, parts.lasts[: len(parts.lasts) // 2], parts.company_types, " ", num_companies),
        cities=_pairs(rng, parts.city_stems, parts.city_endings, "", num_cities),
        regions=_pairs(rng, parts.region_heads, parts.region_endings, "", num_regions),
    )


def _pairs(rng: random.Random, heads: Sequence[str], tails: Sequence[str], joint: str, count: int) -> NamePool:
    covering, free, shown = list[str](), list[str](), set[str]()
    for head, tail in rng.sample(list(itertools.product(heads, tails)), count):
        (free if {head, tail} <= shown else covering).append(head + joint + tail)
        shown |= {head, tail}
    return NamePool(covering + free, len(free))
