"""The zygote: a small process that stays clean and forks one confined child per program.

Started with one descriptor (a socket to arpo) and its settings as JSON. Per program arpo sends four descriptors: the reply
socket, the program's text, and two anonymous files for its standard output and error. The zygote never reads the program; its
child does, after it has closed every other descriptor. What became of the child the zygote knows from the kernel: a program
cannot forge it.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from . import landlock, program, seccomp, system

_TICK_S = 0.05
_JAIL_FAILED = 97
_COMMON_MODULES = ("collections", "datetime", "decimal", "fractions", "itertools", "json", "math", "re", "statistics", "string")
_HOLES = {1: "a file outside the scratch folder can be written", 2: "a socket can be made", 3: "a process can be forked"}
_Request = list[int]
"""Descriptors: reply socket, program text, standard output, standard error."""


@dataclass
class _Child:
    pid: int
    pidfd: int
    reply: socket.socket
    scratch: str
    started: float
    stopped: str | None = None
    """Why the zygote killed it: `wall` or `scratch`; None when it did not."""


class Supervisor:
    """Starts, watches and reports children."""

    def __init__(self, control: socket.socket, settings: dict[str, Any]) -> None:
        self._control = control
        self._settings = settings
        self._has_landlock = landlock.abi() > 0
        self._filter = seccomp.build_filter(may_write=self._has_landlock)
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._children: dict[int, _Child] = {}
        self._count = 0

    def prove(self) -> str | None:
        """What the jail fails to block, found by trying it in a child; None when it holds."""
        scratch = os.path.join(self._settings["scratch_root"], "probe")
        os.mkdir(scratch, 0o700)
        pid = os.fork()
        if pid == 0:
            _leave(lambda: self._probe(scratch))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        _delete(scratch)
        return None if status == 0 else _HOLES.get(status, f"the kernel refused to set up the jail (status {status})")

    def serve(self) -> None:
        """Run programs until arpo closes its end of the socket."""
        while True:
            for fd, _ in self._poll.poll(_TICK_S if self._children else None):
                if fd == self._control.fileno():
                    request = socket.recv_fds(self._control, 1, 4)[1]
                    if not request:
                        return
                    self._start(request)
                elif fd in self._children:
                    self._finish(self._children.pop(fd))
                else:
                    self._abandon(fd)
            self._stop_offenders()

    def kill_all(self) -> None:
        """End every child and delete its files."""
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            _delete(child.scratch)

    def _start(self, request: _Request) -> None:
        self._count += 1
        scratch = os.path.join(self._settings["scratch_root"], f"{self._count:08d}")
        os.mkdir(scratch, 0o700)
        pid = os.fork()
        if pid == 0:
            _leave(lambda: self._run_program(request, scratch))
        child = _Child(pid, os.pidfd_open(pid), socket.socket(fileno=request[0]), scratch, time.monotonic())
        for fd in request[1:]:
            os.close(fd)
        self._children[child.pidfd] = child
        self._poll.register(child.pidfd, select.EPOLLIN)
        self._poll.register(child.reply.fileno(), 0)  # only a hang-up is reported: arpo no longer wants the result

    def _abandon(self, reply_fd: int) -> None:
        for child in self._children.values():
            if child.reply.fileno() == reply_fd:
                self._poll.unregister(reply_fd)
                os.kill(child.pid, signal.SIGKILL)

    def _stop_offenders(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.stopped is not None or now - child.started < _TICK_S:
                continue
            if now - child.started >= self._settings["wall_s"]:
                child.stopped = "wall"
            elif _folder_size(child.scratch) > self._settings["scratch_mb"] << 20:
                child.stopped = "scratch"
            if child.stopped is not None:
                os.kill(child.pid, signal.SIGKILL)

    def _finish(self, child: _Child) -> None:
        _, status, usage = os.wait4(child.pid, 0)
        # A child just forked may still hold these descriptors, so closing alone would leave them registered.
        self._poll.unregister(child.pidfd)
        os.close(child.pidfd)
        with contextlib.suppress(FileNotFoundError):
            self._poll.unregister(child.reply.fileno())
        _delete(child.scratch)
        code = os.waitstatus_to_exitcode(status)
        stopped = child.stopped
        if stopped is None and (
            -code == signal.SIGXCPU or (-code == signal.SIGKILL and _cpu(usage) >= self._settings["cpu_s"])
        ):
            stopped = "cpu"
        reply = {"exit": code, "stopped": stopped, "jail_failed": code == _JAIL_FAILED}
        with contextlib.suppress(OSError):  # arpo may have left
            child.reply.send(json.dumps(reply).encode())
        child.reply.close()

    def _run_program(self, request: _Request, scratch: str) -> int:
        text = self._take_streams(request)
        with open(text, encoding="utf-8", errors="surrogatepass") as file:
            source = file.read()
        self._enter_jail(scratch)
        return program.run(source)

    def _take_streams(self, request: _Request) -> int:
        """Put the program's files where they belong and close every other descriptor; the descriptor of its text."""
        _, text, output, errors = request
        os.dup2(output, 1)
        os.dup2(errors, 2)
        text = os.dup2(text, 3) if text != 3 else text
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        return text

    def _enter_jail(self, scratch: str) -> None:
        system.die_with_parent()
        os.chdir(scratch)
        os.environ["HOME"] = os.environ["TMPDIR"] = scratch
        if self._has_landlock:
            landlock.restrict(self._settings["readable"], scratch)
        system.limit_resources(
            cpu_s=self._settings["cpu_s"],
            memory=self._settings["memory_mb"] << 20,
            file_size=self._settings["file_mb"] << 20,
            open_files=self._settings["open_files"],
        )
        seccomp.install(self._filter)

    def _probe(self, scratch: str) -> int:
        self._enter_jail(scratch)
        outside = os.path.join(self._settings["scratch_root"], "outside")
        attempts: tuple[Callable[[], object], ...] = (
            lambda: os.open(outside, os.O_CREAT | os.O_WRONLY),
            socket.socket,
            os.fork,
        )
        for hole, attempt in zip(_HOLES, attempts, strict=True):
            with contextlib.suppress(PermissionError):
                attempt()
                return hole
        return 0


