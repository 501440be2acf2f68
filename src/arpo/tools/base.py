"""The protocol of a tool: a name, a JSON schema of its arguments, and an asynchronous `run`."""

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

from arpo.errors import ArpoError
from arpo.types import ToolResult


class TransientError(ArpoError, RuntimeError):
    """A call failed for a reason outside the call (connection lost, server busy): the executor retries it.

    Args:
        message: text the model reads when no retry is left.
        retry_after_s: seconds the server asks to wait; None when it does not ask.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@runtime_checkable
class Tool(Protocol):
    """One tool. A failed call is a ToolResult with status `error`; only a transient failure is raised, as `TransientError`."""

    name: str
    """Name the model calls the tool by; also the tag of the tag protocol."""
    schema: Mapping[str, Any]
    """JSON schema of the arguments, with `properties` and `required`."""
    version: str
    """Changes whenever the same arguments may give another result (code, index, configuration); part of the cache key."""
    is_cacheable: bool
    """True only for a deterministic tool without state."""

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run one call.

        Raises:
            TransientError: the same call may succeed later.
        """
        ...

    def fork(self) -> "Tool":
        """The tool for a branched trajectory: the tool itself when it has no state, else a copy of the state.

        Raises:
            ToolError: the state can be neither copied nor replayed; branches never share it.
        """
        ...

    async def aclose(self) -> None:
        """Free processes and files; calling it twice is harmless."""
        ...


class StatelessTool:
    """Base class of tools without state, which branches share."""

    def fork(self) -> Self:
        """The tool itself."""
        return self

    async def aclose(self) -> None:
        """Nothing to free."""


def is_local(tool: Tool) -> bool:
    """True for a tool that declares `is_local = True`: it needs no network, so offline runs may call it."""
    return getattr(tool, "is_local", False) is True


def needs_question(tool: Tool) -> bool:
    """True for a tool that declares `needs_question = True`: its argument `question` defaults to the task's question."""
    return getattr(tool, "needs_question", False) is True
