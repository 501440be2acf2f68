"""Turns a service's error into a result or a transient failure."""

from arpo.clients.http import HttpError
from arpo.tools.base import TransientError
from arpo.types import ToolResult


def http_failure(error: HttpError, words: str = "Error") -> ToolResult:
    """The result of a call whose service failed; `words` begin its text.

    Raises:
        TransientError: the same call may succeed later.
    """
    content = f"{words}: {error}"
    if error.is_transient:
        raise TransientError(content, retry_after_s=error.retry_after_s) from error
    return ToolResult(content=content, status="error")
