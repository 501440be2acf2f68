"""Opens a policy in its environment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arpo.inference.build import PolicySource, build_engine
from arpo.inference.config import EngineConfig
from arpo.models.config import ModelConfig
from arpo.models.source import find_run_model
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.text_tokenizer import TextTokenizer
from arpo.rollout.agent import Agent
from arpo.rollout.build import Surroundings
from arpo.rollout.config import AgentConfig
from arpo.tools.base import Tool
from arpo.tracking.progress import Progress


def find_policy(
    model: ModelConfig | None, engine: EngineConfig, progress: Progress
) -> tuple[ModelConfig | None, ModelConfig | None]:
    """The model of a run as its records name it, and as a directory of this machine; None stays None.

    Raises:
        ConfigError, ModelError: as `find_run_model`.
    """
    return (None, None) if model is None else find_run_model(model, progress, needs_weights=engine.loads_model)


@asynccontextmanager
async def open_agent(
    model: ModelConfig | None, engine_config: EngineConfig, config: AgentConfig, tools: dict[str, Tool] | None = None
) -> AsyncIterator[Agent]:
    """The agent of a model directory, or (None) of a server's chat model; engine and tools are closed at the end.

    `tools` are those given from Python, besides the configured ones.

    Raises:
        ConfigError, EngineError, ModelError, ToolError: as their messages say.
    """
    tokenizer = TextTokenizer() if model is None else PolicyTokenizer.load(model.path)
    surroundings = Surroundings(config, tokenizer, extra_tools=tools)  # before the weights: its faults are found sooner
    try:
        policy = PolicySource(config=model, tokenizer=tokenizer, max_tokens=config.limits.max_trajectory_tokens)
        engine = build_engine(engine_config, policy)
        try:
            yield surroundings.agent(engine)
        finally:
            await engine.aclose()
    finally:
        await surroundings.environment.aclose()
