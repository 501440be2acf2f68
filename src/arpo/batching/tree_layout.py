"""Attention over packed trees, leaf by leaf, at a cost of the sum over nodes of node length x path length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention


@dataclass(slots=True, frozen=True)
class LeafSpan:
    """The part of a pack that one leaf adds."""

    start: int
    """Index of the first token the leaf does not share with the leaf before it."""
    path: Tensor
    """[P] indices of its whole path, root to leaf; the own tokens are its contiguous end."""

    @property
    def own(self) -> slice:
        """The leaf's own tokens in the pack."""
        return slice(self.start, int(self.path[-1]) + 1)


    @property
    def cost(self) -> int:
        """Query-key pairs of the leaf."""
        return (self.own.stop - self.own.start) * len(self.path)


@dataclass(slots=True, frozen=True)
class _LeafBatch:
    """Leaves of similar size, padded to one attention call of B leaves, Q queries and P keys."""

    queries: Tensor
    """[B, Q] indices of own tokens; padding repeats the first."""
    keys: Tensor
    """[B, P] indices of paths; padding repeats the first."""
    mask: Tensor
    """[B, 1, Q, P] True where a query sees a key; a padded query sees the first key and is ignored."""
    is_real: Tensor
    """[B, Q] False on padding."""

    def to(self, device: torch.device) -> "_LeafBatch":
        return _LeafBatch(*(t.to(device) for t in (self.queries, self.keys, self.mask, self.is_real)))


class TreeLayout:
    """`AttentionLayout` of packed trees: each token sees the tokens on its own path up to itself."""

    def __init__(self, spans: Sequence[LeafSpan]):
        self._batches = [_pad(group) for group in _similar(spans)]

    def to(self, device: torch.device) -> "TreeLayout":
        """The same on another device."""
        moved = TreeLayout([])
        moved._batches = [batch.to(device) for batch in self._batches]
        return moved

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As `AttentionLayout.attend`."""
        return _TreeAttention.apply(query, key, value, self._batches, scale)  # pyright: ignore[reportReturnType]


def _similar(spans: Sequence[LeafSpan], max_leaves: int = 32, max_waste: float = 1.3) -> Iterator[list[LeafSpan]]:
    """Groups whose padded cost stays below `max_waste` times their real cost; largest leaves first."""
    group: list[LeafSpan] = []
    for span in sorted(spans, key=lambda s: (-(s.own.stop - s.own.start), -len(s.path), s.start)):
        wider = [*group, span]
        padded = len(wider) * (wider[0].own.stop - wider[0].own.start) * max(len(s.path) for s in wider)
        if group and (len(wider) > max_leaves or padded > max_waste * sum(s.cost for s in wider)):
            yield group
            wider = [span]
        group = wider
    if group:
        yield group


def _pad(spans: Sequence[LeafSpan]) -> _LeafBatch:
    num_queries = max(s.own.stop - s.own.start for s in spans)
    num_keys = max(len(s.path) for s in spans)
    queries = torch.tensor([[s.start] for s in spans]).repeat(1, num_queries)
    keys = torch.stack([s.path[0] for s in spans]).unsqueeze(1).repeat(1, num_keys)
    mask = torch.zeros(len(spans), 1, num_queries, num_keys, dtype=torch.bool)
    mask[..., 0] = True
    is_real = torch.zeros(len(spans), num_queries, dtype=torch.bool)
    for row, span in enumerate(spans):
        own, path = span.own.stop - span.start, len(span.path)
        queries[row, :own] = torch.arange(span.start, span.own.stop)
        keys[row, :path] = span.path
        mask[row, 0, :own, :path] = torch.ones(own, path, dtype=torch.bool).tril(diagonal=path - own)
        is_real[row, :own] = True
    return _LeafBatch(queries, keys, mask, is_real)


class _TreeAttention(torch.autograd.Function):
    """One autograd node for all leaves: gradients of shared keys add up in place.

    Indexing per leaf under autograd would write a zero gradient as large as the pack for every batch. The backward pass
    computes the attention again instead of keeping its intermediate results.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, batches: Sequence[_LeafBatch], scale: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.batches, ctx.scale = batches, scale
        output = torch.empty_like(query)
        for batch in batches:
            attended = _attend(query[batch.queries], key[batch.keys], value[batch.keys], batch.mask, scale)
            output[batch.queries[batch.is_real]] = attended[batch.is_real]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        (output_gradient,) = gradients
        query_gradient, key_gradient, value_gradient = (torch.zeros_like(t) for t in (query, key, value))
        for batch in ctx.batches:
            gathered = query[batch.queries], key[batch.keys], value[batch.keys]
            parts = [part.detach().requires_grad_() for part in gathered]
            with torch.enable_grad():
                attended = _attend(*parts, batch.mask, ctx.scale)
            wanted = output_gradient[batch.queries] * batch.is_real[..., None, None]
            of_query, of_key, of_value = torch.autograd.grad(attended, parts, wanted)
            query_gradient[batch.queries[batch.is_real]] = of_query[batch.is_real]
            key_gradient.index_add_(0, batch.keys.flatten(), of_key.flatten(0, 1))
            value_gradient.index_add_(0, batch.keys.flatten(), of_value.flatten(0, 1))
        return query_gradient, key_gradient, value_gradient, None, None


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Masked attention, everything [B, tokens, heads, dim]."""
    attended = scaled_dot_product_attention(
        *(states.transpose(1, 2) for states in (query, keys, values)),
        attn_mask=mask,
        scale=scale,
        enable_gqa=query.shape[2] != keys.shape[2],
    )
    return attended.transpose(1, 2)
