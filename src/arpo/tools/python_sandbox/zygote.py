"""arpo's side of the zygote: starts it, sends it programs, reads their outcomes."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from arpo.errors import ToolError
from arpo.tools.python_sandbox import launch
from arpo.tools.python_sandbox.config import PythonSandboxConfig

_START_S = 60.0
_STOP_S = 5.0


class ZygoteDiedError(Exception):
    """The zygote ended while it ran a program."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Captured:
    """Text of one stream."""

    text: str
    was_cut: bool
    """True when the stream holds more."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Outcome:
    """Outcome of one program."""

    exit_code: int
    """0: success; 1: the program raised; else its exit code, or minus the signal that ended it."""
    stopped: Literal["wall", "cpu", "scratch"] | None
    """Limit at which the program was killed; None when it was not killed."""
    jail_failed: bool
    """True when the jail could not be set up and the program did not run."""
    is_over: bool
    """True when the process has ended; False when a session's process lives on."""
    output: Captured
    """Standard output."""
    errors: Captured
    """Standard error."""
    report: Captured
    """Traceback of the exception, its last line first."""


class _Streams:
    """The files a program reads from and writes to, in memory."""

    def __init__(self) -> None:
        self.fds = [os.memfd_create(name) for name in ("program", "output", "errors", "report")]

    def load(self, source: str) -> None:
        """Write a program in and clear the output of an earlier one."""
        for fd in self.fds:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
        with open(self.fds[0], "wb", closefd=False) as file:
            file.write(source.encode("utf-8", "surrogatepass"))

    def outcome(self, reply: dict[str, Any], max_bytes: int) -> Outcome:
        """The outcome of the program: the zygote's reply and the streams."""
        output, errors, report = (_read(fd, max_bytes) for fd in self.fds[1:])
        return Outcome(
            exit_code=reply["exit"],
            stopped=reply["stopped"],
            jail_failed=reply["jail_failed"],
            is_over=reply["is_over"],
            output=output,
            errors=errors,
            report=report,
        )

    def close(self) -> None:
        """Close the files; calling it twice is harmless."""
        while self.fds:
            os.close(self.fds.pop())


class LiveProcess:
    """A confined process that waits for one program, or for a session's programs; `Zygote.open` makes it."""

    def __init__(self, zygote: "Zygote", channel: socket.socket, streams: _Streams) -> None:
        self._zygote = zygote
        self._channel = channel
        self._streams = streams

    async def run(self, source: str) -> Outcome:
        """Run a program. After a cancelled run, or an outcome with `is_over`, only `close` may be called.

        Raises:
            ZygoteDiedError: the zygote ended first.
        """
        await self.start(source)
        return await self.outcome()

    async def start(self, source: str) -> None:
        """Start a program; `outcome` waits for it."""
        self._streams.load(source)
        with contextlib.suppress(OSError):  # the process has ended; `outcome` reads its last reply
            await asyncio.get_running_loop().sock_sendall(self._channel, b"g")

    async def outcome(self) -> Outcome:
        """The outcome of the started program.

        Raises:
            ZygoteDiedError: the zygote ended first.
        """
        return await self._zygote.hear(self._channel, self._streams)

    def close(self) -> None:
        """Kill the process; calling it twice is harmless."""
        self._channel.close()
        self._streams.close()


class Zygote:
    """A running zygote. `close` ends it and its programs, and deletes their files."""

    def __init__(self, config: PythonSandboxConfig, mechanism: Literal["bubblewrap", "landlock"]) -> None:
        """Start the zygote and wait until it has proved its jail.

        Raises:
            ToolError: it cannot start here; the message says why and what to do.
        """
        self._max_bytes = config.max_output_bytes
        self.scratch_folder: str | None = None
        """Folder of the programs' scratch folders; None when other processes cannot see them."""
        self._has_died = False
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = os.memfd_create("errors")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                if mechanism == "bubblewrap":
                    command = launch.bubblewrap_command(config, theirs.fileno())
                else:
                    self.scratch_folder = tempfile.mkdtemp(prefix="arpo-python-")
                    command = launch.landlock_command(config, theirs.fileno(), self.scratch_folder)
                self._process = subprocess.Popen(
                    command,
                    env=launch.ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C reaches only arpo
                )
            self.landlock_abi = self._await_ready(mechanism)
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        """False once the zygote has ended."""
        return not self._has_died and self._process is not None and self._process.poll() is None

    def processes(self) -> list[int]:
        """Process ids, parents before children: bubblewrap's, the zygote's, then its programs'."""
        pids = [self._process.pid] if self._process is not None else []
        for parent in pids:
            with contextlib.suppress(OSError):  # it has just ended
                pids += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        return pids

    def open(self, kind: Literal["program", "session"]) -> LiveProcess:
        """A process for one program, or for a session of programs.

        Raises:
            ZygoteDiedError: the zygote has ended.
        """
        streams = _Streams()
        try:
            return LiveProcess(self, self._submit(kind, streams), streams)
        except BaseException:
            streams.close()
            raise

    async def hear(self, channel: socket.socket, streams: _Streams) -> Outcome:
        """The outcome of the program whose end `channel` reports.

        Raises:
            ZygoteDiedError: the zygote ended first.
        """
        try:
            reply = await asyncio.get_running_loop().sock_recv(channel, 4096)
        except ConnectionError:
            reply = b""
        if not reply:
            self._has_died = True
            raise ZygoteDiedError
        return streams.outcome(json.loads(reply), self._max_bytes)

    def close(self) -> None:
        """End the zygote; calling this twice is harmless."""
        self._control.close()
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1
        if self.scratch_folder is not None:
            shutil.rmtree(self.scratch_folder, ignore_errors=True)

    def _await_ready(self, mechanism: str) -> int:
        self._control.settimeout(_START_S)
        try:
            message = self._control.recv(65_536)
        except TimeoutError:
            raise ToolError(f"Python sandbox ({mechanism}): no sign of life within {_START_S:.0f} s of its start") from None
        if not message:
            raise ToolError(
                f"Python sandbox ({mechanism}): it ended at start: {_read(self._errors, 2000).text.strip() or 'no message'}"
            )
        ready = json.loads(message)
        if ready["fault"] is not None:
            raise ToolError(f"Python sandbox ({mechanism}): {ready['fault']}")
        self._control.setblocking(False)
        return ready["landlock"]

    def _submit(self, kind: str, streams: _Streams) -> socket.socket:
        """Send a program's files; the socket that its outcome comes from."""
        # Packets: one reply is one message.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                socket.send_fds(self._control, [kind.encode()], [theirs.fileno(), *streams.fds])
            except OSError:
                ours.close()
                self._has_died = True
                raise ZygoteDiedError from None
        return ours


def _read(fd: int, max_bytes: int) -> Captured:
    """The first `max_bytes` of a file as text."""
    data = os.pread(fd, max_bytes, 0)
    was_cut = os.fstat(fd).st_size > max_bytes
    return Captured(text=data.decode("utf-8", "ignore" if was_cut else "replace"), was_cut=was_cut)
