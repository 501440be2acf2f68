"""The zygote: a small clean process that forks one confined child per program, or per session of programs.

It is started with one descriptor (a socket to arpo) and its settings as JSON. For each child arpo sends five descriptors: the
reply socket, the program's text, and three anonymous files for its standard output, standard error and error report. The child
enters its jail and waits; a byte over the reply socket starts the program. The zygote never reads the program; the child reads
it after closing every other descriptor. The kernel tells the zygote how the child ended, so a program cannot forge it.

The child of a session runs a program at each byte, and is stopped (SIGSTOP) in between. There the child reports that a program
ended and whether it raised; with a false report it deceives only its own session.
"""

import contextlib
import fcntl
import gc
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
from .preload import fill_holes, preload

_TICK_S = 0.05
_JAIL_FAILED = 97
_SESSION = b"session"
_NUM_DESCRIPTORS = 5
_HOLES = {1: "a file outside the scratch folder can be written", 2: "a socket can be made", 3: "a process can be forked"}
# The child's descriptors after the three standard streams.
_TEXT, _REPORT, _GO, _DONE = 3, 4, 5, 6


@dataclass(eq=False)
class _Child:
    pid: int
    pidfd: int
    reply: socket.socket
    scratch: "_Scratch"
    go: int
    """Descriptor to which a byte starts the program."""
    done: int | None
    """Descriptor on which a session reports the end of a program; None for a single program."""
    is_running: bool = False
    """False before the program and between the programs of a session."""
    started: float = 0.0
    """Monotonic time at which the program began."""
    cpu_before: float = 0.0
    """Processor seconds of a session before the program began."""
    stopped: str | None = None
    """Limit at which the zygote killed it: `wall`, `cpu` or `scratch`; None when it did not."""


