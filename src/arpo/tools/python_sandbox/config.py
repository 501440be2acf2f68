"""Configuration of the Python sandbox."""

from typing import Annotated, Literal

from pydantic import Field

from arpo.conditions import only_with
from arpo.config import Config


class PythonSandboxConfig(Config):
    """The `python` tool: how programs are isolated and what one program may use."""

    mode: Literal["fresh", "session"] = "fresh"
    """`fresh`: every program starts anew. `session`: a trajectory's programs see the variables and files of those before, as
    the cells of a notebook do; a branch goes on from a copy, made by running the earlier programs again."""
    isolation: Literal["auto", "bubblewrap", "landlock"] = "auto"
    """`auto`: bubblewrap with Landlock and seccomp inside it where that works, else Landlock and seccomp alone; a named one is
    demanded, and missing it is an error. There is no setting that runs programs without isolation."""
    wall_s: float = Field(default=5.0, gt=0, le=600)
    """Seconds of wall time one program may take, waiting for a free place not counted."""
    cpu_s: int = Field(default=5, ge=1, le=600)
    """Seconds of processor time one program may take."""
    memory_mb: int = Field(default=512, ge=64)
    """MiB of address space of one program, the interpreter (20) and preloaded libraries (numpy and sympy: 120) included."""
    file_mb: int = Field(default=8, ge=1)
    """MiB one file may hold, and what a program may print in all."""
    scratch_mb: int = Field(default=32, ge=1)
    """MiB of all files together in a program's scratch folder, checked twenty times a second."""
    open_files: int = Field(default=32, ge=16, le=1024)
    """Files a program may hold open at once, the three standard streams included."""
    max_output_bytes: int = Field(default=65_536, ge=1)
    """Bytes that are read back of what a program prints, of its standard error, and of an error's report, each; what is longer
    is cut, says so at its end, and is marked truncated."""
    concurrency: int = Field(default=8, ge=1, le=128)
    """Programs that run at the same time; further ones wait."""
    live_sessions: Annotated[int, only_with(mode="session")] = Field(default=32, ge=1, le=256)
    """Sessions whose process is kept between calls; the one unused for longest ends, and is made again when called."""
    preload: tuple[str, ...] = ("numpy", "sympy")
    """Modules imported once, before any program runs: each program then finds them at no cost."""
