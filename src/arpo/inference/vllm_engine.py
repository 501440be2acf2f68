"""vLLM behind the engine protocol: a prefix is its token ids, and vLLM's prefix cache stands in for the fork.

vLLM computes logits; `StreamSampler` draws from them, so that draws, log-probs and entropies equal those of the in-process
engine: by (seed, position), at the sampling temperature, over the full vocabulary. vLLM runs in a separate thread of this
process.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arpo.errors import EngineError
from arpo.inference.base import WeightSource, require_none_held
from arpo.inference.config import VllmEngineConfig
from arpo.inference.pump import Pump
from arpo.inference.request import Request
from arpo.inference.sampling import draw, stream_uniforms
from arpo.inference.stopping import StopFinder
from arpo.inference.token_prefix import TokenPrefix, TokenPrefixEngine
from arpo.models.vocabulary import mask_logits, rows_without_token
from arpo.types import Completion, SamplingParams, StopReason

# vLLM reads these on import: its second model runner takes another kind of logits processor, and binding its threads to cores
# would bind those of the trainer too.
os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

import vllm  # pyright: ignore[reportMissingImports]
from vllm.engine.arg_utils import EngineArgs  # pyright: ignore[reportMissingImports]
from vllm.model_executor.layers import utils as vllm_layers  # pyright: ignore[reportMissingImports]
from vllm.outputs import RequestOutput  # pyright: ignore[reportMissingImports]
from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]
from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]
from vllm.v1.engine.llm_engine import LLMEngine  # pyright: ignore[reportMissingImports]
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor  # pyright: ignore[reportMissingImports]
from vllm.v1.sample.logits_processor.builtin import process_dict_updates  # pyright: ignore[reportMissingImports]

_EXTRA = "arpo"
"""Key of our part of a request's sampling parameters."""
_NUM_REPORTED = 3
"""Values `StreamSampler` reports per token."""


@dataclass(slots=True, frozen=True)
class _Stream:
    """How one row of a batch is drawn: the arguments of `generate`, and vLLM's list of the tokens drawn so far."""

    seed: int
    position: int
    temperature: float
    entropy_top_k: int | None
    drawn: list[int]


class StreamSampler(LogitsProcessor):
    """Draws each row's token from the row's stream of random numbers and reports it through the logits.

    vLLM then takes the largest logit and returns the three largest unchanged (`logprobs_mode = "processed_logits"`). A drawn
    token d with log-probability l <= 0 and entropy H >= 0 makes the row (indices modulo the vocabulary): d: +inf, d + 1: H,
    d + 2: l, all else -inf. `read_report` reads the row.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._streams: dict[int, _Stream] = {}
        model = vllm_config.model_config
        rows = rows_without_token(Path(model.model), model.get_vocab_size())
        self._rows_without_token = torch.tensor(rows, device=device) if rows else None

    def is_argmax_invariant(self) -> bool:
        """False: the largest logit becomes the drawn token."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Track the requests that joined, left or moved within the batch."""
        process_dict_updates(self._streams, batch_update, _stream)

    def apply(self, logits: Tensor) -> Tensor:
        """The logits with each of our rows replaced by its report."""
        kinds: dict[tuple[float, int], list[int]] = {}
        for row, stream in self._streams.items():
            kinds.setdefault((stream.temperature, stream.entropy_top_k or 0), []).append(row)
        for (temperature, top_k), rows in kinds.items():
            streams = [self._streams[row] for row in rows]
            seeds = np.array([s.seed for s in streams], dtype=np.uint64)
            positions = np.array([s.position + len(s.drawn) for s in streams])
            index = torch.tensor(rows, device=logits.device)
            known = mask_logits(logits[index], self._rows_without_token)
            tokens, logprobs, entropies = draw(known, temperature, stream_uniforms(seeds, positions), top_k or None)
            columns = (tokens.unsqueeze(-1) + torch.arange(_NUM_REPORTED, device=logits.device)) % logits.shape[-1]
            values = torch.stack([torch.full_like(logprobs, torch.inf), entropies, logprobs], dim=-1)
            report = torch.full_like(logits[index], -torch.inf).scatter_(-1, columns, values.to(logits.dtype))
            logits[index] = report
        return logits


def _stream(params: Any, _: list[int] | None, drawn: list[int]) -> _Stream | None:
    extra = (params.extra_args or {}).get(_EXTRA)
    return None if extra is None else _Stream(**extra, drawn=drawn)


def read_report(token: int, values: dict[int, float], vocab_size: int) -> tuple[float, float]:
    """(log-probability, entropy) of a drawn token, from the values vLLM returned by token id.

    Example: token 7 with {7: inf, 8: 1.25, 9: -0.5} gives (-0.5, 1.25).
    """
    return values[(token + 2) % vocab_size], values[(token + 1) % vocab_size]


