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

    Example: `birthplace` of a person is a city; documents state it as "born in Kelford"; "Mira Tolvan born" finds it.
    """

    owner: EntityType
    """Type of entity with this attribute."""
    value: ValueType
    """Type of its values."""
    phrase: str
    """Words before the value in a document."""

    @property
    def query_word(self) -> str:
        """The word that, after the entity's name, makes the obvious query."""
        return self.phrase.split()[0]


ATTRIBUTES: dict[str, Attribute] = {
    "birthplace": Attribute("person", "city", "born in"),
    "birth_year": Attribute("person", "year", "birth year"),
    "employer": Attribute("person", "company", "employer"),
    "seat": Attribute("company", "city", "seat"),
    "founding_year": Attribute("company", "year", "founded"),
    "region": Attribute("city", "region", "region"),
    "inhabitants": Attribute("city", "number", "inhabitants"),
    "mayor": Attribute("city", "person", "mayor"),
}
"""Every attribute by name, in the order documents state them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of question.

    Example: "Which region was {} born in?" with the chain (birthplace, region) takes two searches.
    """

    template: str
    """The question, with one `{}` per entity."""
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
    "birthplace": Kind("Where was {} born?", (("birthplace",),)),
    "birth_year": Kind("When was {} born?", (("birth_year",),)),
    "employer": Kind("Who employs {}?", (("employer",),)),
    "seat": Kind("Where is the seat of {}?", (("seat",),)),
    "founding_year": Kind("When was {} founded?", (("founding_year",),)),
    "region": Kind("Which region is {} in?", (("region",),)),
    "inhabitants": Kind("How many inhabitants has {}?", (("inhabitants",),)),
    "mayor": Kind("Who is the mayor of {}?", (("mayor",),)),
    "birthplace_region": Kind("Which region was {} born in?", (("birthplace", "region"),)),
    "birthplace_mayor": Kind("Who is the mayor of the birthplace of {}?", (("birthplace", "mayor"),)),
    "employer_seat": Kind("Where is the seat of the employer of {}?", (("employer", "seat"),)),
    "seat_region": Kind("Which region is the seat of {} in?", (("seat", "region"),)),
    "employer_seat_region": Kind("Which region is the seat of the employer of {} in?", (("employer", "seat", "region"),)),
    "inhabitants_difference": Kind(
        "How many more inhabitants has {} than {}?", (("inhabitants",), ("inhabitants",)), "difference"
    ),
    "years_between_births": Kind(
        "How many years between the births of {} and {}?", (("birth_year",), ("birth_year",)), "years"
    ),
    "years_between_foundings": Kind(
        "How many years between the foundings of {} and {}?", (("founding_year",), ("founding_year",)), "years"
    ),
    "birthplace_difference": Kind(
        "How many more inhabitants has the birthplace of {} than {}?",
        (("birthplace", "inhabitants"), ("inhabitants",)),
        "difference",
    ),
    "birthplaces_total": Kind(
        "How many inhabitants have the birthplaces of {} and {} in total?",
        (("birthplace", "inhabitants"), ("birthplace", "inhabitants")),
        "total",
    ),
}
"""Every kind of question by name. Some kind asks for each attribute alone, so that every fact occurs in several kinds."""
