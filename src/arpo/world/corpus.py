"""The documents of a world: a registry entry for every entity, and shorter almanac entries that are wrong."""

import random
from dataclasses import dataclass

from arpo.world.facts import Entity, World
from arpo.world.kinds import ATTRIBUTES

REGISTRY = "Registry"
"""The reliable source: one document per entity with all its facts."""
ALMANAC = "Almanac"
"""The unreliable source: one short document with wrong facts on some entities."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of the corpus.

    Example: "Registry: Tolvan Mills, seat Kelford, founded 1907."
    """

    id: str
    title: str
    """Name of its entity."""
    text: str
    is_held_out: bool
    """True: it is about a held-out entity; no other document names one."""


def make_documents(world: World, misleading_share: float, seed: int) -> list[Document]:
    """A registry entry for every entity, then almanac entries with wrong values of `misleading_share` of all facts.

    An entity has at most one almanac entry. It usually holds fewer facts than the registry's, so that a search which prefers
    short pages, as BM25 does, ranks it first.
    """
    rng = random.Random(f"{seed}/documents")
    misleading = set(rng.sample(list(world.facts), round(misleading_share * len(world.facts))))
    registry, almanac = list[Document](), list[Document]()
    for i, entity in enumerate(world.entities.values()):
        facts = world.facts_of(entity)
        registry.append(_document(f"registry-{i}", REGISTRY, entity, facts))
        wrong = {name: _draw_wrong_value(rng, world, entity, name) for name in facts if (entity.name, name) in misleading}
        if wrong:
            almanac.append(_document(f"almanac-{i}", ALMANAC, entity, wrong))
    return registry + almanac


def _document(document_id: str, source: str, entity: Entity, facts: dict[str, str]) -> Document:
    phrases = [f"{ATTRIBUTES[attribute].phrase} {value}" for attribute, value in facts.items()]
    return Document(document_id, entity.name, f"{source}: {entity.name}, {', '.join(phrases)}.", entity.is_held_out)


def _draw_wrong_value(rng: random.Random, world: World, entity: Entity, attribute: str) -> str:
    while True:
        value = world.draw_value(rng, entity, attribute)
        if value != world.facts[entity.name, attribute]:
            return value
