"""The in-process engine: a transformers model over a forking key-value cache, with continuous batching.

Every step packs the tokens that wait to be computed, prefill and decoding alike, into one forward pass without padding, then
draws one token for each generating request. Requests join and leave between steps.
"""

import asyncio
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.errors import EngineError, ModelError
from arpo.inference.base import InferenceEngine, WeightSource, require_none_held
from arpo.inference.cache_layout import CacheLayout, Segment
from arpo.inference.cached_prefix import CachedPrefix, HiddenRow
from arpo.inference.kv_cache import ForkableKVCache
from arpo.inference.pump import Pump
from arpo.inference.request import Request
from arpo.inference.sampling import draw, stream_uniforms
from arpo.inference.stopping import StopFinder
from arpo.models.attention import forward_hidden, head_logits, use_layout_attention
from arpo.models.memory import cache_shape
from arpo.models.weights import ModelWeights, copy_weights, weight_digests
from arpo.types import Completion, SamplingParams

_PASS_TOKENS = {"cpu": 4096}
"""Tokens of one forward pass whose activations a device's cache holds best; none: as many as there are."""
_BATCH_TOKENS = 16_384
"""Most tokens computed before the next draw, by default."""


def most_pass_tokens(device_type: str) -> int:
    """Most tokens of one forward pass on a device, unless a single request has more."""
    return min(_BATCH_TOKENS, _PASS_TOKENS.get(device_type, _BATCH_TOKENS))


@dataclass(slots=True, eq=False, kw_only=True)
class _Request(Request):
    parent: CachedPrefix | None
    prefix_ids: tuple[int, ...]
    """All tokens up to the first draw."""
    waiting: list[int]
    """Tokens to compute before the next draw."""
    is_prefill: bool = False
    """True: nothing is drawn."""
    participates: bool = False
    slot: int = -1
    hidden: HiddenRow | None = None

    def drawing_kind(self) -> tuple[float, int]:
        """Requests of one kind are drawn together."""
        return self.sampling.temperature, self.sampling.entropy_top_k or 0

    def goes_on(self) -> bool:
        """Whether it directly follows another request: draws after a prefill, or the rest of a paused completion."""
        return self.hidden is not None or self.position > 0

    def order(self) -> tuple[int, ...]:
        """A sort key independent of the time of arrival."""
        parent = (self.parent.slot, self.parent.length) if self.parent else (-1, 0)
        return (*parent, self.seed, *self.waiting)


