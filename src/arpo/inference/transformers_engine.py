"""The in-process engine: a transformers model over a forking key-value cache, with continuous batching.

Every step packs the tokens that wait to be computed, prefill and decoding alike, into one forward pass without padding, then
draws one token for each generating request. Requests join and leave between steps.
"""

import asyncio
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from arpo.inference.sampling import draw, stream_uniforms
from arpo.inference.stopping import StopFinder
from arpo.models.attention import forward_hidden, head_logits, use_layout_attention
from arpo.models.weights import ModelWeights, copy_weights
from arpo.types import Completion, SamplingParams


@dataclass(slots=True, eq=False)
class _Request:
    future: asyncio.Future
    parent: CachedPrefix | None
    given: tuple[int, ...]
    """All tokens up to the first draw."""
    waiting: list[int]
    """Tokens to compute before the next draw."""
    max_tokens: int = 0
    """Tokens to draw; 0 for a prefill."""
    temperature: float = 1.0
    seed: int = 0
    position: int = 0
    stop: tuple[str, ...] = ()
    entropy_top_k: int | None = None
    participates: bool = False
    before: tuple[int, ...] = ()
    """Tokens of the same completion that earlier requests drew: `position` of them."""
    slot: int = -1
    hidden: HiddenRow | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    def drawing_kind(self) -> tuple[float, int]:
        """Requests of one kind are drawn together."""
        return self.temperature, self.entropy_top_k or 0

    def goes_on(self) -> bool:
        """Whether it follows another request at once: draws after a prefill, or the rest of a paused completion."""
        return self.hidden is not None or self.position > 0

    def order(self) -> tuple[int, ...]:
        """A sort key that does not depend on the time of arrival."""
        parent = (self.parent.slot, self.parent.length) if self.parent else (-1, 0)
        return (*parent, self.seed, *self.waiting)


