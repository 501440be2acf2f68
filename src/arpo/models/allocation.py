"""Counts the memory a program would take, without taking it: the real code runs on tensors that have a shape and no numbers."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class AllocationTrace(TorchDispatchMode):
    """The bytes of all tensors that operations have made and that are still referenced; a storage that views share counts once.

    Scratch memory inside a kernel is not seen, nor what an allocator keeps after it was freed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        """Bytes referenced now, by Python or by autograd for the backward pass."""
        self.peak = 0
        """Most bytes referenced at once since the last `restart`."""
        self._storages: dict[int, weakref.ref[Any]] = {}

    def restart(self) -> int:
        """Begin a new peak at the present bytes, and return these."""
        self.peak = self.live
        return self.live

    def __torch_dispatch__(  # torch's name
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count the storages that are new in its result."""
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return

        def forget(_: object) -> None:
            self.live -= size
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


@contextmanager
def trace_allocations() -> Iterator[AllocationTrace]:
    """Within the context tensors have no numbers, and the trace counts their bytes; tensors made before are read as usual.

    Example: within it, `torch.empty(1024, 1024)` takes no memory and `trace.live` grows by 4,194,304. What asks for a number,
    as `float(tensor)` does, fails.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), AllocationTrace() as trace:
        yield trace
