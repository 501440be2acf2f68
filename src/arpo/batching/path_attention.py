"""Exact attention over packed trees on a CPU, at a cost of the sum over nodes of node length x path length.

Each token is a query once. A batch holds stretches of paths of similar size, so that a few large calls keep every core busy;
the keys of a stretch are its whole path. Keys that stretches share are copied before a call, and the gradients of the copies
are summed after it.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
_MOST_QUERIES = 256
"""Most queries of one stretch: its first queries compute masked scores for keys that only later ones see."""
_MOST_WASTE = 1.25
"""Largest ratio of the scores computed in a batch to those its stretches need; the rest is padding."""
_MOST_SCORES = 1 << 21
"""Most scores of one head of a batch, unless a single stretch has more."""


class Chain(NamedTuple):
    """A node, its first child, the first child of that and so on: contiguous in the pack."""

    depth: int
    """Tokens before it on its path; 0 at the root of a tree."""
    length: int


class Stretch(NamedTuple):
    """Consecutive tokens of the pack on one path."""

    start: int
    """Index of its first token in the pack."""
    length: int
    path: tuple[range, ...]
    """Pack indices of the tokens it sees; the last range ends with its tokens."""

    @property
    def num_keys(self) -> int:
        """Tokens on its path up to its end."""
        return sum(map(len, self.path))

    @property
    def num_queries(self) -> int:
        """Its tokens; plus those before it where they are few, as causal attention without a mask is faster."""
        return self.num_keys if _is_little(self.num_keys - self.length, self.length) else self.length

    @property
    def is_causal(self) -> bool:
        """Query i sees the first i + 1 keys."""
        return self.num_queries == self.num_keys


class _Batch:
    """Stretches of similar size for one attention call, padded to the largest."""

    def __init__(self, stretches: Sequence[Stretch]):
        self.size = len(stretches)
        self.num_queries = max(s.num_queries for s in stretches)
        self.num_keys = max(s.num_keys for s in stretches)
        self.is_causal = stretches[0].is_causal
        """True: no mask is needed; equal for all stretches."""
        self.queries = np.full((self.size, self.num_queries), -1)
        """Pack index of each query; -1 is padding."""
        self.keys = np.full((self.size, self.num_keys), -1)
        for row, stretch in enumerate(stretches):
            first = stretch.num_queries - stretch.length
            self.queries[row, first : stretch.num_queries] = stretch.path[-1][-stretch.length :]
            self.keys[row, : stretch.num_keys] = np.concatenate(stretch.path)
        self.depths = torch.tensor([s.num_keys - s.length for s in stretches])

    def heads_first(self, rows: Tensor) -> Tensor:
        """Its rows [size * tokens, heads, dim] as a view [size, heads, tokens, dim]."""
        return rows.view(self.size, -1, *rows.shape[1:]).transpose(1, 2)

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """[size, 1, queries, keys] added to the scores: 0 where a query sees a key, else -inf; None for causal batches."""
        if self.is_causal:
            return None
        last = self.depths[:, None, None] + torch.arange(self.num_queries)[:, None]
        hidden = torch.arange(self.num_keys) > last
        return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf")).unsqueeze(1)


class _Rows:
    """Maps the tokens of a pack to the concatenated query rows, or key rows, of all batches."""

    def __init__(self, indices: Sequence[np.ndarray]):
        flat = np.concatenate([batch.ravel() for batch in indices])
        rows = np.flatnonzero(flat >= 0)
        order = np.argsort(flat[rows], kind="stable")
        self.lengths = [batch.size for batch in indices]
        """Number of rows of each batch."""
        self.tokens = torch.as_tensor(flat.clip(0))
        """Pack index of the token in each row; 0 for padding."""
        self.padding = torch.as_tensor(np.flatnonzero(flat < 0))
        """Rows without a token."""
        self.copies = torch.as_tensor(rows[order])
        """Rows of the first token, then of the second, and so on."""
        self.starts = torch.as_tensor(np.flatnonzero(np.diff(flat[rows][order], prepend=-1)))
        """[T] offset of each token's rows in `copies`."""

    def take(self, states: Tensor) -> Tensor:
        """The rows [rows, heads, dim] of states [T, heads, dim]."""
        return states.flatten(1).index_select(0, self.tokens).view(-1, *states.shape[1:])

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Results of all batches, each [size, heads, tokens, dim], as rows."""
        return torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])

    def put(self, rows: Tensor) -> Tensor:
        """[T, heads, dim] sum of each token's rows."""
        flat = rows.flatten(1)
        if len(self.copies) == len(self.starts):
            return flat.index_select(0, self.copies).view(-1, *rows.shape[1:])
        return embedding_bag(self.copies, flat, self.starts, mode="sum").view(-1, *rows.shape[1:])


class _Plan:
    """The attention calls of a pack."""

    def __init__(self, chains: Sequence[Chain]):
        self.batches = [_Batch(stretches) for stretches in batch_stretches(cut(chains))]
        self.queries = _Rows([batch.queries for batch in self.batches])
        self.keys = _Rows([batch.keys for batch in self.batches])