class TransformersEngine(InferenceEngine[CachedPrefix]):
    """`InferenceEngine` over a model in this process, on CPU or GPU. The reference for every other engine."""

    entropy_estimators: tuple[str, ...] = ("exact", "top_k")
    """The whole distribution is at hand."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        decode: Callable[[Sequence[int]], str],
        eos_ids: frozenset[int],
        max_batch_tokens: int = 16384,
        max_width: int | None = None,
    ):
        """An engine over a model.

        Args:
            model: May be shared with a trainer.
            decode: Text of sampled ids, to find stop strings in.
            eos_ids: Any of these ends a completion.
            max_batch_tokens: Most tokens of one forward pass, unless a single request needs more.
            max_width: Most requests that are computed at once; further ones wait in the order they came, but what follows
                a prefill or a pause comes first. None: no bound.
        """
        config = use_layout_attention(model).config
        self._model = model
        self._stops = StopFinder(decode, eos_ids)
        self._max_batch_tokens = max_batch_tokens
        self._max_width = max_width or sys.maxsize
        heads = config.num_attention_heads
        self.cache = ForkableKVCache(
            num_layers=config.num_hidden_layers,
            num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            dtype=model.dtype,
            device=model.device,
        )
        self.version = 0
        self.num_computed_tokens = 0
        """Tokens that went through the model since the start."""
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
        given = (*(parent.token_ids if parent else ()), *token_ids)
        return await self._submit(_Request(self._future(), parent, given, waiting))

    async def generate(
        self, prefix: CachedPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, CachedPrefix]:
        """As `InferenceEngine.generate`."""
        request = _Request(
            self._future(), prefix, prefix.token_ids, list(prefix.pending), sampling.max_tokens, sampling.temperature, seed,
            position, tuple(stop), sampling.entropy_top_k, hidden=prefix.hidden, before=prefix.last(position),
        )  # fmt: skip
        return await self._submit(request)

    async def update_weights(self, source: WeightSource, version: int) -> None:
        """As `InferenceEngine.update_weights`.

        The weights of the engine's own model, shared with a trainer, are in use already; any others are copied into it.

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

    def _future(self) -> asyncio.Future:
        return asyncio.get_running_loop().create_future()

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
                (result[1] if request.max_tokens else result).release()
            raise

    def _withdraw(self, request: _Request) -> None:
        """Forget a request whose caller was cancelled."""
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
            if request.max_tokens:
                drawing[request.drawing_kind()].append(request)
            else:
                self._resolve(request, self._prefix(request))
        for kind in sorted(drawing):
            self._draw(drawing[kind])

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
        batch, layout = self._lay_out(batch)
        token_ids = torch.tensor([t for r in batch for t in r.waiting], device=self._model.device)
        hidden = forward_hidden(self._model, token_ids, layout.positions, layout)[layout.last]
        self.num_computed_tokens += len(token_ids)
        self.num_forward_passes += 1
        for row, request in enumerate(batch):
            request.hidden = HiddenRow(hidden, row)
            request.waiting = []

    def _lay_out(self, batch: list[_Request]) -> tuple[list[_Request], CacheLayout]:
        """The batch in the order of its rows, and its layout: the last one, a token further, when the same requests go on."""
        if self._last_pass is not None:
            last_batch, layout = self._last_pass
            is_same = len(batch) == len(last_batch) and set(map(id, batch)) == set(map(id, last_batch))
            if is_same and all(len(r.waiting) == 1 for r in batch) and layout.advance():
                return last_batch, layout
        slots = [request.slot for request in batch]
        self.cache.gather(slots)
        batch = [request for _, request in sorted(zip(self.cache.rows(slots), batch, strict=True), key=lambda pair: pair[0])]
        segments = [Segment(r.slot, self.cache.lengths[r.slot], len(r.waiting)) for r in batch]
        self._last_pass = batch, CacheLayout(self.cache, segments, self._model.device)
        return self._last_pass

    def _draw(self, requests: list[_Request]) -> None:
        requests, hidden = _gather_hidden(requests)
        logits = head_logits(self._model, hidden)
        seeds = np.array([r.seed for r in requests], dtype=np.uint64)
        positions = np.array([r.position + len(r.tokens) for r in requests])
        first = requests[0]
        drawn = draw(logits, first.temperature, stream_uniforms(seeds, positions), first.entropy_top_k)
        for request, token, logprob, entropy in zip(requests, *(column.tolist() for column in drawn), strict=True):
            request.tokens.append(token)
            request.logprobs.append(logprob)
            request.entropies.append(entropy)
            request.waiting = [token]
            reason = self._stops.reason(request.before, request.tokens, request.stop, request.max_tokens)
            if reason is not None:
                completion = Completion(
                    token_ids=request.tokens, logprobs=request.logprobs, entropies=request.entropies, stop_reason=reason,
                    policy_version=self.version,
                )  # fmt: skip
                self._resolve(request, (completion, self._prefix(request)))

    def _prefix(self, request: _Request) -> CachedPrefix:
        return CachedPrefix(
            cache=self.cache, slot=request.slot, length=self.cache.lengths[request.slot],
            token_ids=(*request.given, *request.tokens), hidden=None if request.waiting else request.hidden,
        )  # fmt: skip

    def _resolve(self, request: _Request, result: object) -> None:
        if request.future.cancelled():
            return  # its caller withdraws it as soon as it runs
        self._running.remove(request)
        self.cache.end_writing(request.slot)
        request.future.set_result(result)
        self._num_busy += request.participates  # busy from now on, not only once its coroutine is resumed

    def _fail(self, error: Exception) -> None:
        """Hand an error of a step to every caller in it and free what they held."""
        requests = [*self._running, *self._queue, *self._arrived]
        self._running, self._arrived = [], []
        self._queue.clear()
        self._last_pass = None
        for request in requests:
            if request.slot >= 0:
                self.cache.end_writing(request.slot)
                self.cache.release(request.slot)
            if not request.future.done():
                failure = EngineError(f"the inference engine failed: {type(error).__name__}: {error}")
                failure.__cause__ = error
                request.future.set_exception(failure)
                self._num_busy += request.participates


def _gather_hidden(requests: list[_Request]) -> tuple[list[_Request], Tensor]:
    """The requests, those of one forward pass next to each other, and their hidden states [requests, hidden]."""
    by_pass: dict[int, list[_Request]] = {}
    for request in requests:
        assert request.hidden is not None
        by_pass.setdefault(id(request.hidden.rows), []).append(request)
    parts = [_rows_of([r.hidden for r in group if r.hidden is not None]) for group in by_pass.values()]
    ordered = [request for group in by_pass.values() for request in group]
    return ordered, parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows_of(states: list[HiddenRow]) -> Tensor:
    rows, wanted = states[0].rows, [state.row for state in states]
    return rows if wanted == list(range(len(rows))) else rows[wanted]
