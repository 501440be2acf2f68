"""A seccomp filter that allows the system calls a computing Python program needs, and refuses all others.

It is an allow-list, so it refuses future system calls too. Refused with EPERM: sockets of every family, new processes and
threads, execve, every signal, ptrace and reading another process, mounts and namespaces, keys, BPF, perf, io_uring, pidfds,
memfds, shared memory, raising a limit, and changing the mode, owner, times or attributes of any file.
"""

import ctypes
import struct
from collections.abc import Iterable

from .system import prctl

ARCHITECTURE = "x86_64"
_AUDIT_ARCH = 0xC000003E
_X32_BIT = 0x40000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_KILL_PROCESS, _ALLOW, _EPERM, _ENOSYS = 0x80000000, 0x7FFF0000, 0x00050001, 0x00050026
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH = 0, 4

_ALLOWED = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17,
    "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23, "sched_yield": 24, "mremap": 25,
    "msync": 26, "mincore": 27, "madvise": 28, "dup": 32, "dup2": 33, "pause": 34, "nanosleep": 35, "getitimer": 36,
    "alarm": 37, "setitimer": 38, "getpid": 39, "exit": 60, "uname": 63, "flock": 73, "fsync": 74, "fdatasync": 75,
    "ftruncate": 77, "getdents": 78, "getcwd": 79, "readlink": 89, "umask": 95, "gettimeofday": 96, "getrlimit": 97,
    "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108,
    "getppid": 110, "getpgrp": 111, "getgroups": 115, "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130,
    "sigaltstack": 131, "statfs": 137, "fstatfs": 138, "arch_prctl": 158, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "epoll_create": 213, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219,
    "fadvise64": 221, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "epoll_wait": 232, "epoll_ctl": 233, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270,
    "ppoll": 271, "set_robust_list": 273, "epoll_pwait": 281, "fallocate": 285, "eventfd2": 290, "epoll_create1": 291,
    "dup3": 292, "pipe2": 293, "preadv": 295, "pwritev": 296, "getcpu": 309, "getrandom": 318, "statx": 332, "rseq": 334,
    "close_range": 436, "faccessat2": 439,
}  # fmt: skip
_OPENAT, _OPEN, _FCNTL, _IOCTL, _PRLIMIT64 = 257, 2, 72, 16, 302
# Landlock limits the files these may touch; without Landlock they are refused.
_FILE_CHANGES = {"rename": 82, "creat": 85, "unlink": 87, "unlinkat": 263, "renameat": 264, "renameat2": 316}
_ABSENT = {"clone3": 435, "openat2": 437}  # the C library falls back on the older call
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)  # dup, flags, locks, pipe size: no signal to an owner, no lease
_IOCTL_COMMANDS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # terminal?, its size, bytes to read, close-on-exec flag
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, the bit of O_TMPFILE alone


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def build_filter(may_write: bool) -> ctypes.Structure:
    """The filter in the kernel's form; `may_write` False also refuses to open any file for writing."""
    opening: list[bytes] = []
    if may_write:
        numbers = [*_ALLOWED.values(), *_FILE_CHANGES.values(), _OPEN, _OPENAT]
    else:
        numbers = [*_ALLOWED.values()]
        opening = [*_argument_lacks_bits(_OPEN, 1, _WRITING), *_argument_lacks_bits(_OPENAT, 2, _WRITING)]
    instructions = [
        _instruction(_LOAD, _ARCH),
        _instruction(_JUMP_EQUAL, _AUDIT_ARCH, 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER),
        _instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
        _instruction(_RETURN, _KILL_PROCESS),
        *opening,
        *_argument_among(_FCNTL, 1, _FCNTL_COMMANDS),
        *_argument_among(_IOCTL, 1, _IOCTL_COMMANDS),
        *_reads_own_limits(),
        *(i for n in _ABSENT.values() for i in _when(n, [_instruction(_RETURN, _ENOSYS)])),
        *_among(_runs(numbers)),
    ]
    return _Program(len(instructions), b"".join(instructions))


def install(program: ctypes.Structure) -> None:
    """Apply the filter to this process, irrevocably; `no_new_privs` must be set.

    Raises:
        OSError: the kernel has no seccomp filters.
    """
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, program)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """`body`, which must return, for one system call; others skip it."""
    return [_instruction(_JUMP_EQUAL, number, 0, len(body)), *body]


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted ranges (first, last), both inclusive: {1, 2, 3, 7} gives [(1, 3), (7, 7)]."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _among(runs: list[tuple[int, int]]) -> list[bytes]:
    """Allow the numbers in `runs`, refuse others; a binary search, as the kernel tries every number when it loads a filter."""
    if len(runs) > 1:
        middle = len(runs) // 2
        lower, upper = _among(runs[:middle]), _among(runs[middle:])
        return [_instruction(_JUMP_AT_LEAST, runs[middle][0], len(lower), 0), *lower, *upper]
    first, last = runs[0]
    allow, refuse = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _EPERM)
    return [_instruction(_JUMP_AT_LEAST, first, 0, 1), _instruction(_JUMP_AT_LEAST, last + 1, 0, 1), refuse, allow]


def _argument(index: int) -> bytes:
    return _instruction(_LOAD, 16 + 8 * index)  # the low half: commands and flags are 32-bit


def _argument_among(number: int, index: int, values: Iterable[int]) -> list[bytes]:
    tests = [i for v in values for i in _when(v, [_instruction(_RETURN, _ALLOW)])]
    return _when(number, [_argument(index), *tests, _instruction(_RETURN, _EPERM)])


def _argument_lacks_bits(number: int, index: int, bits: int) -> list[bytes]:
    test = [_instruction(_JUMP_ANY_BIT, bits, 1, 0), _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _EPERM)]
    return _when(number, [_argument(index), *test])


def _reads_own_limits() -> list[bytes]:
    """`prlimit64(0, …, NULL, …)`: a process may read its limits, not set one or read another process's."""
    halves = (16, 32, 36)  # pid; both halves of the pointer to new limits
    refuse_unless_zero = [_instruction(_JUMP_EQUAL, 0, 1, 0), _instruction(_RETURN, _EPERM)]
    tests = [i for offset in halves for i in (_instruction(_LOAD, offset), *refuse_unless_zero)]
    return _when(_PRLIMIT64, [*tests, _instruction(_RETURN, _ALLOW)])
