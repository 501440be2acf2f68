"""Bytes of operations on tensors without numbers, counted by hand and beside a real run."""

import torch
from torch import nn

from arpo.models.allocation import trace_allocations


def test_a_storage_counts_once_and_until_its_last_reference() -> None:
    """1,024 x 1,024 float32 are 4 MiB; a view shares them; the sum of two is 4 MiB more."""
    mib = 2**20
    with trace_allocations() as trace:
        one = torch.empty(1024, 1024)
        assert trace.live == 4 * mib
        view = one[:10].T
        assert trace.live == 4 * mib
        both = one + one
        assert (trace.live, trace.peak) == (8 * mib, 8 * mib)
        del one
        assert trace.live == 8 * mib, "the view still holds it"
        del view
        assert (trace.live, trace.peak) == (4 * mib, 8 * mib)
        assert trace.restart() == 4 * mib
        assert trace.peak == 4 * mib
        del both
        assert trace.live == 0


def test_what_autograd_keeps_and_frees() -> None:
    """y = relu(x W) summed: x [100, 50], W [50, 30] in float64.

    x takes 40,000 bytes, W 12,000, y 24,000, which relu keeps (its input is freed). Backward makes the gradients of y (24,000,
    twice: of the output, then of the input of relu; the sum's is an expanded scalar) and of W (12,000).
    """
    with trace_allocations() as trace:
        x, weight = torch.empty(100, 50, dtype=torch.float64), nn.Parameter(torch.empty(50, 30, dtype=torch.float64))
        assert trace.live == 40_000 + 12_000
        loss = (x @ weight).relu().sum()
        assert trace.live == 52_000 + 24_000 + 8
        assert trace.peak == 52_000 + 2 * 24_000, "x W and its relu together"
        loss.backward()
        del loss
        assert trace.live == 52_000 + 12_000, "the gradient of W"


def test_a_model_on_paper_takes_no_memory_and_counts_its_weights(make_model) -> None:
    """The trace counts what the real model's storages hold."""
    model = make_model("llama")
    real = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
    with trace_allocations() as trace:
        outline = type(model)(model.config)
        buffers = sum(b.untyped_storage().nbytes() for b in outline.buffers())
    assert trace.live == sum(real.values()) + buffers