@dataclass(eq=False)
class _Scratch:
    """A scratch folder, which one child after another uses, and the ruleset that confines them to it."""

    folder: str
    ruleset: int | None
    """Landlock descriptor; None when the kernel has no Landlock."""

    def empty(self) -> None:
        """Delete every file."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                os.unlink(entry.path)


class Supervisor:
    """Starts, watches and reports children."""

    def __init__(self, control: socket.socket, settings: dict[str, Any]) -> None:
        self._control = control
        self._settings = settings
        self._has_landlock = landlock.abi() > 0
        self._filter = seccomp.build_filter(may_write=self._has_landlock)
        self._poll = select.epoll()
        self._actions: dict[int, Callable[[], None]] = {}
        self._children: set[_Child] = set()
        self._free: list[_Scratch] = []
        self._num_folders = 0
        self._is_serving = True

    def prove(self) -> str | None:
        """Try to break the jail in a child; the hole it finds, None when the jail holds."""
        scratch = self._take_scratch()
        pid = system.fork()
        if pid == 0:
            _leave(lambda: self._probe(scratch))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self._free.append(scratch)
        return None if status == 0 else _HOLES.get(status, f"the kernel refused to set up the jail (status {status})")

    def serve(self) -> None:
        """Run programs until arpo closes its end of the socket."""
        self._watch(self._control.fileno(), self._take_request)
        while self._is_serving:
            is_busy = any(child.is_running for child in self._children)
            for fd, _ in self._poll.poll(_TICK_S if is_busy else None):
                if (action := self._actions.get(fd)) is not None:  # an earlier action may have ended this one
                    action()
            self._stop_offenders()

    def kill_all(self) -> None:
        """End every child."""
        for child in self._children:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)

    def _watch(self, fd: int, action: Callable[[], None]) -> None:
        self._poll.register(fd, select.EPOLLIN)
        self._actions[fd] = action

    def _unwatch(self, fd: int) -> None:
        # A child just forked may still hold this descriptor, so closing alone would leave it registered.
        if self._actions.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _take_request(self) -> None:
        kind, descriptors, _, _ = socket.recv_fds(self._control, 16, _NUM_DESCRIPTORS)
        if not descriptors:
            self._is_serving = False
        else:
            self._start(descriptors, is_session=kind == _SESSION)

    def _start(self, descriptors: list[int], *, is_session: bool) -> None:
        scratch = self._take_scratch()
        go_read, go = os.pipe()
        done, done_write = os.pipe() if is_session else (None, None)
        for_child = [*descriptors[1:], go_read, *([done_write] if done_write is not None else [])]
        pid = system.fork()
        if pid == 0:
            _leave(lambda: self._run(for_child, scratch, is_session=is_session))
        child = _Child(pid, os.pidfd_open(pid), socket.socket(fileno=descriptors[0]), scratch, go, done)
        for fd in for_child:
            os.close(fd)
        self._children.add(child)
        self._watch(child.pidfd, lambda: self._finish(child))
        self._watch(child.reply.fileno(), lambda: self._hear(child))
        if done is not None:
            self._watch(done, lambda: self._end(child, done))

    def _take_scratch(self) -> _Scratch:
        """A free scratch folder, new if there is none."""
        if self._free:
            return self._free.pop()
        self._num_folders += 1
        folder = os.path.join(self._settings["scratch_root"], f"{self._num_folders:08d}")
        os.mkdir(folder, 0o700)
        return _Scratch(folder, landlock.make_ruleset(self._settings["readable"], folder) if self._has_landlock else None)

    def _hear(self, child: _Child) -> None:
        """Start the child's next program; kill the child when arpo has closed the socket."""
        if not _receive(child.reply):
            self._unwatch(child.reply.fileno())
            os.kill(child.pid, signal.SIGKILL)
            return
        child.started, child.cpu_before, child.is_running = time.monotonic(), _cpu_of(child.pid), True
        os.kill(child.pid, signal.SIGCONT)
        with contextlib.suppress(OSError):  # it has just ended
            os.write(child.go, b"g")

    def _end(self, child: _Child, done: int) -> None:
        """Report the end of a session's program."""
        code = os.read(done, 4096)  # one byte, or more from a program that tries to keep the zygote busy
        if not code:
            self._unwatch(done)  # closed: the process has ended, or will never report an end
        elif child.is_running:
            os.kill(child.pid, signal.SIGSTOP)
            child.is_running = False
            _send(child.reply, {"exit": min(code[0], 1), "stopped": None, "jail_failed": False, "is_over": False})

    def _stop_offenders(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.is_running or child.stopped is not None or now - child.started < _TICK_S:
                continue
            child.stopped = self._offence(child, now)
            if child.stopped is not None:
                os.kill(child.pid, signal.SIGKILL)

    def _offence(self, child: _Child, now: float) -> str | None:
        if now - child.started >= self._settings["wall_s"]:
            return "wall"
        if child.done is not None and _cpu_of(child.pid) - child.cpu_before >= self._settings["cpu_s"]:
            return "cpu"
        return "scratch" if _folder_size(child.scratch.folder) > self._settings["scratch_mb"] << 20 else None

    def _finish(self, child: _Child) -> None:
        _, status, usage = os.wait4(child.pid, 0)
        self._children.discard(child)
        for fd in (child.pidfd, child.go, child.done):
            if fd is not None:
                self._unwatch(fd)
                os.close(fd)
        self._unwatch(child.reply.fileno())
        child.scratch.empty()
        self._free.append(child.scratch)
        code = os.waitstatus_to_exitcode(status)
        stopped = child.stopped
        is_over_limit = -code == signal.SIGKILL and usage.ru_utime + usage.ru_stime >= self._settings["cpu_s"]
        if stopped is None and child.done is None and (-code == signal.SIGXCPU or is_over_limit):
            stopped = "cpu"
        _send(child.reply, {"exit": code, "stopped": stopped, "jail_failed": code == _JAIL_FAILED, "is_over": True})
        child.reply.close()

    def _run(self, descriptors: list[int], scratch: _Scratch, *, is_session: bool) -> int:
        self._enter_jail(scratch, lambda: _take_streams(descriptors), cpu_s=None if is_session else self._settings["cpu_s"])
        if is_session:
            return program.run_session(_TEXT, _REPORT, _GO, _DONE)
        return program.run_one(_TEXT, _REPORT, _GO)

    def _enter_jail(self, scratch: _Scratch, take_streams: Callable[[], object], cpu_s: int | None) -> None:
        system.die_with_parent()
        os.chdir(scratch.folder)
        os.environ["HOME"] = os.environ["TMPDIR"] = scratch.folder
        if scratch.ruleset is not None:
            landlock.restrict(scratch.ruleset)
        take_streams()
        system.limit_resources(
            cpu_s=cpu_s,
            memory=self._settings["memory_mb"] << 20,
            file_size=self._settings["file_mb"] << 20,
            open_files=self._settings["open_files"],
        )
        seccomp.install(self._filter)

    def _probe(self, scratch: _Scratch) -> int:
        self._enter_jail(scratch, lambda: None, cpu_s=self._settings["cpu_s"])
        outside = os.path.join(self._settings["scratch_root"], "outside")
        attempts: tuple[Callable[[], object], ...] = (
            lambda: os.open(outside, os.O_CREAT | os.O_WRONLY),
            socket.socket,
            system.fork,
        )
        for hole, attempt in zip(_HOLES, attempts, strict=True):
            with contextlib.suppress(PermissionError):
                attempt()
                return hole
        return 0


def main() -> None:
    """Set up, report whether the jail holds, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    del sys.path[0]  # the folder of this package
    sys.path.extend(settings["site_packages"])
    cast(io.TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)  # keeps what a program printed before it is killed
    supervisor, fault = None, _missing(settings)
    if fault is None:
        system.drop_privileges()
        fault = preload(settings["preload"])
    if fault is None:
        supervisor = Supervisor(control, settings)
        fault = supervisor.prove()
    control.send(json.dumps({"fault": fault, "landlock": landlock.abi()}).encode())
    if supervisor is None or fault is not None:
        return
    gc.collect()
    filling = fill_holes()
    gc.freeze()
    try:
        supervisor.serve()
    finally:
        supervisor.kill_all()
        del filling


def _missing(settings: dict[str, Any]) -> str | None:
    if os.uname().machine != seccomp.ARCHITECTURE:
        return f"the seccomp filter is written for {seccomp.ARCHITECTURE}, this machine is {os.uname().machine}"
    if landlock.abi() == 0 and not settings["has_private_files"]:
        return "the kernel has no Landlock (Linux 5.13 or later, with landlock among its active security modules)"
    return None


def _leave(run: Callable[[], int], end: Callable[[int], object] = os._exit) -> None:
    """End this child with the code `run` returns; a failure to set up the jail ends it before the program starts."""
    try:
        code = run()
    except BaseException:
        code = _JAIL_FAILED
    end(code)


def _take_streams(descriptors: list[int]) -> None:
    """Move a child's files to their descriptors and close every other one."""
    text, output, errors, report, *pipes = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in descriptors]
    ordered = (output, errors, text, report, *pipes)  # from 1 on
    for number, fd in enumerate(ordered, start=1):
        os.dup2(fd, number)
    os.closerange(len(ordered) + 1, os.sysconf("SC_OPEN_MAX"))


def _receive(reply: socket.socket) -> bytes:
    try:
        return reply.recv(1)
    except OSError:
        return b""


def _send(reply: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # arpo may have closed its end
        reply.send(json.dumps(message).encode())


def _cpu_of(pid: int) -> float:
    """Processor seconds of a process; 0 when it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the clock clock_getcpuclockid(3) gives
    except OSError:
        return 0.0


def _folder_size(folder: str) -> int:
    """Bytes on disk, with at least one block per file."""
    with os.scandir(folder) as entries:
        return sum(4096 + _blocks(entry) * 512 for entry in entries)


def _blocks(entry: "os.DirEntry[str]") -> int:
    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
        return entry.stat(follow_symlinks=False).st_blocks
    return 0
