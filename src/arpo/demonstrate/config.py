"""Configuration of demonstrations."""

from pathlib import Path

from pydantic import Field

from arpo.config import Config
from arpo.rollout.config import AgentConfig


class DemonstratorConfig(Config):
    """The bad habits of the scripted demonstrator; each task draws each habit independently."""

    trust_first_hit: float = Field(default=0.6, ge=0, le=1)
    """Share of tasks in which it takes values from the first page that states them, even the unreliable almanac's."""
    guess: float = Field(default=0.6, ge=0, le=1)
    """Share of tasks in which it guesses a number instead of computing it."""
    stop_early: float = Field(default=0.4, ge=0, le=1)
    """Share of tasks in which it answers with the first value it finds although several look-ups are needed."""


class DemosRun(Config):
    """Runs the demonstrator in the agent loop with real tools and writes its conversations."""

    tasks: Path
    """Tasks to demonstrate, as `arpo world make` wrote them, e.g. `train.parquet`."""
    num_tasks: int = Field(default=300, ge=1)
    """Number of tasks, from the first on."""
    model: Path
    """Model directory with the tokenizer of the agent loop; its weights are not read."""
    out: Path
    """Folder to write: `conversations.jsonl` and `summary.json`."""
    seed: int = 0
    """Seed of the habits of each task."""
    demonstrator: DemonstratorConfig = DemonstratorConfig()
    """Bad habits of the demonstrator."""
    agent: AgentConfig
    """Protocol, tools and limits; the tools are `search` and `python`."""
