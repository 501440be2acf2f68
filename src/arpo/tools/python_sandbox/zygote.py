"""arpo's end of the zygote: starts it, hands it programs, reads what they did."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any, Literal

from arpo.errors import ToolError
from arpo.tools.python_sandbox import launch
from arpo.tools.python_sandbox.config import PythonSandboxConfig

_START_S = 60.0
_STOP_S = 5.0


class ZygoteDiedError(Exception):
    """The zygote ended while it ran a program."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Outcome:
    """What one program did."""

    exit_code: int
    """0 success; 1 it raised; otherwise its own exit code, or minus the signal that ended it."""
    stopped: Literal["wall", "cpu", "scratch"] | None
    """The limit it was killed at; None when it ended by itself."""
    jail_failed: bool
    """True when the jail could not be set up, so that the program never ran."""
    output: str
    """What it printed."""
    report: str
    """Its error, last line of the traceback first."""
    was_cut: bool
    """True when it wrote more than is read back."""


class Zygote:
    """A running zygote. `close` ends it and every program in it, and deletes their files."""

    def __init__(self, config: PythonSandboxConfig, mechanism: Literal["bubblewrap", "landlock"]) -> None:
        """Start it and wait until it has shown that its jail holds.

        Raises:
            ToolError: it cannot start here; says why and what to do.
        """
        self._max_bytes = config.max_output_bytes
        self._scratch_root: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = os.memfd_create("errors")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                if mechanism == "bubblewrap":
                    command = launch.bubblewrap_command(config, theirs.fileno())
                else:
                    self._scratch_root = tempfile.mkdtemp(prefix="arpo-python-")
                    command = launch.landlock_command(config, theirs.fileno(), self._scratch_root)
                self._process = subprocess.Popen(
                    command,
                    env=launch.ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # an interrupt at the terminal is arpo's to handle
                )
            self.landlock_abi = self._await_ready(mechanism)
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        """False once its process has ended."""
        return self._process is not None and self._process.poll() is None

    async def run(self, source: str) -> Outcome:
        """Run one program; cancelling kills it.

        Raises:
            ZygoteDiedError: the zygote ended first.
        """
        ours, theirs = socket.socketpair()
        files = [os.memfd_create(name) for name in ("program", "output", "errors")]
        try:
            with ours:
                ours.setblocking(False)
                with theirs:
                    _write_all(files[0], source.encode("utf-8", "surrogatepass"))
                    self._submit([theirs.fileno(), *files])
                reply = await asyncio.get_running_loop().sock_recv(ours, 4096)
            if not reply:
                raise ZygoteDiedError
            return self._outcome(json.loads(reply), files[1], files[2])
        except ConnectionError:
            raise ZygoteDiedError from None
        finally:
            for fd in files:
                os.close(fd)

    def close(self) -> None:
        """End it; calling this twice is harmless."""
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
        if self._scratch_root is not None:
            shutil.rmtree(self._scratch_root, ignore_errors=True)

    def _await_ready(self, mechanism: str) -> int:
        self._control.settimeout(_START_S)
        try:
            message = self._control.recv(65_536)
        except TimeoutError:
            raise ToolError(f"Python sandbox ({mechanism}): no sign of life within {_START_S:.0f} s of its start") from None
        if not message:
            raise ToolError(
                f"Python sandbox ({mechanism}): it ended at start: {_read(self._errors, 2000)[0].strip() or 'no message'}"
            )
        ready = json.loads(message)
        if ready["fault"] is not None:
            raise ToolError(f"Python sandbox ({mechanism}): {ready['fault']}")
        self._control.setblocking(False)
        return ready["landlock"]

    def _submit(self, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._control, [b"run"], descriptors)
        except OSError:
            raise ZygoteDiedError from None

    def _outcome(self, reply: dict[str, Any], output: int, errors: int) -> Outcome:
        text, text_cut = _read(output, self._max_bytes)
        report, report_cut = _read(errors, self._max_bytes)
        return Outcome(
            exit_code=reply["exit"],
            stopped=reply["stopped"],
            jail_failed=reply["jail_failed"],
            output=text,
            report=report,
            was_cut=text_cut or report_cut,
        )


def _write_all(fd: int, data: bytes) -> None:
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)


def _read(fd: int, max_bytes: int) -> tuple[str, bool]:
    """The first `max_bytes` of a file as text, and whether there was more."""
    data = os.pread(fd, max_bytes, 0)
    was_cut = os.fstat(fd).st_size > max_bytes
    return data.decode("utf-8", "ignore" if was_cut else "replace"), was_cut
