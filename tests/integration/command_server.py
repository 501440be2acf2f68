"""Runs arpo commands as processes of their own without starting an interpreter for each.

It imports everything once, then forks for every command read from standard input (JSON: arguments, folder, where to write and,
if wanted, where to be killed). It answers with the process's id at once and with its exit code when it has ended. A process
that was told a place is killed there by SIGKILL, as `kill -9` would at that moment.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch  # noqa: F401
import transformers.models.llama.modeling_llama
import transformers.models.qwen2.modeling_qwen2
import transformers.models.qwen3.modeling_qwen3  # noqa: F401

from arpo.cli.main import main


def die_at(place: str, call: int, moment: str) -> None:
    """Have this process killed when `module:attribute.path` is called for the `call`-th time, `before` or `after` it ran."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    function: Callable[..., Any] = getattr(owner, name)
    calls = 0

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if calls == call and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def run(request: dict[str, Any]) -> None:
    """Be the process of one command; never returns."""
    for number, path in ((1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits that it is ignored
    warnings.simplefilter("default")
    if request["die_at"]:
        die_at(*request["die_at"])
    code = 1
    try:
        code = main(request["argv"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an interpreter's ordinary end takes everything imported apart, which is slow in a copy


gc.collect()
gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(json.loads(line))
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
