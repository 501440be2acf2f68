"""The entities of a world and their facts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from arpo.errors import ConfigError
from arpo.world.config import WorldConfig
from arpo.world.kinds import ATTRIBUTES, EntityType, Kind, ValueType
from arpo.world.names import NamePool, make_names
from arpo.world.style import Style

_YEARS = range(1900, 2000)


@dataclass(frozen=True, slots=True)
class Entity:
    """A person, company or city."""

    name: str
    """Unique in the world."""
    type: EntityType
    is_held_out: bool
    """True: nothing in training mentions it."""


@dataclass(frozen=True, slots=True)
class World:
    """Entities and their facts.

    No fact of a training entity names a held-out one, so that no chain that starts in training leaves it.
    """

    entities: dict[str, Entity]
    """By name."""
    regions: list[str]
    facts: dict[tuple[str, str], str]
    """(entity name, attribute name) to value; years and numbers as digits."""
    inhabitants: range
    """Numbers that a city may have."""

    def of_type(self, owner: EntityType) -> list[Entity]:
        """Entities of one type, in the order they were made."""
        return [e for e in self.entities.values() if e.type == owner]

    def facts_of(self, entity: Entity) -> dict[str, str]:
        """Attribute name to value, in the order of ATTRIBUTES."""
        return {name: self.facts[entity.name, name] for name, spec in ATTRIBUTES.items() if spec.owner == entity.type}

    def draw_value(self, rng: random.Random, entity: Entity, value_type: ValueType) -> str:
        """A value that a page about `entity` may name, e.g. any city; held-out names only for held-out entities."""
        match value_type:
            case "region":
                return rng.choice(self.regions)
            case "year":
                return str(rng.choice(_YEARS))
            case "number":
                return str(rng.choice(self.inhabitants))
            case owner:
                return rng.choice([e.name for e in self.of_type(owner) if entity.is_held_out or not e.is_held_out])

    def follow(self, name: str, chain: Sequence[str]) -> str:
        """The value at the end of a chain, e.g. the region of the birthplace of `name`."""
        for attribute in chain:
            name = self.facts[name, attribute]
        return name


def make_world_facts(config: WorldConfig, style: Style) -> World:
    """Entities with names, a held-out share of each type, and a value for every attribute.

    Raises:
        ConfigError: the held-out share would hide a part of a name from training.
    """
    rng = random.Random(f"{config.seed}/facts")
    names = make_names(
        rng,
        style.draw_name_parts(rng),
        num_persons=config.num_persons,
        num_companies=config.num_companies,
        num_cities=config.num_cities,
        num_regions=config.num_regions,
    )
    entities = [
        *_make_entities(names.persons, "person", config.held_out_share, "num_persons"),
        *_make_entities(names.companies, "company", config.held_out_share, "num_companies"),
        *_make_entities(names.cities, "city", config.held_out_share, "num_cities"),
    ]
    world = World({e.name: e for e in entities}, names.regions.names, {}, style.inhabitants)
    for entity in entities:
        for attribute, spec in ATTRIBUTES.items():
            if spec.owner == entity.type:
                world.facts[entity.name, attribute] = world.draw_value(rng, entity, spec.value)
    return world


def compute_answer(world: World, kind: Kind, names: Sequence[str]) -> str:
    """The answer of a question of `kind` about `names`.

    A difference is the first value minus the second, a total their sum, years are without sign.

    Example: cities of 41 and 13 inhabitants differ by "28" and total "54".
    """
    values = [world.follow(name, chain) for name, chain in zip(names, kind.chains, strict=True)]
    match kind.operation:
        case None:
            return values[0]
        case "difference":
            return str(int(values[0]) - int(values[1]))
        case "total":
            return str(sum(map(int, values)))
        case "years":
            return str(abs(int(values[0]) - int(values[1])))


def _make_entities(pool: NamePool, owner: EntityType, held_out_share: float, count_key: str) -> list[Entity]:
    num_seen = len(pool.names) - max(1, round(held_out_share * len(pool.names)))
    if num_seen < len(pool.names) - pool.num_free:
        raise ConfigError(
            f"held_out_share = {held_out_share}: of the {len(pool.names)} names ({count_key}) only {pool.num_free} consist of "
            f"parts that other names show, so no more can be held out; raise {count_key} or lower held_out_share"
        )
    return [Entity(name, owner, number >= num_seen) for number, name in enumerate(pool.names)]
