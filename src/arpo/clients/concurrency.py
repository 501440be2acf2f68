"""Concurrency helpers: one object per event loop, a limit on calls, a single flight for equal calls, a stream of results."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object per event loop, such as connections; an object ends with its loop.

    Args:
        make: makes the object.
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
        """Remove and return the object of the running event loop; None when there is none."""
        value, self._value = self._value, None
        return value if self._loop is asyncio.get_running_loop() else None


class ConcurrencyLimit(PerLoop[asyncio.Semaphore]):
    """A semaphore that works in one event loop after another.

    Args:
        number: most holders at the same time.

    Example:
        async with limit.get(): ...
    """

    def __init__(self, number: int) -> None:
        super().__init__(lambda: asyncio.Semaphore(number))


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: "asyncio.Task[T]"
    waiters: int = 0


class SingleFlight(Generic[T]):
    """Shares one call among equal calls made at the same time.

    A waiter may be cancelled without ending the call for the rest; the call ends when its last waiter is cancelled.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    def __contains__(self, name: str) -> bool:
        """True while a call of this name is under way."""
        return name in self._flights

    async def run(self, name: str, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The value of `call`, or of the call of the same name under way; the bool is True when the call was shared."""
        flight = self._flights.get(name)
        is_shared = flight is not None
        if flight is None:
            flight = self._flights[name] = _Flight(asyncio.ensure_future(call()))
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task), is_shared
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and self._flights.get(name) is flight:
                del self._flights[name]
                flight.task.cancel()  # without effect on a finished one


@contextmanager
def first_error(last: type[BaseException] | tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Raise the first error of an exception group in place of the group; errors of the class `last` come after all others."""
    try:
        yield
    except BaseExceptionGroup as errors:
        error = min(errors.exceptions, key=lambda e: isinstance(e, last))
        raise error from error.__cause__


async def stream(produce: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> AsyncGenerator[T, None]:
    """Yield each item that the coroutine `produce` passes to its argument; ends with `produce`, and with its error.

    `produce` runs as an asyncio task while items are consumed. Closing the generator cancels the task and waits for its end.
    """
    items: asyncio.Queue[T | None] = asyncio.Queue()
    task = asyncio.create_task(produce(items.put_nowait))
    task.add_done_callback(lambda _: items.put_nowait(None))
    try:
        while (item := await items.get()) is not None:
            yield item
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
