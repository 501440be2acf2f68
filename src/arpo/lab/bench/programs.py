"""Runs a program in a new process and reads its measurements."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arpo.errors import RunError


def run_json(command: Sequence[str | Path], what: str, *, remedy: str = "", stdin: str = "") -> Any:
    """The last line that a program writes to standard output, read as JSON.

    Args:
        command: Program and arguments.
        what: What it does, for the error.
        remedy: What to do when it fails, for the error.
        stdin: Its standard input.

    Raises:
        RunError: the program failed; the last line of its standard error is quoted.
    """
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{what} failed ({done.stderr.strip().splitlines()[-1:]}){remedy}")
    return json.loads(done.stdout.strip().splitlines()[-1])
