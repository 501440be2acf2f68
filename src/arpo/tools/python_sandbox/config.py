"""Configuration of the Python sandbox."""

from typing import Annotated, Literal

from pydantic import Field

from arpo.conditions import only_with
from arpo.config import Config


class PythonSandboxConfig(Config):
    """The `python` tool: isolation of programs and limits of one program."""

    mode: Literal["fresh", "session"] = "fresh"
    """`fresh`: every program starts anew. `session`: a trajectory's programs share variables and files, as the cells of a
    notebook do; a branch continues from a copy, made by running the earlier programs again."""
    isolation: Literal["auto", "bubblewrap", "landlock"] = "auto"
    """`auto`: bubblewrap with Landlock and seccomp inside it if that works, else Landlock and seccomp. A named isolation that
    does not work is an error. No setting runs programs without isolation."""
    wall_s: float = Field(default=5.0, gt=0, le=600)
    """Most seconds of wall time of one program, without the wait for a free slot."""
    cpu_s: int = Field(default=5, ge=1, le=600)
    """Most seconds of processor time of one program."""
    memory_mb: int = Field(default=512, ge=64)
    """MiB of address space of one program, the interpreter (20) and preloaded libraries (numpy and sympy: 120) included."""
    file_mb: int = Field(default=8, ge=1)
    """Most MiB of one file, and of all that a program prints."""
    scratch_mb: int = Field(default=32, ge=1)
    """Most MiB of all files in a program's scratch folder, checked twenty times a second."""
    open_files: int = Field(default=32, ge=16, le=1024)
    """Most open files of a program, the three standard streams included."""
    max_output_bytes: int = Field(default=65_536, ge=1)
    """Most bytes read of a program's output, of its standard error and of its error report, each; longer text is cut with a
    mark, and the result is marked truncated."""
    concurrency: int = Field(default=8, ge=1, le=128)
    """Most programs at the same time; further programs wait."""
    live_sessions: Annotated[int, only_with(mode="session")] = Field(default=32, ge=1, le=256)
    """Most session processes kept between calls; beyond it the least recently used ends, and is made again on its next call."""
    preload: tuple[str, ...] = ("numpy", "sympy")
    """Modules imported once before any program runs, so that importing them costs a program nothing."""
