"""A policy in its environment, for as long as it is needed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arpo.inference.build import build_engine
from arpo.inference.config import EngineConfig
from arpo.models.config import ModelConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rollout.agent import Agent
from arpo.rollout.build import build_agent
from arpo.rollout.config import AgentConfig


@asynccontextmanager
async def open_agent(model: ModelConfig, engine_config: EngineConfig, config: AgentConfig) -> AsyncIterator[Agent]:
    """The agent of a model directory; its engine and tools are closed at the end.

    Raises:
        ConfigError, EngineError, ModelError, ToolError: as their messages say.
    """
    tokenizer = PolicyTokenizer.load(model.path)
    engine = build_engine(engine_config, model, tokenizer, max_tokens=config.limits.max_trajectory_tokens)
    agent = build_agent(config, engine, tokenizer)
    try:
        yield agent
    finally:
        await engine.aclose()
        await agent.executor.aclose()
