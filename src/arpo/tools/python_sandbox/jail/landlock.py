"""Landlock through raw system calls: after `restrict` a process reaches only the named files, and no TCP port.

Linux 5.13 supports files; ABI 4 (6.7) added TCP, ABI 6 (6.12) abstract sockets and signals.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from .system import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_READ = _READ_FILE | _READ_DIR
_FILE_RIGHTS_PER_ABI = (0, 13, 14, 15, 15, 16)  # how many access bits each ABI knows; the last counts for all later ones
# A scratch folder is flat: no folders, links, pipes, sockets or devices, so that deleting it is one simple loop.
_SCRATCH = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE


def abi() -> int:
    """The kernel's Landlock version; 0 when it has none."""
    try:
        return syscall(_CREATE_RULESET, 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def make_ruleset(readable: Iterable[str], scratch: str) -> int:
    """Descriptor of a ruleset that allows reading `readable` files and folders, and reading and writing files in `scratch`."""
    version = abi()
    handled = (1 << _FILE_RIGHTS_PER_ABI[min(version, len(_FILE_RIGHTS_PER_ABI) - 1)]) - 1
    network, scopes = 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0
    attributes = struct.pack("QQQ", handled, network, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    for path in readable:
        _allow(ruleset, path, _READ & handled)
    _allow(ruleset, scratch, _SCRATCH & handled)
    return ruleset


def restrict(ruleset: int) -> None:
    """Confine this process to a ruleset, irrevocably; any number of processes may share one."""
    syscall(_RESTRICT_SELF, ruleset, 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        rights &= ~_READ_DIR
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd))
    syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    os.close(fd)
