"""Assembles the agent a configuration describes around an engine."""

from typing import Any

from arpo.cache import Cache
from arpo.errors import ConfigError
from arpo.inference.base import InferenceEngine
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.rollout.agent import Agent
from arpo.rollout.config import AgentConfig
from arpo.tools.base import Tool
from arpo.tools.build import build_tools
from arpo.tools.config import ToolsConfig
from arpo.tools.executor import ToolExecutor


def build_agent(
    config: AgentConfig, engine: InferenceEngine[Any], tokenizer: PolicyTokenizer, *, extra_tools: dict[str, Tool] | None = None
) -> Agent:
    """The policy of `engine` with the configured protocol, tools and limits.

    Args:
        config: Protocol, tools, limits.
        engine: Where completions come from.
        tokenizer: The policy's.
        extra_tools: Tools of your own by name, besides the configured ones; the protocol must name them too.

    Raises:
        ConfigError: the protocol offers a tool that is not configured, or a configured tool is not offered.
        ToolError: a tool cannot be set up on this machine.
    """
    return Agent(
        engine=engine,
        tokenizer=tokenizer,
        protocol=TagProtocol(tokenizer, config.protocol),
        executor=build_executor(config.tools, config.protocol.tools, tokenizer, extra_tools=extra_tools),
        limits=config.limits,
        vocab_size=tokenizer.vocab_size,
    )


def build_executor(
    config: ToolsConfig, offered: tuple[str, ...], tokenizer: PolicyTokenizer, *, extra_tools: dict[str, Tool] | None = None
) -> ToolExecutor:
    """The executor of the configured tools, which must be those the protocol offers; raises as `build_agent`."""
    configured = {name for name in ("search", "python") if getattr(config, name) is not None}
    names = configured | set(extra_tools or {})
    if names != set(offered):
        raise ConfigError(
            f"agent.protocol.tools = {sorted(offered)}, but the tools there are: {sorted(names)}; "
            f"add the missing section below agent.tools, or change agent.protocol.tools"
        )
    tools = (build_tools(config) if configured else {}) | (extra_tools or {})
    return ToolExecutor(tools, config.executor, tokenizer.cut, Cache.from_config(config.cache))
