"""The attributes and the kinds of question of a world, as data.

A question names one or more entities. From each it follows a chain of attributes (`birthplace`, then `region`); each link
is one search. A kind with an operation combines the values at the ends with one Python call.
"""

from dataclasses import dataclass
from typing import Literal

EntityType = Literal["person", "company", "city"]
ValueType = Literal["person", "company", "city", "region", "year", "number"]
Operation = Literal["difference", "total", "years"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A property of one type of entity.

    Example: `birthplace` of a person is a city.
    """

    owner: EntityType
    """Type of entity with this attribute."""
    value: ValueType
    """Type of its values."""


ATTRIBUTES: dict[str, Attribute] = {
    "birthplace": Attribute("person", "city"),
    "birth_year": Attribute("person", "year"),
    "employer": Attribute("person", "company"),
    "seat": Attribute("company", "city"),
    "founding_year": Attribute("company", "year"),
    "region": Attribute("city", "region"),
    "inhabitants": Attribute("city", "number"),
    "mayor": Attribute("city", "person"),
}
"""Every attribute by name, in the order documents state them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of question.

    Example: "Which region was Mira Tolvan born in?" follows the chain (birthplace, region) and takes two searches.
    """

    chains: tuple[tuple[str, ...], ...]
    """Per entity, the attributes to follow."""
    operation: Operation | None = None
    """How the values at the ends of the chains make the answer; None: the one value is the answer."""

    @property
    def num_calls(self) -> int:
        """Tool calls of the shortest solution: one search per link, one Python call for the operation."""
        return sum(map(len, self.chains)) + (self.operation is not None)

    @property
    def owners(self) -> tuple[EntityType, ...]:
        """Type of each entity of the question."""
        return tuple(ATTRIBUTES[chain[0]].owner for chain in self.chains)


KINDS: dict[str, Kind] = {
    "birthplace": Kind((("birthplace",),)),
    "birth_year": Kind((("birth_year",),)),
    "employer": Kind((("employer",),)),
    "seat": Kind((("seat",),)),
    "founding_year": Kind((("founding_year",),)),
    "region": Kind((("region",),)),
    "inhabitants": Kind((("inhabitants",),)),
    "mayor": Kind((("mayor",),)),
    "birthplace_region": Kind((("birthplace", "region"),)),
    "birthplace_mayor": Kind((("birthplace", "mayor"),)),
    "employer_seat": Kind((("employer", "seat"),)),
    "seat_region": Kind((("seat", "region"),)),
    "employer_seat_region": Kind((("employer", "seat", "region"),)),
    "inhabitants_difference": Kind((("inhabitants",), ("inhabitants",)), "difference"),
    "years_between_births": Kind((("birth_year",), ("birth_year",)), "years"),
    "years_between_foundings": Kind((("founding_year",), ("founding_year",)), "years"),
    "birthplace_difference": Kind((("birthplace", "inhabitants"), ("inhabitants",)), "difference"),
    "inhabitants_total": Kind((("inhabitants",), ("inhabitants",)), "total"),
    "birthplaces_total": Kind((("birthplace", "inhabitants"), ("birthplace", "inhabitants")), "total"),
}
"""Every kind of question by name. Some kind asks for each attribute alone, so that every fact occurs in several kinds."""
