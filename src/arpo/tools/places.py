"""A bound on how much goes on at once."""

import asyncio


class Places:
    """At most `number` holders at a time. Unlike a bare semaphore it may be used from one event loop after another.

    Example:
        async with places.here(): ...
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._loop: asyncio.AbstractEventLoop | None = None
        self._semaphore = asyncio.Semaphore(number)

    def here(self) -> asyncio.Semaphore:
        """The semaphore of the running event loop; what held places in an earlier loop ended with it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._semaphore = loop, asyncio.Semaphore(self._number)
        return self._semaphore
