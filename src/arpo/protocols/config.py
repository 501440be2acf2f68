"""How the tag protocol is configured."""

import re
from typing import Self

from pydantic import Field, model_validator

from arpo.config import Config

RESERVED_TAGS = ("think", "answer", "result")
DEFAULT_ARGUMENTS = {"search": "query", "python": "code"}


class TagProtocolConfig(Config):
    """Tools as tags: `<search> query </search>`, answered by `<result> ... </result>`."""

    tools: tuple[str, ...] = ("search", "python")
    """Names of the tools the model may call; each is a tag. Empty: the model reasons and answers without tools."""
    arguments: dict[str, str] = Field(default_factory=dict)
    """Name of the argument that the text inside a tool's tag fills, by tool. Where this says nothing it is `query` for
    `search`, `code` for `python` and `input` for any other tool."""
    system_prompt: str = "paper"
    """System message of tasks that bring none: `paper` is the packaged text that explains the tags and their tools; empty means
    no system message; anything else is used as it is."""

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        for name in self.tools:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED_TAGS:
                raise ValueError(
                    f"tools: {name!r} cannot be a tag; use lower-case letters, digits and _, and not {', '.join(RESERVED_TAGS)}"
                )
        if len(set(self.tools)) < len(self.tools):
            raise ValueError(f"tools = {list(self.tools)} names a tool twice; name each once")
        unknown = sorted(set(self.arguments) - set(self.tools))
        if unknown:
            raise ValueError(
                f"arguments: {', '.join(unknown)} is not among tools = {list(self.tools)}; add it there or remove it"
            )
        return self

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag of the protocol, opening and closing: `("<think>", "</think>", "<answer>", ...)`."""
        return tuple(tag for name in (*RESERVED_TAGS, *self.tools) for tag in (f"<{name}>", f"</{name}>"))

    def argument_of(self, tool: str) -> str:
        """The name of the argument that a call of `tool` fills."""
        return self.arguments.get(tool) or DEFAULT_ARGUMENTS.get(tool, "input")