class TransformersEngine(InferenceEngine[CachedPrefix]):
    """`InferenceEngine` over a model in this process, on CPU or GPU; the reference for every other engine."""

    entropy_estimators: tuple[str, ...] = ("exact", "top_k")
    """The engine sees the full distribution."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        decode: Callable[[Sequence[int]], str],
        eos_ids: frozenset[int],
        max_batch_tokens: int = _BATCH_TOKENS,
        max_width: int | None = None,
        max_tokens: int | None = None,
    ):
        """An engine over a model.

        Args:
            model: The model; a trainer may share it.
            decode: Text of sampled ids, searched for stop strings.
            eos_ids: Ids that end a completion.
            max_batch_tokens: Most tokens of one forward pass, unless a single request needs more.
            max_width: Most requests computed at once; further ones wait in order of arrival, after those that follow a prefill
                or a pause. None: no bound.
            max_tokens: Longest sequence, for which the cache need not grow further; None: unknown.
        """
        config = use_layout_attention(model).config
        self._model = model
        self._stops = StopFinder(decode, eos_ids)
        self._max_batch_tokens = max_batch_tokens
        self._max_width = max_width or sys.maxsize
        num_kv_heads, head_dim = cache_shape(config)
        self.cache = ForkableKVCache(
            num_layers=config.num_hidden_layers,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            dtype=model.dtype,
            device=model.device,
            most_positions=max_tokens,
        )
        self.version = 0
        self.num_computed_tokens = 0
        """Tokens the model has computed since the start."""
        self.num_forward_passes = 0
        self._arrived: list[_Request] = []
        self._queue: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._last_pass: tuple[list[_Request], CacheLayout] | None = None
        self._num_participants = 0
        self._num_busy = 0  # participants that do not await the engine
        self._pump = Pump(self._has_work, self._step, self._fail)

    async def prefill(self, parent: CachedPrefix | None, token_ids: Sequence[int]) -> CachedPrefix:
        """As `InferenceEngine.prefill`."""
        waiting = [*(parent.pending if parent else ()), *token_ids]
        if not waiting:
            raise EngineError("prefill: no tokens; give at least one token id")
        prefix_ids = (*(parent.token_ids if parent else ()), *token_ids)
        return await self._submit(_Request(parent=parent, prefix_ids=prefix_ids, waiting=waiting, is_prefill=True))

    async def generate(
        self, prefix: CachedPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, CachedPrefix]:
        """As `InferenceEngine.generate`."""
        request = _Request(
            parent=prefix, prefix_ids=prefix.token_ids, waiting=list(prefix.pending), hidden=prefix.hidden, sampling=sampling,
            seed=seed, position=position, stop=tuple(stop), before=prefix.last(position),
        )  # fmt: skip
        return await self._submit(request)

    async def update_weights(self, source: WeightSource, version: int) -> None:
        """As `InferenceEngine.update_weights`.

        If `source` is the engine's model, shared with a trainer, its weights are in use already; others are copied into it.

        Raises:
            EngineError: prefixes of the former weights are held, or `source` holds the weights of another architecture.
        """
        require_none_held(self.cache.num_used_slots)
        if not (isinstance(source, ModelWeights) and source.model is self._model):
            try:
                copy_weights(source, self._model)
            except ModelError as error:
                raise EngineError(f"update_weights: {error}") from error
        self.version = version

    async def weight_digests(self) -> dict[str, str]:
        """As `InferenceEngine.weight_digests`; an adapter, if any, is merged in."""
        return weight_digests(ModelWeights(self._model))

    @contextmanager
    def participate(self) -> Iterator[None]:
        """As `InferenceEngine.participate`."""
        self._num_participants += 1
        self._num_busy += 1
        try:
            yield
        finally:
            self._num_participants -= 1
            self._num_busy -= 1
            self._pump.wake()

    async def aclose(self) -> None:
        """As `InferenceEngine.aclose`."""
        await self._pump.aclose()

    async def _submit(self, request: _Request) -> Any:
        if request.parent is not None:
            request.parent.require_held()
        self._pump.start()
        request.participates = self._num_participants > 0
        self._num_busy -= request.participates
        self._arrived.append(request)
        self._pump.wake()
        try:
            return await request.future
        except asyncio.CancelledError:
            if request.future.cancelled():
                self._withdraw(request)
            elif request.future.exception() is None:  # resolved, but its caller will never see the prefix
                result = request.future.result()
                (result if request.is_prefill else result[1]).release()
            raise

    def _withdraw(self, request: _Request) -> None:
        """Remove a request whose caller was cancelled."""
        self._num_busy += request.participates
        if request in self._arrived:
            self._arrived.remove(request)
        elif request in self._queue:
            self._queue.remove(request)
        elif request in self._running:
            self._running.remove(request)
            self.cache.end_writing(request.slot)
            self.cache.release(request.slot)

    def _has_work(self) -> bool:
        """Whether requests wait; in a participating run only when every participant awaits the engine."""
        is_held_up = self._num_participants and self._num_busy > 0
        return not is_held_up and bool(self._arrived or self._queue or self._running)

    async def _step(self) -> None:
        with torch.inference_mode():
            self._compute()

    def _compute(self) -> None:
        self._admit()
        batch = self._next_batch()
        if batch:
            self._forward(batch)
        drawing: defaultdict[tuple[float, int], list[_Request]] = defaultdict(list)
        for request in [r for r in self._running if not r.waiting]:
            if request.is_prefill:
                self._resolve(request, self._prefix(request))
            else:
                drawing[request.drawing_kind()].append(request)
        for kind in sorted(drawing):
            self._draw(drawing[kind])
        if not self._running:
            self._last_pass = None  # its layout serves no later request, and an update has its memory

    def _admit(self) -> None:
        arrived = sorted(self._arrived, key=_Request.order)
        self._arrived = []
        self._queue.extendleft(r for r in reversed(arrived) if r.goes_on())
        self._queue.extend(r for r in arrived if not r.goes_on())
        while self._queue and len(self._running) < self._max_width:
            parent = self._queue[0].parent
            slot = self.cache.claim(parent.slot, parent.length) if parent else self.cache.allocate()
            request = self._queue.popleft()
            request.slot = slot
            self._running.append(request)

    def _next_batch(self) -> list[_Request]:
        """Requests with tokens to compute, up to the token limit, at least one."""
        batch, room = [], self._max_batch_tokens
        for request in self._running:
            if request.waiting and (not batch or len(request.waiting) <= room):
                batch.append(request)
                room -= len(request.waiting)
        return batch

    def _forward(self, batch: list[_Request]) -> None:
        for part, layout in self._passes(batch):
            token_ids = torch.tensor([t for r in part for t in r.waiting], device=self._model.device)
            hidden = forward_hidden(self._model, token_ids, layout.positions, layout)[layout.last]
            self.num_computed_tokens += len(token_ids)
            self.num_forward_passes += 1
            for row, request in enumerate(part):
                request.hidden = HiddenRow(hidden, row)
                request.waiting = []

    def _passes(self, batch: list[_Request]) -> Iterator[tuple[list[_Request], CacheLayout]]:
        """The batch in the order of its rows, in parts of as many tokens as the device computes best, each with its layout.

        The last layout is advanced by a token if the requests are the same.
        """
        if self._last_pass is not None:
            last_batch, layout = self._last_pass
            is_same = len(batch) == len(last_batch) and set(map(id, batch)) == set(map(id, last_batch))
            if is_same and all(len(r.waiting) == 1 for r in batch) and layout.advance():
                yield last_batch, layout
                return
        slots = [request.slot for request in batch]
        self.cache.gather(slots)
        batch = [request for _, request in sorted(zip(self.cache.rows(slots), batch, strict=True), key=lambda pair: pair[0])]
        for part in _parts(batch, _PASS_TOKENS.get(self._model.device.type, sys.maxsize)):
            segments = [Segment(r.slot, self.cache.lengths[r.slot], len(r.waiting)) for r in part]
            self._last_pass = part, CacheLayout(self.cache, segments, self._model.device)
            yield self._last_pass

    def _draw(self, requests: list[_Request]) -> None:
        requests, hidden = _gather_hidden(requests)
        logits = head_logits(self._model, hidden)
        seeds = np.array([r.seed for r in requests], dtype=np.uint64)
        positions = np.array([r.position + len(r.tokens) for r in requests])
        sampling = requests[0].sampling
        drawn = draw(logits, sampling.temperature, stream_uniforms(seeds, positions), sampling.entropy_top_k)
        for request, token, logprob, entropy in zip(requests, *(column.tolist() for column in drawn), strict=True):
            request.waiting = [token]
            reason = request.add(token, logprob, entropy, self._stops)
            if reason is not None:
                self._resolve(request, (request.completion(reason, self.version), self._prefix(request)))

    def _prefix(self, request: _Request) -> CachedPrefix:
        return CachedPrefix(
            cache=self.cache, slot=request.slot, length=self.cache.lengths[request.slot],
            token_ids=(*request.prefix_ids, *request.tokens), hidden=None if request.waiting else request.hidden,
        )  # fmt: skip

    def _resolve(self, request: _Request, result: object) -> None:
        if request.future.cancelled():
            return  # its caller withdraws it when it resumes
        self._running.remove(request)
        self.cache.end_writing(request.slot)
        request.future.set_result(result)
        self._num_busy += request.participates  # busy from now on, even before its coroutine resumes

    def _fail(self, error: Exception) -> None:
        """Raise the error of a step in every caller and free the slots of their requests."""
        requests = [*self._running, *self._queue, *self._arrived]
        self._running, self._arrived = [], []
        self._queue.clear()
        self._last_pass = None
        for request in requests:
            if request.slot >= 0:
                self.cache.end_writing(request.slot)
                self.cache.release(request.slot)
            if request.fail(error, "the inference engine"):
                self._num_busy += request.participates


def _parts(batch: list[_Request], max_tokens: int) -> Iterator[list[_Request]]:
    """Cut a batch into parts of at most `max_tokens` waiting tokens, each of at least one request."""
    part: list[_Request] = []
    room = max_tokens
    for request in batch:
        if part and len(request.waiting) > room:
            yield part
            part, room = [], max_tokens
        part.append(request)
        room -= len(request.waiting)
    yield part


def _gather_hidden(requests: list[_Request]) -> tuple[list[_Request], Tensor]:
    """The requests, grouped by forward pass, and their hidden states [requests, hidden]."""
    by_pass: dict[int, list[_Request]] = {}
    for request in requests:
        assert request.hidden is not None
        by_pass.setdefault(id(request.hidden.rows), []).append(request)
    parts = [_rows_of([r.hidden for r in group if r.hidden is not None]) for group in by_pass.values()]
    ordered = [request for group in by_pass.values() for request in group]
    return ordered, parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows_of(states: list[HiddenRow]) -> Tensor:
    rows, indices = states[0].rows, [state.row for state in states]
    return rows if indices == list(range(len(rows))) else rows[indices]
