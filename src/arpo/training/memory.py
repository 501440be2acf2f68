"""The memory of a training run by phase, from its configuration and the model's config.json, before anything is loaded.

Weights, masters, gradients and moments follow from formulas (`models.memory.ModelSize`). Passes and cache are counted on the
code that runs them: policy, optimizer and cache are made on paper and one pass of each phase runs on tensors that have a shape
and no numbers (`models.allocation`), so that the count is right for every architecture and follows the code.

Not counted: the program itself (about 0.4 GB for torch and transformers), scratch memory inside kernels, what an allocator
keeps after it was freed, and rollout trees, which are small beside a model.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.batching.packing import PackedTokens, PackNode, pack_trees
from arpo.inference.cache_layout import CacheLayout, Segment
from arpo.inference.config import VllmEngineConfig
from arpo.inference.kv_cache import ForkableKVCache
from arpo.inference.sampling import draw
from arpo.inference.transformers_engine import most_pass_tokens
from arpo.models.allocation import AllocationTrace, trace_allocations
from arpo.models.attention import ATTENTION_NAME, forward_hidden, head_logits
from arpo.models.config import ModelConfig, TrainedModelConfig
from arpo.models.device import choose_device
from arpo.models.logprobs import hidden_to_logprobs
from arpo.models.lora import has_adapter, merged_weights
from arpo.models.memory import ModelSize, cache_bytes_per_token, cache_shape, model_size, outline_policy, put_on_paper
from arpo.models.policy import PolicyModel
from arpo.rollout.runner import MAX_LIVE_GROUPS
from arpo.training.config import OptimizerConfig, RlRun, SftRun
from arpo.training.optimizer import build_optimizer

_GPU_LOGITS = (1 << 27) * 4 * 4
"""Bytes of a chunk of logits on a GPU: 2^27 float32 numbers (`models.logprobs`), four matrices of them at once backward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase of a step and what it holds at its peak."""

    name: str
    rows: dict[str, int]
    """Bytes by name; they add up."""

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """What a run takes on its device."""

    device: str
    """As `model.device`."""
    available: int | None
    """Bytes the device has; None: unknown, as it is not in this machine."""
    size: ModelSize
    """The policy's parameters."""
    phases: tuple[Phase, ...]
    """In the order of a step."""
    pass_tokens: int
    """Packed tokens of the update's largest pass."""
    kept_per_token: int
    """Bytes that autograd keeps per packed token for the backward pass."""
    cache_per_token: int
    """Bytes of the in-process engine's cache per slot and token; 0 without that engine."""
    num_slots: int
    """Trajectories sampled at once; 0 without sampling."""
    longest: int
    """Tokens of the longest sequence."""
    num_ranks: int = 1
    """Processes, each with a device of its own; on a CPU `available` is the part of each."""

    @property
    def largest(self) -> Phase:
        """The phase that takes most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def fits(self) -> bool | None:
        """Whether the largest phase is within the device's memory; None: unknown."""
        return None if self.available is None else self.largest.total <= self.available


def estimate_memory(config: RlRun | SftRun, available: int | None = None, num_ranks: int = 1) -> MemoryEstimate:
    """The memory of a run, on each of its ranks.

    Args:
        config: The run; of `model.path` config.json is read and nothing else.
        available: Bytes of the device; None: those of `config.model.device` in this machine.
        num_ranks: Processes that torchrun starts; each has its own device, or a part of a CPU's memory.

    Raises:
        ConfigError, ModelError: as `outline_policy`.

    Example: 7.6 billion parameters, trained in full in bfloat16, hold 137 GB in an update (18 bytes each) besides activations.
    """
    device = choose_device(config.model.device)
    config = config.model_copy(update={"model": config.model.model_copy(update={"device": device})})
    if available is None:
        available = rank_memory(device, num_ranks)
    estimate = _estimate_rl if isinstance(config, RlRun) else _estimate_sft
    return replace(estimate(cast(Any, config), available, num_ranks), num_ranks=num_ranks)


def _estimate_sft(config: SftRun, available: int | None, num_ranks: int) -> MemoryEstimate:
    tokens = min(config.batch_tokens, config.batching.max_tokens)
    longest = min(config.max_tokens, tokens)
    outline = outline_policy(config.model)
    packed = sequences(tokens, longest, config.model.dtype, _num_targets(outline))
    with trace_allocations() as trace:
        paper = _Paper(outline, config.optimizer, trace, num_ranks)
        passes = paper.passes(packed, longest, entropies=False)
        merged = paper.merged()
    held = _held(paper.size)
    phases = (*_update_phases(held, paper.size, passes, config.model), _checkpoint(held, merged, paper.size))
    return MemoryEstimate(
        device=config.model.device, available=available, size=paper.size, phases=phases, pass_tokens=tokens,
        kept_per_token=passes.kept // tokens, cache_per_token=0, num_slots=0, longest=longest,
    )  # fmt: skip


