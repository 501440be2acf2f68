"""Keeps a zygote running and replaces one that died."""

import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from typing import Any

from arpo.clients.concurrency import ConcurrencyLimit
from arpo.errors import ToolError
from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.python_sandbox.isolation import start_zygote
from arpo.tools.python_sandbox.zygote import LiveProcess, Outcome, Zygote, ZygoteDiedError
from arpo.types import ToolResult

_MOST_READY = 4


class SandboxHost:
    """Runs the programs of all trajectories.

    A few processes are made in advance, so that a program need not wait for one.

    Raises:
        ToolError: no isolation works on this machine; the message says what to install.
    """

    def __init__(self, config: PythonSandboxConfig) -> None:
        self.config = config
        self.zygote, self.isolation = start_zygote(config)
        self._finalizer = weakref.finalize(self, self.zygote.close)
        self._limit = ConcurrencyLimit(config.concurrency)
        self._ready: deque[LiveProcess] = deque()
        self._idle: dict[object, LiveProcess] = {}
        self._is_closed = False

    async def call(self, arguments: Mapping[str, Any], run: Callable[[str], Awaitable[Outcome]]) -> Outcome | ToolResult:
        """Run `arguments["code"]` by `run` when a slot is free; its outcome, or an error result when it cannot run."""
        code = arguments.get("code")
        if not isinstance(code, str):
            return ToolResult(content="python: argument 'code' must be a string with the program", status="error")
        try:
            async with self._limit.get():
                return await run(code)
        except ZygoteDiedError:
            return ToolResult(content="The Python sandbox broke down while it ran this program.", status="error")
        except ToolError as error:
            return ToolResult(content=str(error), status="error")

    async def run(self, code: str) -> Outcome:
        """Run one program in a fresh process.

        Raises:
            ZygoteDiedError: two zygotes ended while they ran it.
            ToolError: the host was closed, or no zygote can be started any more.
        """
        zygote = self._live_zygote()
        try:
            with closing(self._ready.popleft() if self._ready else zygote.open("program")) as process:
                await process.start(code)
                self._make_ready()  # while the program runs, so that the next one need not wait
                return await process.outcome()
        except ZygoteDiedError:
            pass
        # One of the zygote's programs ended it: each of them runs once more, alone in a new zygote.
        alone, _ = start_zygote(self.config)
        with closing(alone), closing(alone.open("program")) as process:
            return await process.run(code)

    def open_session(self) -> LiveProcess:
        """A process for the programs of a session.

        Raises:
            ZygoteDiedError: the zygote has just ended.
            ToolError: the host was closed, or no zygote can be started any more.
        """
        return self._live_zygote().open("session")

    def take(self, owner: object) -> LiveProcess | None:
        """Remove and return the process kept for `owner`; None when there is none."""
        return self._idle.pop(owner, None)

    def keep(self, owner: object, live: LiveProcess) -> None:
        """Keep a process until its owner calls again; beyond `live_sessions` the one kept longest is ended."""
        self._idle[owner] = live
        while len(self._idle) > self.config.live_sessions:
            self._idle.pop(next(iter(self._idle))).close()

    def close(self) -> None:
        """End the zygote and every program; calling it twice is harmless."""
        self._is_closed = True
        self._drop_all()
        self._finalizer()

    def _make_ready(self) -> None:
        if self.zygote.is_alive and not self._is_closed:
            with suppress(ZygoteDiedError):  # the next program replaces the zygote
                while len(self._ready) < min(_MOST_READY, self.config.concurrency):
                    self._ready.append(self.zygote.open("program"))

    def _live_zygote(self) -> Zygote:
        if self._is_closed:
            raise ToolError("Python sandbox: used after it was closed")
        if not self.zygote.is_alive:
            self._drop_all()
            self._finalizer()
            self.zygote, self.isolation = start_zygote(self.config)
            self._finalizer = weakref.finalize(self, self.zygote.close)
        return self.zygote

    def _drop_all(self) -> None:
        for process in (*self._ready, *self._idle.values()):
            process.close()
        self._ready.clear()
        self._idle.clear()