class PathAttention:
    """The attention of one pack; each layer calls `attend` once."""

    def __init__(self, chains: Sequence[Chain]):
        """Attention over the chains of a pack, in its order."""
        self._chains = chains
        self._masks: dict[torch.dtype, list[Tensor | None]] = {}

    @cached_property
    def _plan(self) -> _Plan:
        return _Plan(self._chains)  # lazy, as packs on a GPU need no plan

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention [tokens, heads, dim] of query [tokens, heads, dim] to key and value [tokens, kv_heads, dim].

        Query head h reads key head h * kv_heads // heads.
        """
        return cast(Any, _Attention).apply(query, key, value, self, scale)

    def masks(self, dtype: torch.dtype) -> list[Tensor | None]:
        """The mask of every batch, None where none is needed; cached for all layers."""
        if dtype not in self._masks:
            self._masks[dtype] = [batch.mask(dtype) for batch in self._plan.batches]
        return self._masks[dtype]

    def forward(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """The output; queries and outputs as rows of the batches; and per batch the log-sum-exp of each query's scores."""
        outputs: list[Tensor] = []
        sums: list[Tensor] = []
        rows = self._plan.queries.take(query)
        for batch, mask, (q, k, v) in self._each((rows,), (self._plan.keys.take(key), self._plan.keys.take(value))):
            output, sum_ = _flash(q, k, v, 0.0, batch.is_causal, attn_mask=mask, scale=scale)
            outputs.append(output)
            sums.append(sum_)
        joined = self._plan.queries.join(outputs)
        return self._plan.queries.put(joined), rows, joined, sums

    def backward(
        self,
        gradient: Tensor,
        queries: Tensor,
        key: Tensor,
        value: Tensor,
        outputs: Tensor,
        sums: Sequence[Tensor],
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value; queries and outputs are rows of the batches.

        In float32 at least: in a shorter format the sums over shared keys are less exact, and the kernel is slower (21 against
        16 ms for 5 paths of 200 tokens, 9 heads of 64, bfloat16 on a processor with AVX512-BF16).
        """
        exact = torch.promote_types(queries.dtype, torch.float32)
        plan = self._plan
        of_rows = plan.queries.take(gradient).to(exact)
        of_rows.index_fill_(0, plan.queries.padding, 0.0)
        keys = plan.keys.take(key).to(exact), plan.keys.take(value).to(exact)
        calls = self._each((of_rows, queries.to(exact), outputs.to(exact)), keys)
        results: list[tuple[Tensor, Tensor, Tensor]] = []
        for sum_, (batch, mask, (g, q, output, k, v)) in zip(sums, calls, strict=True):
            results.append(_flash_backward(g, q, k, v, output, sum_, 0.0, batch.is_causal, attn_mask=mask, scale=scale))
        parts = zip((plan.queries, plan.keys, plan.keys), zip(*results, strict=True), strict=True)
        of_query, of_key, of_value = (rows.put(rows.join(part)).to(queries.dtype) for rows, part in parts)
        return of_query, of_key, of_value

    def _each(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Iterator[tuple[_Batch, Tensor | None, list[Tensor]]]:
        """Each batch with its mask and its rows of queries and of keys, heads first."""
        split = [rows.split_with_sizes(self._plan.queries.lengths) for rows in queries]
        split += [rows.split_with_sizes(self._plan.keys.lengths) for rows in keys]
        masks = self.masks(queries[0].dtype)
        for batch, mask, parts in zip(self._plan.batches, masks, zip(*split, strict=True), strict=True):
            yield batch, mask, [batch.heads_first(part) for part in parts]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, attention: PathAttention, scale: float) -> Tensor:
        result, queries, outputs, sums = attention.forward(query, key, value, scale)
        ctx.save_for_backward(queries, key, value, outputs, *sums)
        ctx.attention, ctx.scale = attention, scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        queries, key, value, outputs, *sums = ctx.saved_tensors
        return *ctx.attention.backward(gradients[0], queries, key, value, outputs, sums, ctx.scale), None, None


def cut(chains: Sequence[Chain]) -> list[Stretch]:
    """The chains as stretches of at most `_MOST_QUERIES`; a chain with few tokens before it stays one stretch.

    Example: a prompt of 2 with children of 3 and 1 are chains (0, 5) and (2, 1), and stretches of 5 tokens and of 1, the second
    with the path 0 1 5.
    """
    stretches: list[Stretch] = []
    path: list[range] = []
    start = 0
    for depth, length in chains:
        while path and sum(map(len, path)) > depth:
            piece = path.pop()
            shared = max(depth - sum(map(len, path)), 0)
            if shared:
                path.append(piece[:shared])
        step = length if _is_little(depth, length) else _MOST_QUERIES
        for first in range(0, length, step):
            last = min(first + step, length)
            stretches.append(Stretch(start + first, last - first, (*path, range(start, start + last))))
        path.append(range(start, start + length))
        start += length
    return stretches


def batch_stretches(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """Batches of stretches with similar numbers of keys and queries; stretches without a mask are separate."""
    batches: list[list[Stretch]] = []
    queries = keys = useful = 0
    for stretch in sorted(stretches, key=lambda s: (not s.is_causal, s.num_keys, s.num_queries)):
        scores = stretch.num_queries * stretch.num_keys
        if batches and batches[-1][0].is_causal == stretch.is_causal:
            queries, keys, useful = max(queries, stretch.num_queries), max(keys, stretch.num_keys), useful + scores
            if queries * keys * (len(batches[-1]) + 1) <= min(_MOST_WASTE * useful, _MOST_SCORES):
                batches[-1].append(stretch)
                continue
        batches.append([stretch])
        queries, keys, useful = stretch.num_queries, stretch.num_keys, scores
    return batches


def _is_little(depth: int, length: int) -> bool:
    return 4 * depth <= length
