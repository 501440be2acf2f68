"""Objects that belong to one event loop, such as connections and semaphores."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for the running event loop; that of an earlier loop ended with it.

    Args:
        make: makes the object.

    Example:
        limit = PerLoop(lambda: asyncio.Semaphore(8))
        async with limit.get(): ...
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._value: T | None = None

    def get(self) -> T:
        """The object of the running event loop, made on first use."""
        loop = asyncio.get_running_loop()
        if self._value is None or loop is not self._loop:
            self._loop, self._value = loop, self._make()
        return self._value

    def take(self) -> T | None:
        """The object of the running event loop, which is forgotten; None when there is none."""
        value, self._value = self._value, None
        return value if self._loop is asyncio.get_running_loop() else None
