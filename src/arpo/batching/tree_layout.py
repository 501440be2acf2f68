"""Attention over packed trees, leaf by leaf, at a cost of the sum over nodes of node length x path length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

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
    def num_own(self) -> int:
        """Tokens the leaf adds to the pack."""
        return self.own.stop - self.own.start

    @property
    def num_shared(self) -> int:
        """Tokens of its path that belong to earlier leaves."""
        return len(self.path) - self.num_own


@dataclass(slots=True, frozen=True)
class _LeafBatch:
    """Leaves of similar size, padded to one attention call of B leaves, Q queries and P keys."""

    queries: Tensor
    """[B, Q] indices of own tokens; padding repeats the first."""
    keys: Tensor
    """[B, P] indices of paths; padding repeats the first."""
    mask: Tensor | None
    """[B, 1, Q, P] True where a query sees a key; a padded query sees the first key and is ignored. None where no leaf shares
    tokens with an earlier one: then the mask is plainly causal, and half of the work is skipped."""
    is_real: Tensor
    """[B, Q] False on padding."""

    def to(self, device: torch.device) -> "_LeafBatch":
        mask = self.mask.to(device) if self.mask is not None else None
        return _LeafBatch(self.queries.to(device), self.keys.to(device), mask, self.is_real.to(device))


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
        return cast(Any, _TreeAttention).apply(query, key, value, self._batches, scale)


def _similar(spans: Sequence[LeafSpan], max_leaves: int = 32, max_waste: float = 1.3) -> Iterator[list[LeafSpan]]:
    """Groups whose padded cost stays below `max_waste` times their real cost; leaves that share nothing first, then by size."""
    group: list[LeafSpan] = []
    for span in sorted(spans, key=lambda s: (s.num_shared > 0, -s.num_own, -len(s.path), s.start)):
        wider = [*group, span]
        padded = len(wider) * wider[0].num_own * max(len(s.path) for s in wider)
        is_too_wide = len(wider) > max_leaves or padded > max_waste * sum(s.num_own * len(s.path) for s in wider)
        if group and (is_too_wide or (group[0].num_shared == 0 and span.num_shared > 0)):
            yield group
            wider = [span]
        group = wider
    if group:
        yield group


def _pad(spans: Sequence[LeafSpan]) -> _LeafBatch:
    num_queries = max(s.num_own for s in spans)
    num_keys = max(len(s.path) for s in spans)
    queries = torch.tensor([[s.start] for s in spans]).repeat(1, num_queries)
    keys = torch.stack([s.path[0] for s in spans]).unsqueeze(1).repeat(1, num_keys)
    mask = torch.zeros(len(spans), 1, num_queries, num_keys, dtype=torch.bool)
    mask[..., 0] = True
    is_real = torch.zeros(len(spans), num_queries, dtype=torch.bool)
    for row, span in enumerate(spans):
        queries[row, : span.num_own] = torch.arange(span.start, span.own.stop)
        keys[row, : len(span.path)] = span.path
        visible = torch.ones(span.num_own, len(span.path), dtype=torch.bool).tril(diagonal=span.num_shared)
        mask[row, 0, : span.num_own, : len(span.path)] = visible
        is_real[row, : span.num_own] = True
    return _LeafBatch(queries, keys, mask if any(s.num_shared for s in spans) else None, is_real)


_Attended = tuple[_LeafBatch, tuple[Tensor, Tensor, Tensor], Tensor]
"""A batch, its gathered query, key and value, and their attention."""


class _TreeAttention(torch.autograd.Function):
    """One autograd node for all leaves: gradients of shared keys add up in place.

    Under plain autograd every indexed read of a batch would write a zero gradient as large as the whole pack.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, batches: Sequence[_LeafBatch], scale: float) -> Tensor:
        output = torch.empty_like(query)
        wants_gradient = any(ctx.needs_input_grad)
        kept: list[_Attended] = []
        for batch in batches:
            parts = query[batch.queries], key[batch.keys], value[batch.keys]
            for part in parts:
                part.requires_grad_(wants_gradient)
            with torch.set_grad_enabled(wants_gradient):
                attended = _attend(*parts, batch.mask, scale)
            output[batch.queries[batch.is_real]] = attended.detach()[batch.is_real]
            if wants_gradient:
                kept.append((batch, parts, attended))
        ctx.kept = kept
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (output_gradient,) = gradients
        query_gradient = torch.zeros_like(output_gradient)
        key_gradient = value_gradient = None
        kept: list[_Attended] = ctx.kept
        for batch, parts, attended in kept:
            wanted = output_gradient[batch.queries] * batch.is_real[..., None, None]
            of_query, of_key, of_value = torch.autograd.grad(attended, parts, wanted)
            query_gradient[batch.queries[batch.is_real]] = of_query[batch.is_real]
            if key_gradient is None or value_gradient is None:
                key_gradient = of_key.new_zeros(len(output_gradient), *of_key.shape[2:])
                value_gradient = torch.zeros_like(key_gradient)
            key_gradient.index_add_(0, batch.keys.flatten(), of_key.flatten(0, 1))
            value_gradient.index_add_(0, batch.keys.flatten(), of_value.flatten(0, 1))
        return query_gradient, key_gradient, value_gradient, None, None


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention of everything [B, tokens, heads, dim]; causal where `mask` is None."""
    attended = scaled_dot_product_attention(
        *(states.transpose(1, 2) for states in (query, keys, values)),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=query.shape[2] != keys.shape[2],
    )
    return attended.transpose(1, 2)
