"""The background task that steps an engine while there are requests."""

import asyncio
from collections.abc import Awaitable, Callable

from arpo.errors import EngineError


class Pump:
    """Steps an engine whenever it has work, in a task of the event loop that starts it; every further loop gets a new task."""

    def __init__(
        self, has_work: Callable[[], bool], step: Callable[[], Awaitable[None]], fail: Callable[[Exception], None]
    ) -> None:
        """A pump; `start` starts it.

        Args:
            has_work: Whether a step is due.
            step: Does one step; requests that arrive meanwhile wait for the next.
            fail: Raises the error of a step, or of closing, in every waiting caller.
        """
        self._has_work = has_work
        self._step = step
        self._fail = fail
        self._wake = asyncio.Event()
        self._task: asyncio.Task | None = None
        self._is_closed = False

    def start(self) -> None:
        """Make sure that the task runs; call it before a request is added.

        Raises:
            EngineError: the engine was closed.
        """
        if self._is_closed:
            raise EngineError("the inference engine is closed; build a new one")
        if self._task is None or self._task.done():
            self._wake = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """Make the task look for work again."""
        self._wake.set()

    async def aclose(self) -> None:
        """End the task for good; waiting callers get an EngineError."""
        self._is_closed = True
        if self._task is not None and not self._task.done():  # done: perhaps with its event loop
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail(EngineError("it was closed"))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0)
            if not self._has_work():
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._step()
            except Exception as error:
                self._fail(error)
