"""Makes a user's Python function a tool."""

import asyncio
import contextvars
import copy
import functools
import inspect
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError

from arpo.errors import ConfigError, ToolError
from arpo.tools.base import StatelessTool, Tool, TransientError
from arpo.tools.version import make_version
from arpo.types import ToolResult

Function = Callable[..., Any]
OwnTools = Mapping[str, Tool | Function]
"""Tools of one's own by name: `Tool`s, functions, `@arpo.tool` functions."""


class FunctionTool(StatelessTool):
    """A plain or asynchronous function as a tool: hints and docstring give the schema, the value is the result's text.

    The function must keep no state: branches share it. A plain function runs in a new thread; after a timeout the thread goes
    on until the function ends. pydantic reads the arguments by the hints: a pydantic model arrives as one, and `run` takes
    `"3"` for an int, though the executor refuses it by the schema. The docstring's first paragraph describes the tool, its
    `Args:` section the arguments.

    A value that is not text is shown by `repr`; a `ToolResult` is returned unchanged.

    Args:
        function: the function; every parameter has a type hint that JSON can express.
        name: name the model calls the tool by; None: the function's name.
        schema: JSON schema of the arguments; None derives it.
        deterministic: True when the same arguments always give the same value, so that results may be cached. A change of the
            function's source invalidates cached results; a change of the functions it calls does not.

    Raises:
        ToolError: a parameter has no hint, or one that JSON cannot express.

    Example:
        def add(a: int, b: int = 1) -> int:
            "Sum of two numbers."
        FunctionTool(add).schema["required"]  # -> ["a"]
    """

    def __init__(
        self,
        function: Function,
        name: str | None = None,
        schema: Mapping[str, Any] | None = None,
        *,
        deterministic: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self.name = name or _function_name(function)
        self._parameters, self._arguments = _arguments_model(function, self.name)
        self.schema: Mapping[str, Any] = schema if schema is not None else _schema(function, self._arguments, self.name)
        self.is_cacheable = deterministic
        self.version = make_version("function-1", self.name, _source(function))

    def named(self, name: str, *files: str) -> "FunctionTool":
        """The same function under another name; `files`: digests of its code, a change of which invalidates cached results."""
        renamed = copy.copy(self)
        renamed.name = name
        renamed.version = make_version("function-1", name, _source(self._function), *files)
        return renamed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's value."""
        return self._function(*args, **kwargs)

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Call the function; an exception, except `TransientError`, becomes an `error` result with its last line."""
        try:
            values = self._arguments.model_validate(dict(arguments))
        except ValidationError as error:
            return ToolResult(content=f"{self.name}: {_explain(error)}", status="error")
        keywords = {name: getattr(values, field) for field, name in self._parameters.items()}
        try:
            is_async = inspect.iscoroutinefunction(self._function)
            value = self._function(**keywords) if is_async else await _in_thread(self._function, keywords)
            if inspect.isawaitable(value):
                value = await value
        except TransientError:
            raise
        except Exception as error:
            return ToolResult(content=_as_text(f"{type(error).__name__}: {error}"), status="error")
        return value if isinstance(value, ToolResult) else ToolResult(content=_as_text(value))


@overload
def tool(function: Function, /) -> FunctionTool: ...
@overload
def tool(*, name: str | None = None, deterministic: bool = False) -> Callable[[Function], FunctionTool]: ...
def tool(
    function: Function | None = None, /, *, name: str | None = None, deterministic: bool = False
) -> FunctionTool | Callable[[Function], FunctionTool]:
    """Decorator that makes a function a `FunctionTool`, which can still be called; write `@tool` or `@tool(...)`.

    Args:
        function: the decorated function.
        name: as in `FunctionTool`.
        deterministic: as in `FunctionTool`.

    Raises:
        ToolError: as `FunctionTool`.

    Example:
        @arpo.tool
        def add(a: int, b: int = 1) -> int:
            "Sum of two numbers."
            return a + b

        add(2, 3)                                  # -> 5
        (await add.run({"a": "2"})).content        # -> "3"
        arpo.train_rl(run, tools={"add": add})
    """
    if function is not None:
        return FunctionTool(function)
    return lambda decorated: FunctionTool(decorated, name, deterministic=deterministic)


def as_tool(given: Any, name: str, label: str | None = None) -> Tool:
    """A tool of one's own: a `Tool` as it is, a function by its hints and docstring, an `@arpo.tool` under this name.

    Args:
        given: Tool or function.
        name: What the model calls it.
        label: What messages call it; None: the argument `tools`.

    Raises:
        ConfigError: it is neither a tool of this name nor a function.
        ToolError: as `FunctionTool`.

    Example:
        as_tool(add, "plus").name  # -> "plus"
    """
    label = label or f"tools[{name!r}]"
    if isinstance(given, FunctionTool):
        return given if given.name == name else given.named(name)
    if inspect.isclass(given):
        raise ConfigError(f"{label} is the class {given.__name__}; name a function, or a tool made of it ({given.__name__}())")
    if isinstance(given, Tool):
        if given.name != name:
            raise ConfigError(f"{label} is a tool that calls itself {given.name!r}; write {given.name!r} in place of {name!r}")
        return given
    if not callable(given):
        raise ConfigError(f"{label} is a {type(given).__name__}; it must be a function with type hints, or a tool")
    try:
        return FunctionTool(given, name)
    except ToolError as error:
        raise ToolError(f"{label}: {error}") from None


def as_tools(given: OwnTools | None) -> dict[str, Tool]:
    """Each of the tools given from Python as a `Tool`; raises as `as_tool`."""
    return {name: as_tool(tool, name) for name, tool in (given or {}).items()}


async def _in_thread(function: Function, keywords: Mapping[str, Any]) -> Any:
    """Call a function in a daemon thread, which goes on after a cancelled call and does not delay the program's exit."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            done.set_exception(error)
        else:  # a future cannot hold these exceptions, and a tool may end neither the program nor an iteration
            done.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))

    def work() -> None:
        value, failure = None, None
        try:
            value = context.run(function, **keywords)
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: no waiter is left
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, name=f"tool-{_function_name(function)}", daemon=True).start()
    return await done


