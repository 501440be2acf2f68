"""A user's Python function as a tool."""

import asyncio
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from arpo.errors import ToolError
from arpo.types import ToolResult


class FunctionTool:
    """Makes a plain or asynchronous function a tool: hints and docstring give the schema, its value the result's text.

    The function must keep no state of its own, as branches share it. A plain function runs in a thread; when it is stopped for
    its time, that thread ends only with the function. Arguments are validated by the hints, so `"3"` is read as 3 where an int
    is asked.

    Args:
        function: every parameter has a type hint JSON can express.
        name: what the model calls it by; None takes the function's own.
        schema: JSON schema of the arguments; None derives it.

    Raises:
        ToolError: a parameter has no hint, or one JSON cannot express.

    Example:
        def add(a: int, b: int = 1) -> int:
            "Sum of two numbers."
        FunctionTool(add).schema["required"]  # -> ["a"]
    """

    version = "1"
    is_cacheable = False

    def __init__(self, function: Callable[..., Any], name: str | None = None, schema: Mapping[str, Any] | None = None) -> None:
        self._function = function
        self.name = name or function.__name__
        self._arguments = _arguments_model(function, self.name)
        self.schema: Mapping[str, Any] = schema if schema is not None else _schema(function, self._arguments, self.name)

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Call the function; what it raises becomes an `error` result with the exception's last line."""
        try:
            values = self._arguments.model_validate(dict(arguments))
        except ValidationError as error:
            return ToolResult(content=f"{self.name}: {_explain(error)}", status="error")
        keywords = {field: getattr(values, field) for field in type(values).model_fields}
        try:
            if inspect.iscoroutinefunction(self._function):
                value = await self._function(**keywords)
            else:
                value = await asyncio.to_thread(self._function, **keywords)
        except Exception as error:
            return ToolResult(content=f"{type(error).__name__}: {error}", status="error")
        return ToolResult(content=value if isinstance(value, str) else repr(value))

    def fork(self) -> "FunctionTool":
        """Itself: it has no state."""
        return self

    async def aclose(self) -> None:
        """Nothing to free."""


def _arguments_model(function: Callable[..., Any], name: str) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    descriptions = _argument_descriptions(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or parameter.name not in hints:
            raise ToolError(f"FunctionTool {name!r}: parameter {str(parameter)!r} must be an ordinary one with a type hint")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], Field(default, description=descriptions.get(parameter.name)))
    try:
        return cast(type[BaseModel], create_model(name, __config__=ConfigDict(extra="forbid"), **fields))
    except (PydanticUserError, NameError) as error:
        raise ToolError(f"FunctionTool {name!r}: {error}") from error


def _schema(function: Callable[..., Any], arguments: type[BaseModel], name: str) -> dict[str, Any]:
    try:
        schema = arguments.model_json_schema()
    except PydanticUserError as error:
        raise ToolError(f"FunctionTool {name!r}: its arguments have no JSON schema ({error.message}); pass schema=") from error
    for argument in schema.get("properties", {}).values():
        argument.pop("title", None)
    schema.pop("title", None)
    summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    return {"type": "object", "description": summary, "properties": {}, "required": [], **schema}


def _argument_descriptions(docstring: str) -> dict[str, str]:
    """The lines of a docstring's `Args:` section by parameter."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", docstring, re.MULTILINE)
    lines = re.findall(r"^\s+(\w+)(?: \([^)]*\))?: (.+)$", section.group(1), re.MULTILINE) if section else []
    return dict(lines)


def _explain(error: ValidationError) -> str:
    return "; ".join(f"argument {'.'.join(map(str, e['loc']))!r}: {e['msg']}" for e in error.errors())
