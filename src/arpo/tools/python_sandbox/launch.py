"""Start of the zygote: its command line, the files it may read, and its clean environment."""

import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from arpo.errors import ToolError
from arpo.tools.python_sandbox.config import PythonSandboxConfig

_JAIL = Path(__file__).parent / "jail"
_START = "import sys; sys.path[0] = sys.argv.pop(1); from jail.supervisor import main; main()"
_PRIVATE_SCRATCH = "/scratch"
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")

ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""The zygote's whole environment: it holds nothing of the host's, and fixes the iteration order of sets of strings."""


def site_packages() -> list[str]:
    """Folders of this interpreter's installed libraries."""
    return sorted({os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib")})


def readable_paths() -> list[str]:
    """Files a program can read: shared libraries, the standard library and the installed libraries."""
    standard = (os.path.realpath(path) for path in (Path(sys.base_prefix, "lib"), sysconfig.get_path("stdlib")))
    paths = dict.fromkeys([*_LIBRARIES, *standard, *site_packages()])
    return [path for path in paths if os.path.exists(path)]


def settings(config: PythonSandboxConfig, scratch_root: str, has_private_files: bool) -> dict[str, Any]:
    """The zygote's settings, as JSON."""
    limits = config.model_dump(mode="json", exclude={"mode", "isolation", "max_output_bytes", "concurrency", "live_sessions"})
    return {
        **limits,
        "scratch_root": scratch_root,
        "has_private_files": has_private_files,
        "readable": readable_paths(),
        "site_packages": site_packages(),
    }


def landlock_command(config: PythonSandboxConfig, control_fd: int, scratch_root: str) -> list[str]:
    """Command line of a zygote whose children Landlock confines."""
    return _python(control_fd, settings(config, scratch_root, has_private_files=False))


def bubblewrap_command(config: PythonSandboxConfig, control_fd: int) -> list[str]:
    """Command line of a zygote in new namespaces, with a file system that holds only what it may read.

    Raises:
        ToolError: bubblewrap is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise ToolError("bubblewrap is not installed (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)")
    visible = [*readable_paths(), os.path.realpath(_interpreter()), str(_JAIL)]
    binds = [argument for path in visible for argument in ("--ro-bind", path, path)]
    mounts = [*binds, "--tmpfs", _PRIVATE_SCRATCH, "--chdir", _PRIVATE_SCRATCH]
    python = _python(control_fd, settings(config, _PRIVATE_SCRATCH, has_private_files=True))
    return [program, "--unshare-all", "--cap-drop", "ALL", "--hostname", "sandbox", *mounts, "--remount-ro", "/", *python]


def _python(control_fd: int, settings: dict[str, Any]) -> list[str]:
    # -S -s -B: no site module, no user's packages, no byte code written.
    return [
        os.path.realpath(_interpreter()),
        "-S",
        "-s",
        "-B",
        "-c",
        _START,
        str(_JAIL.parent),
        str(control_fd),
        json.dumps(settings),
    ]


def _interpreter() -> str:
    """The interpreter outside any virtual environment, with the standard library of `sys.base_prefix`."""
    return getattr(sys, "_base_executable", None) or sys.executable
