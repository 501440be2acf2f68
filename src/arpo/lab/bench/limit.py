"""The bare limit: forward passes and draws of the model, and nothing else.

All trajectories of a batch run in lockstep, so that decoding is static: one preallocated cache, no masks, no padding, no stop
checks, no log-probs, no results. The model computes each token once, each prompt once per task.
"""

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.inference.cache_layout import grouped_attention
from arpo.lab.bench.workload import Workload
from arpo.models.attention import forward_hidden, head_logits


def static_cache(model: PreTrainedModel, rows: int, positions: int) -> Tensor:
    """A cache for the keys and values of `rows` sequences."""
    config = model.config
    shape = (config.num_hidden_layers, 2, rows, config.num_key_value_heads, positions, config.head_dim)
    return torch.zeros(shape, dtype=model.dtype, device=model.device)


class StaticLayout:
    """Attention of `rows` sequences of equal length over a preallocated cache."""

    def __init__(self, model: PreTrainedModel, cache: Tensor, rows: int):
        self._cache = cache
        self.length = 0
        self.rows = rows

    def repeat_rows(self, times: int) -> None:
        """Fork each of the first `rows` sequences into `times`."""
        used = self._cache[:, :, : self.rows, :, : self.length]
        self.rows *= times
        self._cache[:, :, : self.rows, :, : self.length] = used.repeat_interleave(times, dim=2)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As `AttentionLayout.attend`; the new tokens are [rows * new tokens], row by row."""
        key, value = (states.view(self.rows, -1, *states.shape[1:]).transpose(1, 2) for states in (key, value))
        num_new, end = key.shape[2], self.length + key.shape[2]
        keys, values = self._cache[layer, :, : self.rows]
        keys[:, :, self.length : end], values[:, :, self.length : end] = key, value
        mask = None
        if num_new > 1:
            is_hidden = torch.ones(num_new, end, dtype=torch.bool, device=query.device).triu(self.length + 1)
            mask = query.new_zeros(1, 1, num_new, end).masked_fill_(is_hidden, float("-inf"))
        grouped = query.view(self.rows, num_new, keys.shape[1], -1, query.shape[-1]).permute(0, 2, 3, 1, 4)
        attended = grouped_attention(grouped, keys[:, :, :end], values[:, :, :end], mask, scale)
        return attended.permute(0, 3, 1, 2, 4).reshape(query.shape)


class BareModel:
    """A workload in static batches of `width` trajectories, a multiple of its group size."""

    def __init__(self, model: PreTrainedModel, workload: Workload, width: int):
        self._model = model
        self._workload = workload
        self._tasks_at_once = width // workload.group_size
        self._cache = static_cache(model, width, workload.trajectory_tokens)
        self._observation = torch.tensor(workload.observation, device=model.device)
        self._prompts = torch.tensor(workload.prompts, device=model.device)

    @torch.inference_mode()
    def run(self) -> None:
        """Sample every trajectory."""
        for prompts in self._prompts.split(self._tasks_at_once):
            self._sample(prompts)

    def _sample(self, prompts: Tensor) -> None:
        work = self._workload
        rows = len(prompts) * work.group_size
        layout = StaticLayout(self._model, self._cache, len(prompts))
        hidden = self._forward(layout, prompts).repeat_interleave(work.group_size, dim=0)
        layout.repeat_rows(work.group_size)
        for turn in range(work.num_turns):
            tokens = _draw(head_logits(self._model, hidden))
            for _ in range(work.turn_tokens - 1):
                tokens = _draw(head_logits(self._model, self._forward(layout, tokens)))
            if turn < work.num_calls:
                hidden = self._forward(layout, torch.cat([tokens, self._observation.expand(rows, -1)], dim=1))

    def _forward(self, layout: StaticLayout, token_ids: Tensor) -> Tensor:
        """Hidden states of the last of `token_ids` [rows, new tokens]."""
        num_new = token_ids.shape[1]
        positions = torch.arange(layout.length, layout.length + num_new, device=token_ids.device).repeat(layout.rows)
        hidden = forward_hidden(self._model, token_ids.reshape(-1), positions, layout)
        layout.length += num_new
        return hidden.view(layout.rows, num_new, -1)[:, -1]


def _draw(logits: Tensor) -> Tensor:
    """One token per row, [rows, 1]: where the cumulative distribution exceeds a uniform number (cheaper than `multinomial`)."""
    cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    threshold = torch.rand(len(logits), 1, device=logits.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).clamp_(max=logits.shape[-1] - 1)


def candidate_widths(workload: Workload) -> Iterator[int]:
    """Possible batch widths of the limit: the slots, and halves of them down to one task's group."""
    width = min(workload.width, workload.num_trajectories)
    while width >= workload.group_size and width % workload.group_size == 0:
        yield width
        width //= 2


def limit_seconds(model: PreTrainedModel, workload: Workload, widths: Iterable[int]) -> tuple[float, int]:
    """Seconds of the fastest of some widths, and that width."""
    return min((timed(BareModel(model, workload, width)), width) for width in widths)


def timed(bare: BareModel) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    bare.run()
    return time.perf_counter() - start
