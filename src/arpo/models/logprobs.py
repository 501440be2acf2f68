"""Token log-probabilities and full-vocabulary entropies from hidden states, a few tokens at a time."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from arpo.models.attention import finished_logits

_CHUNK_LOGITS = {"cpu": 1 << 20, "cuda": 1 << 27}
"""Logits of one matrix product: as many as fit a CPU's cache, or keep a GPU busy."""
_LEAST_TOKENS = 512
"""Least tokens per chunk for any vocabulary: each chunk writes the gradient of the whole head."""
_BLOCK_LOGITS = {"cpu": 1 << 19, "cuda": 1 << 27}
"""Logits whose distributions are computed at once, in a few passes over them: as many as fit the cache of one core."""
_KEPT_BYTES = {"cpu": 1 << 28}
"""Logits kept for the backward pass instead of being computed again there; on a GPU none, as its memory is dear."""


def logprobs_and_entropy(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"], temperature: float = 1.0
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Log-probability of each target and entropy of each distribution, at a sampling temperature.

    Formula: with p = softmax(logits / temperature), ln p[target] and H = -sum_v p_v ln p_v, nats, over the full vocabulary.
    Libraries differ: the public ARPO code sums the top 10 log-probs over 20 tokens and divides by ln(vocab); this is exact, per
    token and undivided. Temperature 0 (greedy) is measured at 1.

    Example: logits [[0, 0]] and target [1] give (ln 0.5, ln 2) = (-0.6931, 0.6931).
    """
    scaled = logits if temperature in (0, 1) else logits / temperature
    below_largest = scaled - scaled.amax(dim=-1, keepdim=True)
    odds = below_largest.exp()
    total = odds.sum(dim=-1)
    log_total = total.log()
    # with p = odds / total: -sum p (below - ln total) = ln total - sum p below, two terms of one sign
    entropy = log_total - (odds * below_largest).sum(dim=-1) / total
    return below_largest.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - log_total, entropy


def hidden_to_hits(
    model: PreTrainedModel,
    hidden: Float[Tensor, "tokens hidden"],
    targets: Int[Tensor, " tokens"],
    chunk_tokens: int | None = None,
) -> tuple[Float[Tensor, " tokens"], Bool[Tensor, " tokens"]]:
    """Log-probability of each target, as `hidden_to_logprobs`, and whether it is the likeliest token, the first of equal ones.

    The mean of the latter is the token accuracy, by `argmax` over the vocabulary as TRL's `mean_token_accuracy` takes it.
    """
    hits = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
    logprobs, _ = hidden_to_logprobs(model, hidden, targets, chunk_tokens=chunk_tokens, hits=hits)
    return logprobs, hits


def hidden_to_logprobs(
    model: PreTrainedModel,
    hidden: Float[Tensor, "tokens hidden"],
    targets: Int[Tensor, " tokens"],
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
    hits: Bool[Tensor, " tokens"] | None = None,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """`logprobs_and_entropy` of the model's head on hidden states, in chunks of tokens.

    No matrix of tokens x vocabulary exceeds a chunk, neither here nor in the backward pass, which computes each chunk's logits
    again. On a CPU the logits of the first chunks, up to 256 MiB, are kept instead.

    Args:
        model: The model; its output embeddings are the head, whatever module they are.
        hidden: Last hidden states.
        targets: The token that each hidden state predicts.
        temperature: The sampling temperature.
        chunk_tokens: Tokens per chunk; None: by device and vocabulary.
        hits: Is written where it is given: whether the target is the likeliest token.
    """
    head = cast(torch.nn.Module, model.get_output_embeddings())
    if not len(hidden):
        return hidden.new_zeros(0, dtype=torch.float32), hidden.new_zeros(0, dtype=torch.float32)
    if chunk_tokens is None:
        vocab_size = model.config.get_text_config().vocab_size
        chunk_tokens = max(_LEAST_TOKENS, _CHUNK_LOGITS.get(hidden.device.type, 1 << 20) // vocab_size)
    measure = _Head(model, chunk_tokens, temperature or 1.0, hits)
    is_trained = torch.is_grad_enabled()  # not seen inside the function
    return cast(Any, _ChunkedHead).apply(measure, is_trained, targets, hidden, *head.parameters())


class _Head:
    """The head of a model, and how its distributions are computed."""

    def __init__(self, model: PreTrainedModel, chunk_tokens: int, temperature: float, hits: Tensor | None):
        self._model = model
        self._module = cast(torch.nn.Module, model.get_output_embeddings())
        self.chunk_tokens = chunk_tokens
        self._temperature = temperature
        self._hits = hits

    def compute(self, hidden: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
        """A leaf with the values of `hidden` and its logits, in the model's number format; with their graph if asked."""
        with torch.set_grad_enabled(with_gradient):
            part = hidden.detach().requires_grad_(with_gradient)
            return part, self._module(part)

    def distributions(self, logits: Tensor, targets: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Log-probs of the targets of some rows and entropies; notes which are the likeliest token, where that is asked."""
        parts: list[tuple[Tensor, Tensor]] = []
        hits = None if self._hits is None else self._hits[rows]
        for block, of_block, is_hit in zip(*_blocks(logits, targets, hits), strict=True):
            finished = finished_logits(self._model, block)
            if is_hit is not None:
                is_hit.copy_(finished.argmax(dim=-1) == of_block)
            parts.append(logprobs_and_entropy(finished, of_block, self._temperature))
        logprobs, entropies = zip(*parts, strict=True)
        return torch.cat(logprobs), torch.cat(entropies)

    def turn_into_gradient(self, logits: Tensor, *others: Tensor | None) -> Tensor:
        """The gradient of `_logits_gradient` in place of the logits, whose memory it takes."""
        for block, *of_block in zip(*_blocks(logits, *others), strict=True):
            block.copy_(_logits_gradient(finished_logits(self._model, block), self._temperature, *of_block))
        return logits


def _blocks(logits: Tensor, *others: Tensor | None) -> list[Sequence[Any]]:
    """Logits, and other tensors with a row per token, in blocks of tokens."""
    size = max(1, _BLOCK_LOGITS.get(logits.device.type, 1 << 19) // logits.shape[-1])
    blocks = logits.split(size)
    return [blocks, *([None] * len(blocks) if other is None else other.split(size) for other in others)]


class _ChunkedHead(torch.autograd.Function):
    """The head's parameters are inputs so that their gradients reach autograd; `head` reads them from the model."""

    @staticmethod
    def forward(
        ctx: Any, head: _Head, is_trained: bool, targets: Tensor, hidden: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        room = _KEPT_BYTES.get(hidden.device.type, 0) if is_trained else 0
        results: list[tuple[Tensor, Tensor]] = []
        for first in range(0, len(hidden), head.chunk_tokens):
            rows = slice(first, first + head.chunk_tokens)
            part, logits = head.compute(hidden[rows], with_gradient=room > 0)
            results.append(head.distributions(logits.detach(), targets[rows], rows))
            room -= logits.nbytes
            if room >= 0 and is_trained:
                kept[first] = part, logits
        logprobs, entropies = (torch.cat(result) for result in zip(*results, strict=True))
        ctx.save_for_backward(targets, entropies, hidden, *parameters)
        ctx.head, ctx.kept = head, kept
        ctx.set_materialize_grads(False)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        targets, entropies, hidden, *parameters = ctx.saved_tensors
        head, needs_grad = ctx.head, ctx.needs_input_grad[4:]
        trained = [p for p, needs in zip(parameters, needs_grad, strict=True) if needs]
        totals: list[Tensor] = []
        of_hidden: list[Tensor] = []
        for first in range(0, len(hidden), head.chunk_tokens):
            rows = slice(first, first + head.chunk_tokens)
            part, logits = ctx.kept.pop(first, None) or head.compute(hidden[rows], with_gradient=True)
            of_outputs = [None if g is None else g[rows] for g in gradients]
            of_logits = head.turn_into_gradient(logits.detach(), targets[rows], entropies[rows], *of_outputs)
            of_part, *of_trained = torch.autograd.grad(logits, [part, *trained], of_logits)
            of_hidden.append(of_part)
            totals = _add_up(totals, of_trained)
        gradients_of_trained = iter(totals)
        of_parameters = (next(gradients_of_trained) if needs else None for needs in needs_grad)
        return None, None, None, torch.cat(of_hidden), *of_parameters


def _add_up(totals: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """The sums; of several chunks in float32 at least."""
    if not totals:
        return list(gradients)
    pairs = zip(totals, gradients, strict=True)
    return [total.to(torch.promote_types(total.dtype, torch.float32)).add_(gradient) for total, gradient in pairs]


def _logits_gradient(
    logits: Tensor,
    temperature: float,
    targets: Tensor,
    entropies: Tensor,
    of_logprobs: Tensor | None,
    of_entropies: Tensor | None,
) -> Tensor:
    """Gradient of sum g ln p[target] + h H by the logits, g and h given per token.

    Formula: (g (1[v = target] - p_v) - h p_v (ln p_v + H)) / temperature.
    """
    scaled = logits if temperature == 1 else logits / temperature
    at_target = torch.zeros_like(entropies) if of_logprobs is None else of_logprobs / temperature
    if of_entropies is None:
        result = torch.softmax(scaled, dim=-1).mul_(-at_target.unsqueeze(-1))
    else:
        log_p = torch.log_softmax(scaled, dim=-1)
        factors = (of_entropies / temperature).unsqueeze(-1) * (log_p + entropies.unsqueeze(-1)) + at_target.unsqueeze(-1)
        result = log_p.exp_().mul_(factors).neg_()
    return result.scatter_add_(-1, targets.unsqueeze(-1), at_target.unsqueeze(-1))
