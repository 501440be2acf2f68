"""Configuration of protocols."""

import re
from datetime import date
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BeforeValidator, Field, field_validator, model_validator

from arpo.conditions import only_with
from arpo.config import Config

RESERVED_TAGS = ("think", "answer", "result")
DEFAULT_ARGUMENTS = {"search": "query", "python": "code"}
DEFAULT_TOOLS = ("search", "python")
PROMPTS = ("paper", "react", "search_o1", "direct")
"""Packaged system messages of the tag protocol."""


class _PromptConfig(Config):
    """Keys of the prompt, which the chat template writes under every protocol."""

    task_system_prompt: Literal["keep", "replace", "drop"] = "keep"
    """What becomes of the system message of a task or conversation: `keep`: it stands, and `system_prompt` is for prompts
    without one; `replace`: `system_prompt` stands in its place; `drop`: no prompt has one, but what the chat template writes
    by itself."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Variables of the model's chat template, e.g. `{enable_thinking = false}`; one that the template does not read is an
    error."""
    template_date: date = date(2024, 7, 26)
    """The day that a chat template prints as today's (`strftime_now`, `date_string`); it is the same in every prompt of a run,
    a resumed one too."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _refuse_own(cls, arguments: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        own = sorted({"messages", "tools", "documents", "add_generation_prompt"} & arguments.keys())
        if own:
            raise ValueError(f"{own[0]!r} is given to the template by arpo, so it has no effect here; leave it out")
        return arguments

    @model_validator(mode="after")
    def _require_a_replacement(self) -> Self:
        if self.task_system_prompt == "replace" and not getattr(self, "system_prompt", ""):
            raise ValueError(
                "task_system_prompt = 'replace' with an empty system_prompt; write the text there, or choose 'drop'"
            )
        return self

    @property
    def template_variables(self) -> dict[str, Any]:
        """All variables of the chat template."""
        day = self.template_date
        return {"strftime_now": day.strftime, "date_string": day.strftime("%d %b %Y"), **self.chat_template_kwargs}


class TagProtocolConfig(_PromptConfig):
    """Tools as tags: `<search> query </search>`, answered by `<result> ... </result>`."""

    type: Literal["tags"] = "tags"
    """`tags`: the papers' tags, as plain text."""
    tools: tuple[str, ...] = DEFAULT_TOOLS
    """Names of the tools the model may call; each is a tag. Empty: the model reasons and answers without tools."""
    arguments: dict[str, str] = Field(default_factory=dict)
    """Argument that the text inside a tool's tag fills, by tool. The default is `query` for `search`, `code` for `python`, and
    the only argument or the only required one for any other tool; a tool that requires several takes a JSON object of
    arguments inside its tag."""
    system_prompt: Annotated[str, only_with(task_system_prompt=("keep", "replace"))] = "paper"
    """System message, of prompts without one or of all (`task_system_prompt`): the name of a packaged text that explains the
    tags and their tools (`paper`, `react`, `search_o1`; `direct` without tools); empty: no system message; anything else is
    the text itself."""

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        for name in self.tools:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in (*RESERVED_TAGS, "user"):
                reserved = ", ".join((*RESERVED_TAGS, "user"))
                raise ValueError(f"tools: {name!r} cannot be a tag; use lower-case letters, digits and _, and not {reserved}")
        _refuse_doubles(self.tools)
        unknown = sorted(set(self.arguments) - set(self.tools))
        if unknown:
            raise ValueError(
                f"arguments: {', '.join(unknown)} is not among tools = {list(self.tools)}; add it there or remove it"
            )
        return self

    @property
    def tags(self) -> tuple[str, ...]:
        """All opening and closing tags of the protocol: `("<think>", "</think>", "<answer>", ...)`."""
        return tuple(tag for name in (*RESERVED_TAGS, *self.tools) for tag in (f"<{name}>", f"</{name}>"))


class ChatProtocolConfig(_PromptConfig):
    """Common keys of the protocols that use the model's chat template."""

    tools: tuple[str, ...] = DEFAULT_TOOLS
    """Names of the tools whose schemas the prompt shows. Empty: the model reasons and answers without tools."""
    system_prompt: Annotated[str, only_with(task_system_prompt=("keep", "replace"))] = "default"
    """System message, of prompts without one or of all (`task_system_prompt`): `default`: the packaged text; empty: the
    template decides; anything else is the text itself."""

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        for name in self.tools:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
                raise ValueError(f"tools: {name!r} cannot be a tool's name; use up to 64 letters, digits, _, - and .")
        _refuse_doubles(self.tools)
        return self


class HermesProtocolConfig(ChatProtocolConfig):
    """Calls in the format of Hermes and Qwen: `<tool_call>{"name": ..., "arguments": ...}</tool_call>`."""

    type: Literal["hermes"] = "hermes"
    """`hermes`: JSON between `<tool_call>` and `</tool_call>`, any number of them in a turn."""


class Llama3ProtocolConfig(ChatProtocolConfig):
    """Calls in the format of Llama 3: a turn that is `{"name": ..., "parameters": ...}`."""

    type: Literal["llama3_json"] = "llama3_json"
    """`llama3_json`: a turn of JSON objects, several separated by `;`."""


class Qwen3CoderProtocolConfig(ChatProtocolConfig):
    """Calls in the format of Qwen3-Coder and Qwen3.5: `<tool_call><function=...><parameter=...>...</parameter></function>`."""

    type: Literal["qwen3_coder"] = "qwen3_coder"
    """`qwen3_coder`: tags of a function and its parameters between `<tool_call>` and `</tool_call>`, any number in a turn."""


def _tags_by_default(section: Any) -> Any:
    return {"type": "tags", **cast(dict[str, Any], section)} if isinstance(section, dict) else section


ProtocolConfig = Annotated[
    TagProtocolConfig | HermesProtocolConfig | Llama3ProtocolConfig | Qwen3CoderProtocolConfig,
    Field(discriminator="type"),
    BeforeValidator(_tags_by_default),
]


def _refuse_doubles(tools: tuple[str, ...]) -> None:
    if len(set(tools)) < len(tools):
        raise ValueError(f"tools = {list(tools)} names a tool twice; name each once")
