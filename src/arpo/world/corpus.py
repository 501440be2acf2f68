"""The documents of a world: a registry page for every entity, wrong almanac pages and chronicle pages beside the point."""

import random
from collections.abc import Mapping
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

    def add(source: Source, entity: Entity, facts: Mapping[str, str]) -> None:
        body = ". ".join(_sentences(rng, world, style, source, entity, facts))
        text = rng.choice(style.pages[source]).format(name=entity.name, body=body)
        number = len(pages[source])
        pages[source].append(Document(f"{source}-{number}", entity.name, text, entity.is_held_out))

    for entity in world.entities.values():
        facts = world.facts_of(entity)
        wrong = {name: _draw_wrong_value(rng, world, entity, name) for name in facts if (entity.name, name) in misleading}
        stated_by: dict[Source, Mapping[str, str]] = {"registry": facts, "almanac": wrong}
        for source, stated in stated_by.items():
            for attribute, value in stated.items():
                add(source, entity, {attribute: value})
        if rng.random() < config.silent_share:
            add("chronicle", entity, {})
    return [page for of_source in pages.values() for page in of_source]


def _sentences(
    rng: random.Random, world: World, style: Style, source: Source, entity: Entity, facts: Mapping[str, str]
) -> list[str]:
    """The facts in words and as many different remarks as the page needs, at least one without facts; in random order."""
    sentences = [_fill(rng, style, rng.choice(style.statements[name]), entity, {"value": v}) for name, v in facts.items()]
    num_words = rng.choice(style.page_words[source]) if source in style.page_words else 0
    remarks = list(style.remarks[entity.type])
    while not sentences or len(" ".join(sentences).split()) < num_words:
        remark = remarks.pop(rng.randrange(len(remarks)))
        values = {value: world.draw_value(rng, entity, value) for value in style.distractors}
        sentences.append(_fill(rng, style, remark, entity, values))
    rng.shuffle(sentences)
    return sentences


def _fill(rng: random.Random, style: Style, wording: str, entity: Entity, values: Mapping[str, str]) -> str:
    names = {"name": entity.name, "last": entity.name.split()[-1]}
    if "{subject}" in wording:
        names["subject"] = rng.choice(style.subjects[entity.type]).format(**names)
    return wording.format(**names, **values)


def _draw_wrong_value(rng: random.Random, world: World, entity: Entity, attribute: str) -> str:
    value_type, right = ATTRIBUTES[attribute].value, world.facts[entity.name, attribute]
    while (value := world.draw_value(rng, entity, value_type)) == right:
        pass
    return value