def main() -> None:
    """Set up, say whether the jail holds, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    del sys.path[0]  # where this package lies
    sys.path.extend(settings["site_packages"])
    cast(io.TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)  # what was printed before a program is killed is kept
    supervisor, fault = None, _missing(settings)
    if fault is None:
        system.drop_privileges()
        fault = _preload(settings["preload"])
    if fault is None:
        supervisor = Supervisor(control, settings)
        fault = supervisor.prove()
    control.send(json.dumps({"fault": fault, "landlock": landlock.abi()}).encode())
    if supervisor is None or fault is not None:
        return
    gc.collect()
    gc.freeze()
    try:
        supervisor.serve()
    finally:
        supervisor.kill_all()


def _missing(settings: dict[str, Any]) -> str | None:
    if os.uname().machine != seccomp.ARCHITECTURE:
        return f"the seccomp filter is written for {seccomp.ARCHITECTURE}, this machine is {os.uname().machine}"
    if landlock.abi() == 0 and not settings["has_private_files"]:
        return "the kernel has no Landlock (Linux 5.13 or later, with landlock among its active security modules)"
    return None


def _preload(names: list[str]) -> str | None:
    for name in (*_COMMON_MODULES, *names):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"preload: cannot import {name!r} in the sandbox ({error})"
    return None


def _leave(run: Callable[[], int], end: Callable[[int], object] = os._exit) -> None:
    """End this child with the code `run` returns; a jail that cannot be set up ends it before the program starts."""
    try:
        code = run()
    except BaseException:
        code = _JAIL_FAILED
    end(code)


def _cpu(usage: Any) -> float:
    return usage.ru_utime + usage.ru_stime


def _folder_size(folder: str) -> int:
    """Bytes on disk, each file counted as one block at least."""
    with os.scandir(folder) as entries:
        return sum(4096 + _blocks(entry) * 512 for entry in entries)


def _blocks(entry: "os.DirEntry[str]") -> int:
    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
        return entry.stat(follow_symlinks=False).st_blocks
    return 0


def _delete(folder: str) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            os.unlink(entry.path)
    os.rmdir(folder)
