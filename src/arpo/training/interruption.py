"""Ctrl-C between updates, so that a checkpoint of the present state can be written."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_MESSAGE = b"\ninterrupted: finishing this update, then a checkpoint is written; Ctrl-C again stops at once\n"


@dataclass(slots=True)
class Interruption:
    """Whether somebody pressed Ctrl-C."""

    is_wanted: bool = False


@contextmanager
def delayed_interrupt() -> Iterator[Interruption]:
    """Note the first Ctrl-C within the context instead of raising KeyboardInterrupt; a second one raises at once.

    Only Python's own handling of Ctrl-C in the main thread is replaced: elsewhere, and under a handler of the caller's,
    nothing changes.
    """
    interruption = Interruption()
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interruption
        return

    def note(*_: object) -> None:
        interruption.is_wanted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(2, _MESSAGE)  # a buffered stream may be in the middle of a write

    signal.signal(signal.SIGINT, note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