def _as_text(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is not text


def _function_name(function: Function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _source(function: Function) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed into an interpreter, or written in C
        return ""


def _arguments_model(function: Function, name: str) -> tuple[dict[str, str], type[BaseModel]]:
    """Parameter names by field, and the model; fields are numbered, as not every parameter's name can be a field's."""
    try:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
    except (NameError, TypeError, ValueError) as error:
        raise ToolError(
            f"FunctionTool {name!r}: its parameters cannot be read ({error}); write an ordinary function"
        ) from error
    descriptions = _argument_descriptions(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters.values()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or parameter.name not in hints:
            raise ToolError(f"FunctionTool {name!r}: parameter {str(parameter)!r} must be an ordinary one with a type hint")
        default = ... if parameter.default is parameter.empty else parameter.default
        field = Field(default, alias=parameter.name, title=None, description=descriptions.get(parameter.name))
        fields[f"argument_{index}"] = (hints[parameter.name], field)
    try:
        model = cast(type[BaseModel], create_model(name, __config__=ConfigDict(extra="forbid"), **fields))
    except (PydanticUserError, NameError) as error:
        raise ToolError(_unfit(name, {parameter: hints[parameter] for parameter in parameters})) from error
    return dict(zip(fields, parameters, strict=True)), model


def _schema(function: Function, arguments: type[BaseModel], name: str) -> dict[str, Any]:
    try:
        schema = arguments.model_json_schema()
    except PydanticUserError as error:
        hints = get_type_hints(function, include_extras=True)
        raise ToolError(
            _unfit(name, {parameter: hints[parameter] for parameter in inspect.signature(function).parameters})
        ) from error
    for argument in schema.get("properties", {}).values():
        argument.pop("title", None)
    schema.pop("title", None)
    summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    return {"type": "object", "description": summary, "properties": {}, "required": [], **schema}


def _unfit(name: str, hints: Mapping[str, Any]) -> str:
    """The error of a function with a hint that no JSON value fits; it names the first such parameter."""
    unfit = next((parameter for parameter, hint in hints.items() if not _fits_json(hint)), None)
    which = "a parameter" if unfit is None else f"parameter {unfit!r}: {inspect.formatannotation(hints[unfit])}"
    return (
        f"FunctionTool {name!r}: {which} has a type hint that JSON cannot express; use str, int, float, bool, list, dict, "
        f"Literal or a pydantic model, or make the tool in Python with schema="
    )


def _fits_json(hint: Any) -> bool:
    try:
        TypeAdapter(hint).json_schema()
    except (PydanticUserError, NameError):
        return False
    return True


def _argument_descriptions(docstring: str) -> dict[str, str]:
    """Entries of a docstring's `Args:` section by parameter, each in one line."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", docstring, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^(\s+)(\w+)(?: \([^)]*\))?: (.+(?:\n\1\s+.+)*)$", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for _, name, text in entries}


def _explain(error: ValidationError) -> str:
    return "; ".join(f"argument {'.'.join(map(str, e['loc']))!r}: {e['msg']}" for e in error.errors())
