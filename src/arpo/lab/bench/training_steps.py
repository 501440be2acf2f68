"""The contenders that run in this process: forward and backward over the same trajectories."""

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.batching.config import BatchingConfig, Packing
from arpo.batching.policy_batch import TreeCredit
from arpo.batching.rows import LeafRow
from arpo.lab.bench.training_data import TreeCounts
from arpo.models.policy import PolicyModel
from arpo.training.config import RlRun
from arpo.training.update import UpdateTotals, accumulate_gradients, make_minibatches
from arpo.tree import RolloutTree

CLIP = 0.2
"""Distance from 1 at which ratios are clipped."""
RUN = RlRun.model_validate(
    {
        "algorithm": "grpo", "out": "unused", "model": {"path": "unused"}, "tasks": "unused", "agent": {},
        "loss": {"type": "ppo_clip", "clip_low": CLIP, "clip_high": CLIP, "aggregation": "token_mean"},
    }
)  # fmt: skip
"""The configuration of every contender that has a loss."""


class Contender(Protocol):
    """An implementation of the training step."""

    budgets: Sequence[int]
    """Possible tokens per forward pass, padding included."""
    loss: float | None
    """Of the last step; None where there is no loss."""
    is_warm: bool
    """Whether it has taken a step."""

    def measure(self, budget: int) -> float:
        """Seconds of batch construction, forward and backward over all trajectories, without the optimizer.

        Infinite where the device's memory is too small for that many tokens.
        """
        ...


class LossContender(Contender, Protocol):
    """A contender with a loss."""

    def gradient_difference(self, reference: PreTrainedModel) -> float:
        """Norm of the difference of the last step's gradient from that of `reference`, over the latter's norm."""
        ...


def budgets(total: int, longest: int) -> list[int]:
    """Powers of two from 1,024 to 65,536 that hold the longest trajectory, up to the first that holds everything.

    Example: 11,616 tokens in trajectories of at most 235 give 1024, 2048, 4096, 8192, 16384.
    """
    sizes = [2**power for power in range(10, 17) if 2**power >= longest]
    return [size for size in sizes if size // 2 < total] or sizes[:1] or [longest]


class InProcess:
    """A contender whose step is a function in this process; gradients stay on the model."""

    def __init__(self, model: PreTrainedModel, budgets: Sequence[int], step: Callable[[int], float | None]):
        self.model = model
        self.budgets = budgets
        self.loss: float | None = None
        self.is_warm = False
        self._step = step

    def measure(self, budget: int) -> float:
        """As `Contender.measure`."""
        self.model.zero_grad(set_to_none=True)
        self.is_warm = True
        start = self._now()
        try:
            self.loss = self._step(budget)
        except torch.OutOfMemoryError:
            return inf
        return self._now() - start

    @torch.no_grad()
    def gradient_difference(self, reference: PreTrainedModel) -> float:
        """As `LossContender.gradient_difference`."""
        difference = norm = 0.0
        for one, other in zip(self.model.parameters(), reference.parameters(), strict=True):
            if other.grad is not None and one.grad is not None:
                difference += float((one.grad.double() - other.grad.double()).square().sum())
                norm += float(other.grad.double().square().sum())
        return (difference / norm) ** 0.5

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()


def packed(
    policy: PolicyModel,
    trees: Sequence[RolloutTree],
    credits: Sequence[TreeCredit],
    packing: Packing,
    counts: TreeCounts,
) -> InProcess:
    """Ours: batches and gradients as in `arpo train`."""

    def step(budget: int) -> float:
        config = RUN.model_copy(update={"batching": BatchingConfig(packing=packing, max_tokens=budget)})
        totals = UpdateTotals()
        for minibatch in make_minibatches(trees, credits, config, policy.device):
            minibatch.old = [batch.rollout_logprobs.float() for batch in minibatch.batches]
            accumulate_gradients(policy, minibatch, config, totals)
        return totals.loss

    tokens = counts.unique_tokens if packing == "tree" else counts.total_tokens
    return InProcess(policy.network, budgets(tokens, counts.longest_leaf), step)


def padded(model: PreTrainedModel, rows: Sequence[LeafRow], denominator: float) -> InProcess:
    """The batches of most trainers: rows padded on the right, the stock model, logits of every position."""
    longest = max(len(row.token_ids) for row in rows)

    def step(budget: int) -> float:
        total = 0.0
        num_rows = max(1, budget // longest)
        for first in range(0, len(rows), num_rows):
            loss = _padded_loss(model, rows[first : first + num_rows]) / denominator
            loss.backward()
            total += float(loss.detach())
        return total

    return InProcess(model, budgets(len(rows) * longest, longest), step)


def _padded_loss(model: PreTrainedModel, rows: Sequence[LeafRow]) -> Tensor:
    device = model.device
    lengths = torch.tensor([len(row.token_ids) for row in rows])
    ids = _pad([row.token_ids for row in rows], torch.long).to(device)
    mask = _pad([[False] * (len(row.prompt_ids) - 1) + row.completion_mask for row in rows], torch.bool).to(device)
    old = _pad([[0.0] * (len(row.prompt_ids) - 1) + row.logprobs for row in rows], torch.float32).to(device)
    advantages = _pad([[0.0] * (len(row.prompt_ids) - 1) + row.advantages for row in rows], torch.float32).to(device)
    attention_mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long().to(device)
    logits = model(input_ids=ids, attention_mask=attention_mask, use_cache=False).logits[:, :-1].float()
    logprobs = torch.log_softmax(logits, dim=-1).gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    ratio = torch.exp(logprobs - old)
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    return -(torch.min(ratio * advantages, clipped * advantages) * mask).sum()


def _pad(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True)


def limit(model: PreTrainedModel, counts: TreeCounts) -> InProcess:
    """The lower bound of training on the trees: the stock model's forward and backward, and nothing else.

    It computes as many tokens as there are unique ones, as plain causal rows of the mean leaf length: no padding, no mask, no
    shared keys. The head computes as many positions as there are unique sampled tokens. A fixed gradient enters at the logits:
    no loss, no softmax, no log-prob.
    """
    num_rows = max(1, round(counts.unique_tokens / counts.leaf_length))
    length = round(counts.unique_tokens / num_rows)
    generator = torch.Generator().manual_seed(0)
    vocab_size = cast(int, model.config.vocab_size)
    ids = torch.randint(vocab_size, (num_rows, length), generator=generator).to(model.device)
    per_row = -(-counts.sampled_tokens // num_rows)
    head = cast(torch.nn.Module, model.get_output_embeddings())
    gradient = torch.empty(0)

    def step(budget: int) -> None:
        nonlocal gradient
        for part in ids.split(max(1, budget // length)):
            hidden = model.base_model(input_ids=part, use_cache=False).last_hidden_state
            logits = head(hidden.flatten(0, 1)[: per_row * len(part)])
            if len(gradient) < len(logits):
                gradient = torch.full_like(logits, 1e-3)
            logits.backward(gradient[: len(logits)])

    return InProcess(model, budgets(num_rows * length, length), step)


@torch.no_grad()
def gradient_norm(model: PreTrainedModel) -> float:
    """Norm of all gradients."""
    return sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
