"""Finds the isolation that works on this machine, by starting it."""

import sys
from typing import Literal

from arpo.errors import ToolError
from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.python_sandbox.zygote import Zygote

Mechanism = Literal["bubblewrap", "landlock"]
_MECHANISMS: tuple[Mechanism, ...] = ("bubblewrap", "landlock")
_ADVICE = (
    "programs are not run without isolation. Install bubblewrap (apt install bubblewrap) and allow user namespaces, or use a "
    "Linux kernel with Landlock (5.13 or later); in a container, allow the landlock_* system calls; see docs/security.md"
)


def start_zygote(config: PythonSandboxConfig) -> tuple[Zygote, Mechanism]:
    """A running zygote in the strongest isolation that works here, and the name of the isolation.

    Raises:
        ToolError: no isolation that `config` allows works; the message says why each failed and what to install.
    """
    if sys.platform != "linux":
        raise ToolError(f"Python sandbox: it needs Linux, this is {sys.platform}; {_ADVICE}")
    failures: list[str] = []
    for mechanism in _MECHANISMS if config.isolation == "auto" else (config.isolation,):
        try:
            return Zygote(config, mechanism), mechanism
        except ToolError as error:
            failures.append(str(error))
    raise ToolError("; ".join([*failures, _ADVICE]))


def describe_isolation() -> list[tuple[str, bool, str]]:
    """(mechanism, True when it works here, detail or advice) of each isolation, by starting it; for `arpo doctor`.

    Example:
        [("bubblewrap", False, "bubblewrap is not installed (...)"),
         ("landlock", True, "Landlock ABI 7, seccomp, resource limits")]
    """
    rows: list[tuple[str, bool, str]] = []
    for mechanism in _MECHANISMS:
        try:
            zygote, _ = start_zygote(PythonSandboxConfig(isolation=mechanism, preload=()))
        except ToolError as error:
            rows.append((mechanism, False, str(error)))
        else:
            landlock = (
                f"Landlock ABI {zygote.landlock_abi}" if zygote.landlock_abi else "no Landlock: programs cannot write files"
            )
            zygote.close()
            namespaces = "own namespaces, " if mechanism == "bubblewrap" else ""
            rows.append((mechanism, True, f"{namespaces}{landlock}, seccomp, resource limits"))
    return rows
