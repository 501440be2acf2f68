"""Builds the agent of a configuration around an engine."""

from functools import partial
from typing import Any

from arpo.cache import Cache
from arpo.errors import ConfigError
from arpo.inference.base import InferenceEngine
from arpo.protocols.base import Tokenizer
from arpo.protocols.build import build_protocol
from arpo.protocols.escaping import cut_result
from arpo.rollout.agent import Agent
from arpo.rollout.config import AgentConfig
from arpo.tools.base import Tool
from arpo.tools.build import build_tools, section_names
from arpo.tools.config import ToolsConfig
from arpo.tools.executor import ToolExecutor
from arpo.tools.recorded import record_tools, recorded_tools


def build_agent(
    config: AgentConfig, engine: InferenceEngine[Any], tokenizer: Tokenizer, *, extra_tools: dict[str, Tool] | None = None
) -> Agent:
    """The policy of `engine` with the configured protocol, tools and limits.

    Args:
        config: Protocol, tools, limits.
        engine: Samples completions.
        tokenizer: The policy's tokenizer.
        extra_tools: Your tools by name, in addition to the configured ones; the protocol must name them too.

    Raises:
        ConfigError: the protocol offers a tool that is not configured, or a configured tool is not offered.
        ModelError: the tokenizer cannot carry the protocol.
        ToolError: a tool cannot be set up on this machine.
    """
    return Surroundings(config, tokenizer, extra_tools=extra_tools).agent(engine)


class Surroundings:
    """What an agent has beside its policy, protocol and tools; their faults are found before a model is loaded."""

    def __init__(self, config: AgentConfig, tokenizer: Tokenizer, *, extra_tools: dict[str, Tool] | None = None) -> None:
        """Open the tools and learn the protocol; arguments and errors as of `build_agent`."""
        tools, cache = _open_tools(config.tools, config.protocol.tools, extra_tools)
        self._protocol = build_protocol(config.protocol, tokenizer, {name: tool.schema for name, tool in tools.items()})
        self._tokenizer = tokenizer
        self._limits = config.limits
        self.environment = ToolExecutor(tools, config.tools.executor, partial(cut_result, tokenizer, self._protocol), cache)
        """The tools, for the owner to close."""

    def agent(self, engine: InferenceEngine[Any]) -> Agent:
        """The policy of `engine` in these surroundings."""
        return Agent(
            engine=engine, tokenizer=self._tokenizer, protocol=self._protocol, environment=self.environment, limits=self._limits
        )


def build_executor(
    config: ToolsConfig, offered: tuple[str, ...], agent: Agent, *, extra_tools: dict[str, Tool] | None = None
) -> ToolExecutor:
    """Another executor for an agent's protocol, with tools that must equal those it offers; raises as `build_agent`."""
    tools, cache = _open_tools(config, offered, extra_tools)
    return ToolExecutor(tools, config.executor, partial(cut_result, agent.tokenizer, agent.protocol), cache)


def _open_tools(
    config: ToolsConfig, offered: tuple[str, ...], extra_tools: dict[str, Tool] | None
) -> tuple[dict[str, Tool], Cache | None]:
    """The configured tools, which must equal the tools the protocol offers, and the cache.

    A replay takes its tools from the recording, so it needs no index, server or sandbox.
    """
    cache = Cache.from_config(config.cache)
    extra_tools = extra_tools or {}
    if not config.mcp:
        _check_offered(offered, {*section_names(config), *extra_tools})  # before anything is started
    recorded = recorded_tools(cache) if cache is not None and cache.mode == "replay" else {}
    tools = {name: recorded[name] for name in offered} if set(offered) <= set(recorded) else _build(config, extra_tools)
    _check_offered(offered, set(tools))
    if cache is not None and cache.mode == "record":
        record_tools(cache, tools)
    return tools, cache


def _build(config: ToolsConfig, extra_tools: dict[str, Tool]) -> dict[str, Tool]:
    if twice := sorted(section_names(config) & extra_tools.keys()):
        raise ConfigError(f"agent.tools and the argument tools both have {twice[0]!r}; leave one of them out, or rename it")
    return (build_tools(config) if section_names(config) or config.mcp else {}) | extra_tools


def _check_offered(offered: tuple[str, ...], names: set[str]) -> None:
    if names != set(offered):
        raise ConfigError(
            f"agent.protocol.tools = {sorted(offered)}, but the configured tools are: {sorted(names)}; "
            f"add the missing section below agent.tools, or change agent.protocol.tools"
        )
