"""Runs arpo commands as processes of their own without starting an interpreter for each.

It imports everything once, then forks for every command read from standard input (JSON: arguments, folder, where to write, on
how many ranks and, if wanted, where to be killed). It answers with the processes' ids at once and with their exit codes when
they have ended. A process that was told a place is killed there by SIGKILL, as `kill -9` would at that moment. Of several ranks
the last one is killed; the others are then told to end, as torchrun does.
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
from torch.distributed import TCPStore

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
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
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


def start(request: dict[str, Any]) -> list[int]:
    """Fork the processes of a command; return their ids."""
    for path in (request["stdout"], request["stderr"]):
        open(path, "w").close()
    size = request["ranks"]
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if size > 1 else None
    STORES[:] = [store]  # it serves as long as it is held
    children: list[int] = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            if store is not None:
                where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
                os.environ |= {name: str(value) for name, value in where.items()}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "GLOO_SOCKET_IFNAME": "lo"}
                os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
            run(request | {"die_at": request["die_at"] if rank == size - 1 else None})
        children.append(child)
    return children


def wait(children: list[int]) -> list[int]:
    """The exit codes of processes; once one has failed, the others are told to end."""
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        child, status = os.wait()
        codes[child] = os.waitstatus_to_exitcode(status)
        if codes[child] != 0:
            for other in set(children) - codes.keys():
                os.kill(other, signal.SIGTERM)
    return [codes[child] for child in children]


STORES: list[TCPStore | None] = []
gc.collect()
gc.freeze()
for line in sys.stdin:
    started = start(json.loads(line))
    print(*started, flush=True)
    print(*wait(started), flush=True)
