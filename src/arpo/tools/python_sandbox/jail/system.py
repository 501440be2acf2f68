"""System calls that Python has no function for, through ctypes."""

import ctypes
import os
import resource

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LOCKED_LIBC = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock

_CAPSET = 126
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_DUMPABLE, _PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 4, 1, 38
_SIGKILL = 9


def syscall(number: int, *arguments: "int | bytes | ctypes.Array[ctypes.c_char] | ctypes.Structure | None") -> int:
    """The result of one system call.

    Raises:
        OSError: the kernel refused it.
    """
    converted = [
        ctypes.c_long(a) if isinstance(a, int) else ctypes.byref(a) if isinstance(a, ctypes.Structure) else a for a in arguments
    ]
    result = _LIBC.syscall(ctypes.c_long(number), *converted)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"system call {number}: {os.strerror(code)}")
    return result


def prctl(option: int, value: int, argument: "ctypes.Structure | None" = None) -> None:
    """`prctl(2)`.

    Raises:
        OSError: the kernel refused it.
    """
    syscall(157, option, value, argument if argument is not None else 0, 0, 0)


def fork() -> int:
    """`fork(2)` in a process with a single thread: 0 in the child, else the child's id.

    Unlike `os.fork` it runs none of Python's handlers, which are useless without other threads and make the kernel copy 200
    pages. So `random` continues equally in parent and child.

    Raises:
        OSError: the kernel refused it.
    """
    pid = _LOCKED_LIBC.fork()
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"fork: {os.strerror(code)}")
    return pid


def drop_privileges() -> None:
    """Drop every capability, root's too; `no_new_privs` prevents getting one back."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header = ctypes.create_string_buffer(_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4))
    syscall(_CAPSET, header, ctypes.create_string_buffer(24))


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent ends, and forbid others to attach to it or read its memory."""
    prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    prctl(_PR_SET_DUMPABLE, 0)


def limit_resources(cpu_s: int | None, memory: int, file_size: int, open_files: int) -> None:
    """Limit processor seconds, bytes of address space, bytes of one file, open files; no core dump, no new process.

    `cpu_s` None sets no limit of processor time: the supervisor watches it.
    """
    if cpu_s is not None:
        # SIGXCPU at the limit, which names the reason; a second later SIGKILL, which cannot be ignored.
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(kind, (value, value))