def _estimate_rl(config: RlRun, available: int | None, num_ranks: int) -> MemoryEstimate:
    tokens, longest = config.batching.max_tokens, config.agent.limits.max_trajectory_tokens
    num_slots = min(-(-config.tasks_per_step // num_ranks), MAX_LIVE_GROUPS) * config.rollout.group_size
    if config.validation is not None:
        num_slots = max(num_slots, min(-(-config.validation.num_tasks // num_ranks), MAX_LIVE_GROUPS))
    has_cache = config.engine.shares_model
    outline = outline_policy(config.model)
    packed = sequences(tokens, longest, config.model.dtype, _num_targets(outline))
    with trace_allocations() as trace:
        paper = _Paper(outline, config.optimizer, trace, num_ranks)
        passes = paper.passes(packed, longest, entropies=config.loss.entropy_coefficient > 0)
        merged = paper.merged()
        sampling = paper.sampling(num_slots, longest, config.model.device.partition(":")[0]) if has_cache else _Sampling()
    reference = -(-_reference(config) // num_ranks)
    held = _held(paper.size) | ({"reference": reference} if reference else {})
    if isinstance(config.engine, VllmEngineConfig) and available is not None:
        held["engine (vLLM)"] = round(config.engine.gpu_memory_utilization * available)
    sampling_rows = {"cache": sampling.cache, "pass of the engine": sampling.working} if has_cache else {}
    phases = (
        Phase(name="sampling", rows=held | _gathered(paper.size.gathered) | sampling_rows),
        Phase(
            name="log-probs",
            rows=held | _gathered(paper.size.gathered_in_pass) | {"pass": passes.forward + _gpu_logits(config.model) // 2},
        ),
        *_update_phases(held, paper.size, passes, config.model),
        _checkpoint(held, merged, paper.size),
    )
    return MemoryEstimate(
        device=config.model.device, available=available, size=paper.size, phases=phases, pass_tokens=tokens,
        kept_per_token=passes.kept // tokens, cache_per_token=paper.cache_per_token if has_cache else 0,
        num_slots=num_slots, longest=longest,
    )  # fmt: skip


def _held(size: ModelSize) -> dict[str, int]:
    """What stays from phase to phase, after the first update."""
    rows = {"weights": size.weights, "masters": size.masters, "optimizer moments": size.moments}
    return {name: value for name, value in rows.items() if value}


def _update_phases(held: dict[str, int], size: ModelSize, passes: "_Passes", model: TrainedModelConfig) -> tuple[Phase, Phase]:
    """Forward and backward with the gradients of an earlier pass; then AdamW, whose temporaries are two of the largest tensor.

    On a GPU, AdamW without masters runs on all tensors at once, with one temporary for each.
    """
    gradients = held | {"gradients": size.gradients}
    kept = _gathered(size.gathered_in_pass + size.gathered_gradients) | {
        "activations": passes.kept,
        "rest of the pass": passes.working + _gpu_logits(model),
    }
    is_at_once = model.device != "cpu" and not size.masters
    temporaries = size.gradients if is_at_once else 2 * size.largest
    return (
        Phase(name="update", rows=gradients | kept),
        Phase(name="optimizer", rows=gradients | {"temporaries": temporaries}),
    )


def _checkpoint(held: dict[str, int], merged: int, size: ModelSize) -> Phase:
    return Phase(name="checkpoint", rows=held | _gathered(size.gathered) | ({"merged weights": merged} if merged else {}))


def _gathered(size: int) -> dict[str, int]:
    """Whole weights, and gradients, beside a rank's part; none on one rank."""
    return {"gathered weights": size} if size else {}


def _gpu_logits(model: ModelConfig) -> int:
    return 0 if model.device == "cpu" else _GPU_LOGITS


def _reference(config: RlRun) -> int:
    """Bytes of the reference's weights; 0 where there is none, or where it is the policy with its adapter off."""
    path = config.loss.kl.reference
    if not config.loss.kl.coefficient or (path is None and config.model.lora is not None):
        return 0
    plain = ModelConfig(path=path or config.model.path, dtype=config.model.dtype, device=config.model.device)
    return model_size(outline_policy(plain)).weights


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    """Bytes of the trainer's passes."""

    forward: int
    """At the peak of a pass without gradient."""
    kept: int
    """Kept for the backward pass when the forward one ends."""
    working: int
    """Further bytes at the peak of a pass with gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sampling:
    """Bytes of the in-process engine."""

    cache: int = 0
    working: int = 0


@dataclass(slots=True)
class _Paper:
    """Policy and optimizer of a run on paper."""

    outline: PreTrainedModel
    optimizer_config: OptimizerConfig
    trace: AllocationTrace
    num_ranks: int
    policy: PolicyModel = field(init=False)
    size: ModelSize = field(init=False)

    def __post_init__(self) -> None:
        network = put_on_paper(self.outline)
        self.size = model_size(network, self.num_ranks)
        self.policy = PolicyModel(network, needs_layout=False)
        self._optimizer = build_optimizer(self.policy, self.optimizer_config)

    _optimizer: torch.optim.Optimizer = field(init=False)

    @property
    def cache_per_token(self) -> int:
        return cache_bytes_per_token(self.policy.network)

    def passes(self, packed: PackedTokens, longest: int, *, entropies: bool) -> _Passes:
        """Passes over sequences of `longest`: the first adds gradients, the second counts."""
        with torch.no_grad():
            before = self.trace.restart()
            self._logprobs(packed, longest)
            forward = self.trace.peak - before
        kept = peak = 0
        for _ in range(2):
            before = self.trace.restart()
            logprobs, entropy = self._logprobs(packed, longest)
            loss = logprobs.sum() + entropy.sum() if entropies else logprobs.sum()
            del logprobs, entropy
            kept = self.trace.live - before
            loss.backward()
            del loss
            peak = self.trace.peak - before
        others = (len(packed.token_ids) - len(packed.targets)) * self.policy.network.dtype.itemsize
        of_others = others * self.policy.network.config.get_text_config().hidden_size
        return _Passes(forward=forward + of_others, kept=kept + of_others, working=peak - kept + of_others)

    def _logprobs(self, packed: PackedTokens, longest: int) -> tuple[Tensor, Tensor]:
        network = self.policy.network
        if network.config._attn_implementation == ATTENTION_NAME:
            return self.policy(packed)
        rows = packed.token_ids.unsqueeze(0).split(longest, dim=1)  # its own attention: one sequence after the other
        parts = [network.base_model(input_ids=row, use_cache=False).last_hidden_state[0] for row in rows]
        return hidden_to_logprobs(network, torch.cat(parts)[packed.predictors], packed.targets)

    def merged(self) -> int:
        """Bytes of the merged weights that a checkpoint of an adapter writes; 0 without one."""
        if not has_adapter(self.policy.network):
            return 0
        before = self.trace.restart()
        weights = dict(merged_weights(self.policy.network))
        del weights
        return self.trace.peak - before

    @torch.no_grad()
    def sampling(self, num_slots: int, longest: int, device_type: str) -> _Sampling:
        """The cache when every slot has held `longest` tokens, and the largest pass: a full one of prompts, or all slots."""
        network, before = self.policy.network, self.trace.restart()
        if network.config._attn_implementation != ATTENTION_NAME:
            return _Sampling(cache=num_slots * longest * self.cache_per_token)
        layers, (kv_heads, head_dim) = network.config.num_hidden_layers, cache_shape(network.config)
        cache = ForkableKVCache(
            num_layers=layers,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            dtype=network.dtype,
            device=network.device,
            most_positions=longest,
        )
        slots = [cache.allocate() for _ in range(num_slots)]
        num_filled = min(num_slots, max(1, most_pass_tokens(device_type) // longest))
        for slot in slots[num_filled:]:
            cache.extend(slot, longest)
        segments = [Segment(slot, 0, longest) for slot in slots[:num_filled]]
        layout = CacheLayout(cache, segments, network.device)
        held = layers * cache.position_bytes * cache.num_slots * cache.num_positions
        token_ids = torch.zeros(sum(segment.num_tokens for segment in segments), dtype=torch.long)
        hidden = forward_hidden(network, token_ids, layout.positions, layout)[layout.last]
        hidden = hidden[:1].expand(num_slots, -1)
        draw(head_logits(network, hidden), 1.0, np.zeros(num_slots))
        return _Sampling(cache=held, working=self.trace.peak - before - held)


def _num_targets(outline: PreTrainedModel) -> int:
    """Targets of a counted pass: enough for all the logits that the head keeps at once, 2^27 numbers, and no more.

    The head computes the rest in the same memory, chunk by chunk; only their hidden states and these gradients are added.
    """
    return max(64, (1 << 27) // outline.config.get_text_config().vocab_size)


def sequences(tokens: int, longest: int, dtype: str, num_targets: int) -> PackedTokens:
    """Sequences of `longest` tokens, the last one shorter, that fill a pass; the first `num_targets` are targets.

    The plan of their attention needs numbers, so it is made here, where tensors have some.
    """
    lengths = [longest] * (tokens // longest) + ([tokens % longest] if tokens % longest else [])
    starts = [longest * i for i in range(len(lengths))]
    masks = [[i > 0 and start + i <= num_targets for i in range(n)] for start, n in zip(starts, lengths, strict=True)]
    packed = pack_trees([[PackNode(None, [0] * len(mask), mask)] for mask in masks])
    states = torch.zeros(tokens, 1, 1, dtype=getattr(torch, dtype))
    packed.layout.attend(0, states, states, states, scale=1.0)
    return packed


def device_memory(device: str) -> int | None:
    """Bytes of a device; None: not in this machine. Of a CPU: main memory and swap, or the limit of the control group."""
    if device != "cpu":
        is_here = device.startswith("cuda") and torch.cuda.is_available()
        return torch.cuda.get_device_properties(device).total_memory if is_here else None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = _lines(Path("/proc/meminfo"))
    swap = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("SwapTotal:")), 0)
    limit = next(iter(_lines(Path("/sys/fs/cgroup/memory.max"))), "max")
    return pages + swap if limit == "max" else min(pages + swap, int(limit))


def rank_memory(device: str, num_ranks: int) -> int | None:
    """Bytes of the device of one of some ranks: ranks on a CPU share it; None: not in this machine."""
    available = device_memory(device)
    return available // num_ranks if available is not None and device == "cpu" else available


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []
