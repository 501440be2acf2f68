"""Token log-probabilities and full-vocabulary entropies from hidden states, a few tokens at a time."""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from arpo.models.attention import head_logits

_CHUNK_LOGITS = {"cpu": 1 << 20, "cuda": 1 << 27}
"""Logits per chunk: as many as fit a CPU's cache, or keep a GPU busy."""
_LEAST_TOKENS = 64
"""Least tokens per chunk for any vocabulary: with fewer, matrix products are slow."""


def logprobs_and_entropy(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"], temperature: float = 1.0
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Log-probability of each target and entropy of each distribution, at a sampling temperature.

    Formula: with p = softmax(logits / temperature), ln p[target] and H = -sum_v p_v ln p_v, nats, over the full vocabulary.
    Libraries differ: the public ARPO code sums the top 10 log-probs over 20 tokens and divides by ln(vocab); this is exact, per
    token and undivided. Temperature 0 (greedy) is measured at 1.

    Example: logits [[0, 0]] and target [1] give (ln 0.5, ln 2) = (-0.6931, 0.6931).
    """
    log_p = torch.log_softmax(logits if temperature in (0, 1) else logits / temperature, dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    return log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropy


def hidden_to_logprobs(
    model: PreTrainedModel,
    hidden: Float[Tensor, "tokens hidden"],
    targets: Int[Tensor, " tokens"],
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """`logprobs_and_entropy` of the model's head on hidden states, in chunks of tokens.

    No matrix of tokens x vocabulary exceeds a chunk, neither here nor in the backward pass, which computes each chunk's logits
    again.

    Args:
        model: The model; its output embeddings are the head, whatever module they are.
        hidden: Last hidden states.
        targets: The token that each hidden state predicts.
        temperature: The sampling temperature.
        chunk_tokens: Tokens per chunk; None: by device and vocabulary.
    """
    head = cast(torch.nn.Module, model.get_output_embeddings())
    if chunk_tokens is None:
        chunk_tokens = max(_LEAST_TOKENS, _CHUNK_LOGITS.get(hidden.device.type, 1 << 20) // model.config.vocab_size)
    if not len(hidden):
        return hidden.new_zeros(0, dtype=torch.float32), hidden.new_zeros(0, dtype=torch.float32)
    return cast(Any, _ChunkedHead).apply(
        lambda part: head_logits(model, part), chunk_tokens, temperature or 1.0, targets, hidden, *head.parameters()
    )


class _ChunkedHead(torch.autograd.Function):
    """The head's parameters are inputs so that their gradients reach autograd; `logits_of` reads them from the model."""

    @staticmethod
    def forward(
        ctx: Any,
        logits_of: Callable[[Tensor], Tensor],
        chunk_tokens: int,
        temperature: float,
        targets: Tensor,
        hidden: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        chunks = zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
        parts = [logprobs_and_entropy(logits_of(h), t, temperature) for h, t in chunks]
        logprobs, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(targets, entropies, hidden, *parameters)
        ctx.logits_of, ctx.chunk_tokens, ctx.temperature = logits_of, chunk_tokens, temperature
        ctx.set_materialize_grads(False)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        targets, entropies, hidden, *parameters = ctx.saved_tensors
        needs_grad = ctx.needs_input_grad[5:]
        trained = [p for p, needs in zip(parameters, needs_grad, strict=True) if needs]
        totals: list[Tensor] = []
        of_hidden: list[Tensor] = []
        for chunk in torch.arange(len(hidden)).split(ctx.chunk_tokens):
            rows = slice(int(chunk[0]), int(chunk[-1]) + 1)
            part = hidden[rows].detach().requires_grad_()
            with torch.enable_grad():
                logits = ctx.logits_of(part)
            of_logprobs, of_entropies = (None if g is None else g[rows] for g in gradients)
            of_logits = _logits_gradient(
                logits.detach(), targets[rows], entropies[rows], of_logprobs, of_entropies, ctx.temperature
            )
            of_part, *of_trained = torch.autograd.grad(logits, [part, *trained], of_logits)
            of_hidden.append(of_part)
            if totals:
                totals = [total.add_(g) for total, g in zip(totals, of_trained, strict=True)]
            else:  # a sum of many chunks needs float32
                totals = [g.to(torch.promote_types(g.dtype, torch.float32)) for g in of_trained]
        gradients_of_trained = iter(totals)
        of_parameters = (next(gradients_of_trained) if needs else None for needs in needs_grad)
        return None, None, None, None, torch.cat(of_hidden), *of_parameters


def _logits_gradient(
    logits: Tensor,
    targets: Tensor,
    entropies: Tensor,
    of_logprobs: Tensor | None,
    of_entropies: Tensor | None,
    temperature: float,
) -> Tensor:
    """Gradient of sum g ln p[target] + h H by the logits, g and h given per token.

    Formula: (g (1[v = target] - p_v) - h p_v (ln p_v + H)) / temperature.
    """
    log_p = torch.log_softmax(logits / temperature, dim=-1)
    at_target = torch.zeros_like(entropies) if of_logprobs is None else of_logprobs
    factors = -at_target.unsqueeze(-1)
    if of_entropies is not None:
        factors = factors - of_entropies.unsqueeze(-1) * (log_p + entropies.unsqueeze(-1))
    result = log_p.exp_().mul_(factors)
    return result.scatter_add_(-1, targets.unsqueeze(-1), at_target.unsqueeze(-1)).div_(temperature)