@dataclass(slots=True, eq=False, kw_only=True)
class _Request(Request):
    id: str
    prefix: TokenPrefix


class VllmEngine(TokenPrefixEngine):
    """`InferenceEngine` over vLLM's engine in this process.

    Requests arrive on the event loop; between two steps they go to the one thread in which all of vLLM runs. A prefix is
    computed with the first completion that follows it; later requests find its full blocks in the cache. The composition of
    batches depends on timing, so `participate` is refused.
    """

    entropy_estimators: tuple[str, ...] = ("exact", "top_k")
    """The sampler sees the full distribution, as in the in-process engine."""

    def __init__(
        self,
        path: Path,
        config: VllmEngineConfig,
        *,
        dtype: str,
        max_tokens: int,
        decode: Callable[[Sequence[int]], str],
        eos_ids: frozenset[int],
    ):
        """An engine with the weights in `path`.

        Args:
            path: Hugging Face model directory.
            config: vLLM's options.
            dtype: Number format of its weights, as torch names it.
            max_tokens: Longest sequence, prompt and observations included.
            decode: Text of sampled ids, searched for stop strings.
            eos_ids: Ids that end a completion.

        Raises:
            EngineError: vLLM cannot start with the model, the options or the available memory.
        """
        super().__init__()
        self.num_prefilled_tokens = 0
        """Tokens of prefixes computed since the start, without those in cached blocks."""
        self._max_tokens = max_tokens
        self._eos_ids = eos_ids
        self._stops = StopFinder(decode, eos_ids)
        self._ids = itertools.count()
        self._arrived: list[_Request] = []
        self._running: dict[str, _Request] = {}
        self._withdrawn: list[str] = []
        self._pump = Pump(self._has_work, self._step, self._fail)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vllm")
        try:
            self._vllm: LLMEngine = self._thread.submit(_start, path, config, dtype, max_tokens).result()
        except Exception as error:
            self._thread.shutdown()
            raise EngineError(f"vLLM could not start with {path}: {type(error).__name__}: {error}") from error
        self._vocab_size = self._vllm.model_config.get_vocab_size()
        self.block_size: int = self._vllm.vllm_config.cache_config.block_size
        """Tokens per cached block; each completion computes the last, incomplete block of its prefix again."""

    async def generate(
        self, prefix: TokenPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, TokenPrefix]:
        """As `InferenceEngine.generate`.

        Raises:
            EngineError: prefix and completion could exceed the engine's longest sequence, or vLLM failed.
        """
        prefix.require_held()
        if prefix.num_tokens + sampling.max_tokens > self._max_tokens:
            raise EngineError(
                f"a prefix of {prefix.num_tokens} tokens and max_tokens = {sampling.max_tokens} exceed the {self._max_tokens} "
                f"tokens vLLM was started for; raise agent.limits.max_trajectory_tokens, or lower max_tokens"
            )
        request = _Request(
            id=str(next(self._ids)), prefix=prefix, sampling=sampling, seed=seed, position=position, stop=tuple(stop),
            before=prefix.last(position),
        )  # fmt: skip
        self._pump.start()
        self._arrived.append(request)
        self._pump.wake()
        try:
            completion: Completion = await request.future
        except asyncio.CancelledError:
            self._withdraw(request)
            raise
        return completion, prefix.extend(completion.token_ids, is_sampled=True)

    async def update_weights(self, source: WeightSource, version: int) -> None:
        """As `InferenceEngine.update_weights`, in place; empties the block cache.

        Requests that arrive meanwhile wait in vLLM's thread, and get the new weights.

        Raises:
            EngineError: prefixes of the former weights are held, requests are running, or vLLM failed.
        """
        require_none_held(self.num_held_prefixes, len(self._arrived) + len(self._running))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._replace_weights, source, version)

    def participate(self) -> AbstractContextManager[None]:
        """As `InferenceEngine.participate`: always refused."""
        raise EngineError(
            "rollout.deterministic = true: vLLM forms its batches from the requests that have arrived, so it cannot fix them; "
            "set it to false, or engine.type = 'transformers'"
        )

    async def aclose(self) -> None:
        """As `InferenceEngine.aclose`; the engine cannot be used afterwards."""
        await self._pump.aclose()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._vllm.engine_core.shutdown)
        self._thread.shutdown()

    def _has_work(self) -> bool:
        return bool(self._arrived or self._running or self._withdrawn)

    async def _step(self) -> None:
        arrived, withdrawn = self._arrived, self._withdrawn
        self._arrived, self._withdrawn = [], []
        self._running |= {request.id: request for request in arrived}
        loop = asyncio.get_running_loop()
        for output in await loop.run_in_executor(self._thread, self._advance, arrived, withdrawn):
            self._take(output)

    def _advance(self, arrived: Sequence[_Request], withdrawn: list[str]) -> list[RequestOutput]:
        """Withdraw and add requests, then step; runs in vLLM's thread."""
        if withdrawn:
            self._vllm.abort_request(withdrawn)
        for request in arrived:
            prompt = {"prompt_token_ids": list(request.prefix.token_ids)}
            self._vllm.add_request(request.id, prompt, self._sampling_params(request))
        return self._vllm.step() if self._vllm.has_unfinished_requests() else []

    def _sampling_params(self, request: _Request) -> Any:
        sampling = request.sampling
        stream = {
            "seed": request.seed, "position": request.position, "temperature": sampling.temperature,
            "entropy_top_k": sampling.entropy_top_k,
        }  # fmt: skip
        return vllm.SamplingParams(
            temperature=0, max_tokens=sampling.max_tokens, stop_token_ids=sorted(self._eos_ids), ignore_eos=True,
            detokenize=False, logprobs=_NUM_REPORTED, output_kind=RequestOutputKind.DELTA, extra_args={_EXTRA: stream},
        )  # fmt: skip

    def _take(self, output: RequestOutput) -> None:
        """Add the tokens of a step to their request, up to the one that ends it."""
        request = self._running.get(output.request_id)
        if request is None:
            return  # withdrawn while the step ran
        if not request.tokens:
            self.num_prefilled_tokens += request.prefix.num_tokens - (output.num_cached_tokens or 0)
        [part] = output.outputs
        for token, row in zip(part.token_ids, part.logprobs, strict=True):
            values = {key: entry.logprob for key, entry in row.items()}
            logprob, entropy = read_report(token, values, self._vocab_size)
            reason = request.add(token, logprob, entropy, self._stops)
            if reason is not None:
                self._finish(request, reason, has_left=output.finished)
                return

    def _finish(self, request: _Request, reason: StopReason, *, has_left: bool) -> None:
        del self._running[request.id]
        if not has_left:
            self._withdrawn.append(request.id)
        if not request.future.done():
            request.future.set_result(request.completion(reason, self.version))

    def _withdraw(self, request: _Request) -> None:
        """Remove a request whose caller was cancelled."""
        if request in self._arrived:
            self._arrived.remove(request)
        elif self._running.pop(request.id, None) is not None:
            self._withdrawn.append(request.id)
            self._pump.wake()

    def _fail(self, error: Exception) -> None:
        """Raise the error of a step in every caller."""
        requests = [*self._running.values(), *self._arrived]
        self._withdrawn += self._running
        self._running, self._arrived = {}, []
        for request in requests:
            request.fail(error, "vLLM")

    def _replace_weights(self, source: WeightSource, version: int) -> None:
        """Load the weights; runs in vLLM's thread, which also sets the version, so that later draws are of the new weights."""
        try:
            if self._withdrawn:
                self._vllm.abort_request(self._withdrawn)
                self._withdrawn = []
            weights = {"weights_path": str(source)} if isinstance(source, str | Path) else {"weights_iterator": iter(source)}
            self._vllm.collective_rpc("reload_weights", kwargs=weights)
            is_reset = self._vllm.reset_prefix_cache()
        except Exception as error:
            origin = source if isinstance(source, str | Path) else "the given tensors"
            raise EngineError(f"update_weights: vLLM cannot take {origin}: {type(error).__name__}: {error}") from error
        if not is_reset:
            raise EngineError("update_weights: vLLM kept blocks of the former weights in its cache")
        self.version = version


def _start(path: Path, config: VllmEngineConfig, dtype: str, max_tokens: int) -> LLMEngine:
    if current_platform.is_cpu():
        # On a CPU vLLM packs and frees the weights of linear layers, after which reloading them has no effect.
        vllm_layers.dispatch_cpu_unquantized_gemm = _leave_weights_in_place
    args = EngineArgs(
        model=str(path), skip_tokenizer_init=True, generation_config="vllm", dtype=dtype, max_model_len=max_tokens,
        gpu_memory_utilization=config.gpu_memory_utilization, enforce_eager=config.enforce_eager,
        max_num_seqs=config.max_num_seqs, enable_prefix_caching=True, async_scheduling=False, disable_log_stats=True,
        logprobs_mode="processed_logits", max_logprobs=_NUM_REPORTED, logits_processors=[StreamSampler],
    )  # fmt: skip
    return LLMEngine.from_engine_args(args)


def _leave_weights_in_place(layer: Any, remove_weight: bool = False) -> None:
    layer.cpu_linear = torch.nn.functional.linear
