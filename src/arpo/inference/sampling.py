"""Drawing tokens with one random stream per request, so that a draw does not depend on the rest of the batch."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 128
"""Tokens whose probabilities are added first when a token is drawn."""


def stream_uniforms(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1), one per (seed, position), by the SplitMix64 finaliser (Steele et al., OOPSLA 2014).

    Counter-based: number `position` of stream `seed` does not depend on the order of the positions.
    """
    with np.errstate(over="ignore"):
        z = seeds.astype(np.uint64) + (positions.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(
    logits: Float[Tensor, "rows vocab"], temperature: float, uniforms: np.ndarray, entropy_top_k: int | None = None
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """One token per row with its log-probability and the entropy of its distribution.

    The token is where the cumulative distribution first exceeds the row's uniform number; at temperature 0 the largest
    logit, with log-probability and entropy measured at temperature 1. With `entropy_top_k` the entropy is `top_k_entropy`.

    Example: probabilities [0.2, 0.5, 0.3] and uniform 0.65 give token 1, as 0.2 <= 0.65 < 0.7.
    """
    log_p = torch.log_softmax(logits if temperature in (0, 1) else logits / temperature, dim=-1)
    probabilities = log_p.exp()
    if temperature == 0:
        tokens = logits.argmax(dim=-1, keepdim=True)
    else:
        tokens = _where_exceeds(probabilities, torch.as_tensor(uniforms, device=logits.device).unsqueeze(-1))
    logprobs = log_p.gather(-1, tokens).squeeze(-1)
    entropies = -probabilities.mul_(log_p).sum(dim=-1) if entropy_top_k is None else top_k_entropy(log_p, entropy_top_k)
    return tokens.squeeze(-1), logprobs, entropies


def _where_exceeds(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """[rows, 1] where the cumulative distribution first exceeds the uniform number [rows, 1] times its total, in float64.

    Sums of blocks name the block first, so that a large vocabulary's cumulative sums are never written.
    """
    vocab = probabilities.shape[-1]
    width = _BLOCK if vocab % _BLOCK == 0 else vocab
    blocks = probabilities.view(len(probabilities), -1, width)
    totals = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    threshold = uniforms * totals[:, -1:]
    block = torch.searchsorted(totals, threshold, right=True).clamp_(max=totals.shape[-1] - 1)
    below = torch.where(block > 0, totals.gather(-1, (block - 1).clamp_(min=0)), 0.0)
    inside = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, width)).squeeze(1).cumsum(dim=-1, dtype=torch.float64)
    # below the block's own total, which may be rounded otherwise than in `totals`: a token of probability 0 is never drawn
    threshold = torch.minimum(threshold - below, torch.nextafter(inside[:, -1:], torch.zeros_like(below)))
    return block * width + torch.searchsorted(inside, threshold, right=True)


def top_k_entropy(log_p: Float[Tensor, "rows vocab"], k: int) -> Float[Tensor, " rows"]:
    """Entropy summed over the k most likely tokens only, nats, as an engine that reports k log-probs computes it.

    Formula: -sum over the k largest p of p ln p, with probabilities of the full distribution: never more than the entropy. The
    public ARPO code's estimator, with k = 10.

    Example: ln of the probabilities [0.5, 0.25, 0.25] and k = 2 give 0.5 ln 2 + 0.25 ln 4 = 0.693, of an entropy of 1.040.
    """
    largest = log_p.topk(min(k, log_p.shape[-1]), dim=-1).values
    return -(largest.exp() * largest).sum(dim=-1)
