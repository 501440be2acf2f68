"""Configuration of demonstrations."""

from pathlib import Path

from pydantic import Field

from arpo.config import Config
from arpo.rollout.config import AgentConfig


class DemonstratorConfig(Config):
    """How often the scripted demonstrator does what it should not; each habit is drawn once per task, independently."""

    trust_first_hit: float = Field(default=0.6, ge=0, le=1)
    """Share of tasks in which it takes values from the first page that states them, even the unreliable almanac's."""
    guess: float = Field(default=0.6, ge=0, le=1)
    """Share of tasks in which it guesses a number instead of computing it."""
    stop_early: float = Field(default=0.4, ge=0, le=1)
    """Share of tasks in which, when several look-ups are needed, it answers with the first value it finds."""


class DemosRun(Config):
    """Runs the demonstrator through the agent loop with real tools and writes its conversations."""

    tasks: Path
    """Tasks to demonstrate, as `arpo world make` wrote them, e.g. `train.parquet`."""
    num_tasks: int = Field(default=300, ge=1)
    """Tasks to take, from the first on."""
    model: Path
    """Model directory whose tokenizer the agent loop uses; its weights are not read."""
    out: Path
    """Folder to write: `conversations.jsonl` and `summary.json`."""
    seed: int = 0
    """Decides which habits show in which task."""
    demonstrator: DemonstratorConfig = DemonstratorConfig()
    """Its bad habits."""
    agent: AgentConfig
    """Protocol, tools and limits; the tools are `search` and `python`."""
