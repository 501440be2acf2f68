"""The text inside a tool's tag: one argument as text, a JSON object of arguments, or nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from arpo.errors import ConfigError
from arpo.protocols.config import DEFAULT_ARGUMENTS, TagProtocolConfig
from arpo.protocols.strict_json import decode_json
from arpo.types import ToolCall


@dataclass(slots=True, frozen=True)
class TagArguments:
    """Reads the text inside one tool's tag as arguments."""

    tool: str
    """Name of the tool."""
    argument: str | None
    """Argument that the text fills; None: the text is a JSON object of arguments."""
    schema: Mapping[str, Any] | None
    """JSON schema of the arguments; None when it is unknown."""

    @classmethod
    def of(cls, tool: str, config: TagProtocolConfig, schema: Mapping[str, Any] | None) -> Self:
        """The configured argument, else the default one, else the only one, else the only required one, else JSON.

        Raises:
            ConfigError: the schema lacks the configured argument.
        """
        configured, default = config.arguments.get(tool), DEFAULT_ARGUMENTS.get(tool)
        if schema is None:
            return cls(tool, configured or default or "input", None)
        properties = list(schema.get("properties", {}))
        if configured is not None and configured not in properties:
            raise ConfigError(
                f"protocol.arguments.{tool} = {configured!r}: the tool's arguments are {properties}; name one of them"
            )
        if default not in properties:
            candidates = properties if len(properties) == 1 else list(schema.get("required", ()))
            default = candidates[0] if len(candidates) == 1 else None
        return cls(tool, configured or default, schema)

    @property
    def has_schema(self) -> bool:
        """True when the schema is known, so that the prompt can explain the tool."""
        return self.schema is not None

    @property
    def is_empty(self) -> bool:
        """True when the tag is empty, as the tool has no arguments."""
        return self.argument is None and not self._properties

    @property
    def takes_json(self) -> bool:
        """True when the text is a JSON object of arguments."""
        return self.argument is None and bool(self._properties)

    @property
    def explanation(self) -> str:
        """A line of the system message, e.g. `- <fetch> and </fetch>: ...`."""
        description = " ".join(str((self.schema or {}).get("description", "")).split())
        about = f" {description}" if description else ""
        tags = f"- <{self.tool}> and </{self.tool}>:"
        if self.is_empty:
            return f"{tags} nothing stands between them.{about}"
        if self.argument is not None:
            return f"{tags} what stands between them is {self._describe(self.argument)}.{about}"
        arguments = "; ".join(self._describe(name) for name in self._properties)
        return f"{tags} what stands between them is a JSON object with {arguments}.{about}"

    def read(self, text: str) -> ToolCall | None:
        """The call of the text inside the tag; None for an empty tag of a tool with arguments."""
        if self.is_empty and not text:
            return ToolCall(name=self.tool, arguments={})
        if not text:
            return None
        if self.argument is not None:
            return self._read_text(self.argument, text)
        try:
            value, end = decode_json(text)
        except ValueError as error:
            return self._malformed(f"{error}")
        if text[end:].strip():
            return self._malformed("text follows the JSON object")
        if not isinstance(value, dict):
            return self._malformed("it is another JSON value")
        return ToolCall(name=self.tool, arguments=cast(dict[str, Any], value))

    def write(self, arguments: Mapping[str, Any]) -> str:
        """The tag with the arguments; those it cannot hold are missing when it is read."""
        value = dict(arguments) if self.argument is None else arguments.get(self.argument, "")
        text = (
            value.strip("\n").rstrip()
            if isinstance(value, str)
            else json.dumps(value, ensure_ascii=False).replace("</", "\\u003c/")
        )
        blank = "\n" if "\n" in text else " "
        return f"<{self.tool}>{blank}{text}{blank}</{self.tool}>" if arguments else f"<{self.tool}></{self.tool}>"

    def _read_text(self, argument: str, text: str) -> ToolCall:
        """The call with the text when the schema takes a string, else with the text's JSON value, if it is valid."""
        kinds = self._properties.get(argument, {}).get("type", "string")
        value: Any = text
        if "string" not in ([kinds] if isinstance(kinds, str) else kinds):
            try:
                value, end = decode_json(text)
                value = value if end == len(text) else text
            except ValueError:
                pass  # the executor explains what the tool takes instead
        return ToolCall(name=self.tool, arguments={argument: value})

    def _malformed(self, reason: str) -> ToolCall:
        fault = f"Malformed tool call: what stands between <{self.tool}> and </{self.tool}> must be a JSON object: {reason}."
        if "Unterminated" in reason:
            fault += r" A closing tag ends the call inside a text too; write its < as \u003c there."
        return ToolCall(name=self.tool, arguments={}, fault=fault)

    @property
    def _properties(self) -> dict[str, Any]:
        return dict((self.schema or {}).get("properties", {}))

    def _describe(self, argument: str) -> str:
        about = self._properties.get(argument, {})
        kind = about.get("type")
        facts = [kind if isinstance(kind, str) else " or ".join(kind)] if kind else []
        facts += ["optional"] if argument not in (self.schema or {}).get("required", ()) else []
        description = " ".join(str(about.get("description", "")).split())
        return f'"{argument}"' + (f" ({', '.join(facts)})" if facts else "") + (f": {description}" if description else "")
