"""The documents of a world: a registry page for every entity, wrong almanac pages and chronicle pages beside the point."""

import random
from dataclasses import dataclass

from arpo.world.config import WorldConfig
from arpo.world.facts import Entity, World
from arpo.world.kinds import ATTRIBUTES
from arpo.world.style import Source, Style


@dataclass(frozen=True, slots=True)
class Document:
    """One document of the corpus.

    Example (plain): "Registry: Tolvan Mills, based in Kelford, founded 1907."
    """

    id: str
    title: str
    """Name of its entity."""
    text: str
    is_held_out: bool
    """True: it is about a held-out entity; no other document names one."""


def make_documents(world: World, style: Style, config: WorldConfig) -> list[Document]:
    """Registry, almanac and chronicle pages, in this order.

    Each page is about one entity and states one fact, so that a search for the entity alone rarely shows the one that is asked
    for. The registry states every fact. The almanac states wrong values of `misleading_share` of all facts. The
    chronicle has a page on `silent_share` of the entities, which states none of their facts.
    """
    rng = random.Random(f"{config.seed}/documents")
    misleading = set(rng.sample(list(world.facts), round(config.misleading_share * len(world.facts))))
    pages: dict[Source, list[Document]] = {"registry": [], "almanac": [], "chronicle": []}

    def add(source: Source, entity: Entity, body: str) -> None:
        text = rng.choice(style.pages[source]).format(name=entity.name, body=body)
        number = len(pages[source])
        pages[source].append(Document(f"{source}-{number}", entity.name, text, entity.is_held_out))

    for entity in world.entities.values():
        facts = world.facts_of(entity)
        wrong = {name: _draw_wrong_value(rng, world, entity, name) for name in facts if (entity.name, name) in misleading}
        for source, stated in (("registry", facts), ("almanac", wrong)):
            for attribute, value in stated.items():
                add(source, entity, rng.choice(style.statements[attribute]).format(value=value))
        if rng.random() < config.silent_share:
            add("chronicle", entity, _remark(rng, style, world, entity))
    return [page for of_source in pages.values() for page in of_source]


def _remark(rng: random.Random, style: Style, world: World, entity: Entity) -> str:
    remark = rng.choice(style.remarks[entity.type])
    values = {value: world.draw_value(rng, entity, value) for value in ("city", "person", "year")}
    return remark.format(**values)


def _draw_wrong_value(rng: random.Random, world: World, entity: Entity, attribute: str) -> str:
    value_type, right = ATTRIBUTES[attribute].value, world.facts[entity.name, attribute]
    while (value := world.draw_value(rng, entity, value_type)) == right:
        pass
    return value
