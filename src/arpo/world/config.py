"""Configuration of the synthetic world and of demonstrations in it."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from arpo.config import Config
from arpo.rollout.config import AgentConfig
from arpo.world.kinds import KINDS

StyleName = Literal["plain", "natural"]

DEFAULT_KIND_WEIGHTS = {
    "birthplace": 5.0,
    "birth_year": 3.0,
    "employer": 5.0,
    "seat": 3.0,
    "founding_year": 2.0,
    "region": 3.5,
    "inhabitants": 4.0,
    "mayor": 4.0,
    "birthplace_region": 9.0,
    "birthplace_mayor": 8.0,
    "employer_seat": 9.0,
    "seat_region": 3.0,
    "employer_seat_region": 10.0,
    "inhabitants_difference": 8.0,
    "years_between_births": 4.0,
    "years_between_foundings": 4.0,
    "birthplace_difference": 6.0,
    "inhabitants_total": 6.0,
    "birthplaces_total": 5.0,
}


class WorldConfig(Config):
    """A world: entities, misleading documents, and questions by kind."""

    style: StyleName = "plain"
    """`plain`: short phrases, for the tiny policy. `natural`: English sentences, for a pretrained model."""
    seed: int = 0
    """Seed of names, facts, documents and questions; the same seed gives the same bytes."""
    num_persons: int = Field(default=1500, ge=100, le=2400)
    """People. Each has a birthplace, a birth year and an employer."""
    num_companies: int = Field(default=360, ge=50, le=360)
    """Companies. Each has a seat and a founding year."""
    num_cities: int = Field(default=384, ge=50, le=384)
    """Cities. Each has a region, a number of inhabitants and a mayor."""
    num_regions: int = Field(default=24, ge=2, le=40)
    """Regions that cities lie in."""
    held_out_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of persons, companies and cities, each, that no training question and no training document mentions.
    Their names consist of parts that training shows."""
    never_seen_share: float = Field(default=0.5, ge=0, le=1)
    """Share of validation and test questions that ask about at least one held-out entity."""
    misleading_share: float = Field(default=0.35, ge=0, le=1)
    """Share of (entity, attribute) pairs for which an almanac page states a wrong value."""
    silent_share: float = Field(default=0.4, ge=0, le=1)
    """Share of entities with a chronicle page that answers no question about them."""
    num_train: int = Field(default=5000, ge=1)
    """Training questions."""
    num_valid: int = Field(default=200, ge=1)
    """Validation questions."""
    num_test: int = Field(default=1000, ge=1)
    """Test questions."""
    kind_weights: dict[str, float] = DEFAULT_KIND_WEIGHTS
    """Relative frequency of each kind of question, the same in every split; an absent kind has no question."""

    @model_validator(mode="after")
    def _kinds_are_known(self) -> Self:
        unknown = sorted(set(self.kind_weights) - set(KINDS))
        if unknown:
            raise ValueError(f"kind_weights: unknown kind {unknown[0]!r}; use {', '.join(KINDS)}")
        if any(weight < 0 for weight in self.kind_weights.values()) or not sum(self.kind_weights.values()) > 0:
            raise ValueError("kind_weights: weights must be >= 0 and at least one must be > 0")
        return self


class DemonstratorConfig(Config):
    """How often the scripted demonstrator chooses badly; each choice is drawn anew where it comes up."""

    vague_query: float = Field(default=0.25, ge=0, le=1)
    """Probability of a query with nothing but the entity's name."""
    trust_almanac: float = Field(default=0.57, ge=0, le=1)
    """Probability of taking the almanac's value, which is wrong, where it states one."""
    give_up: float = Field(default=0.25, ge=0, le=1)
    """Probability of answering that the value is unknown after a result without it, instead of searching by other words."""
    stop_early: float = Field(default=0.15, ge=0, le=1)
    """Probability of answering with a value that is only a step on the way."""
    guess: float = Field(default=0.5, ge=0, le=1)
    """Probability of guessing a number instead of computing it."""


class DemosRun(Config):
    """Runs the demonstrator in the agent loop with real tools and writes its conversations."""

    tasks: Path = Field(examples=["runs/world/train.parquet"])
    """Tasks to demonstrate, as `arpo world make` wrote them, e.g. `train.parquet`."""
    num_tasks: int = Field(default=300, ge=1)
    """Number of tasks, from the first on."""
    model: Path = Field(examples=["runs/world/policy"])
    """The model whose tokenizer the agent loop has, named as `model.path` names one; its weights are not read."""
    out: Path = Field(examples=["runs/demos"])
    """Folder to write: `conversations.jsonl` and `summary.json`."""
    seed: int = 0
    """Seed of the choices."""
    demonstrator: DemonstratorConfig = DemonstratorConfig()
    """How often the demonstrator chooses badly."""
    agent: AgentConfig = Field(examples=[{"tools": {"python": {}}}])
    """Protocol, tools and limits; the tools are `search` and `python`."""
