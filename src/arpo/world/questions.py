"""Questions about a world; validation and test ask no question of training."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from arpo.errors import ConfigError
from arpo.world.config import WorldConfig
from arpo.world.facts import World, compute_answer
from arpo.world.kinds import KINDS
from arpo.world.style import Style

Split = Literal["train", "valid", "test"]

_MAX_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer.

    Example: Question("Where was Mira Tolvan born?", "Kelford", "birthplace", ("Mira Tolvan",), never_seen=False)
    """

    text: str
    answer: str
    kind: str
    entities: tuple[str, ...]
    """Names in the question, in order."""
    never_seen: bool
    """True: an entity of the question or of its chains is never mentioned in training."""


def make_questions(world: World, style: Style, config: WorldConfig) -> dict[Split, list[Question]]:
    """The questions of each split, shuffled; no two splits ask the same kind about the same entities.

    Raises:
        ConfigError: the world has too few entities for the number of questions of some kind.
    """
    asked: set[tuple[str, frozenset[str]]] = set()
    splits: dict[Split, list[Question]] = {}
    sizes: tuple[tuple[Split, int], ...] = (("train", config.num_train), ("valid", config.num_valid), ("test", config.num_test))
    for split, size in sizes:
        rng = random.Random(f"{config.seed}/{split}")
        num_never_seen = 0 if split == "train" else round(config.never_seen_share * size)
        questions = [
            *_draw_questions(rng, world, style, config, num_never_seen, True, asked),
            *_draw_questions(rng, world, style, config, size - num_never_seen, False, asked),
        ]
        rng.shuffle(questions)
        splits[split] = questions
    return splits


def _draw_questions(
    rng: random.Random,
    world: World,
    style: Style,
    config: WorldConfig,
    count: int,
    never_seen: bool,
    asked: set[tuple[str, frozenset[str]]],
) -> Iterator[Question]:
    names = {owner: [e.name for e in world.of_type(owner)] for owner in ("person", "company", "city")}
    for kind, number in allocate(count, config.kind_weights).items():
        for _ in range(number):
            for _ in range(_MAX_DRAWS):
                question = _draw_question(rng, world, style, kind, names)
                key = (kind, frozenset(question.entities))
                if question.never_seen == never_seen and _is_sound(question) and key not in asked:
                    break
            else:
                raise ConfigError(
                    f"world: too few entities for {number} {'never-seen' if never_seen else 'seen'} questions of kind "
                    f"{kind!r}; raise num_persons, num_companies or num_cities, or lower num_train, num_valid, num_test or the "
                    "kind's weight"
                )
            asked.add(key)
            yield question


def _draw_question(rng: random.Random, world: World, style: Style, kind: str, names: dict[str, list[str]]) -> Question:
    spec = KINDS[kind]
    entities = tuple(rng.choice(names[owner]) for owner in spec.owners)
    # Facts of entities in training name no held-out one, so the entities asked about decide for the whole chain.
    never_seen = any(world.entities[name].is_held_out for name in entities)
    text = rng.choice(style.questions[kind]).format(*entities)
    return Question(text, compute_answer(world, spec, entities), kind, entities, never_seen)


def _is_sound(question: Question) -> bool:
    """Two different entities, and an answer a reader expects: "how many more" is positive."""
    is_count = KINDS[question.kind].operation is not None
    return len(set(question.entities)) == len(question.entities) and not (is_count and int(question.answer) <= 0)


def allocate(count: int, weights: dict[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `count`, in proportion to the weights (largest remainders).

    Example: allocate(10, {"a": 1, "b": 2}) is {"a": 3, "b": 7}.
    """
    total = sum(weights.values())
    shares = {kind: count * weight / total for kind, weight in weights.items()}
    numbers = {kind: int(share) for kind, share in shares.items()}
    by_remainder = sorted(shares, key=lambda kind: numbers[kind] - shares[kind])
    for kind in by_remainder[: count - sum(numbers.values())]:
        numbers[kind] += 1
    return numbers
