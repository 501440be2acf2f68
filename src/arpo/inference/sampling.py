"""Drawing tokens with one random stream per request, so that a draw does not depend on the rest of the batch."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


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
    log_p = torch.log_softmax(logits / temperature if temperature else logits, dim=-1)
    probabilities = log_p.exp()
    if temperature == 0:
        tokens = logits.argmax(dim=-1, keepdim=True)
    else:
        cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
        threshold = torch.as_tensor(uniforms, device=logits.device).unsqueeze(-1) * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, threshold, right=True).clamp_(max=logits.shape[-1] - 1)
    entropies = -(probabilities * log_p).sum(dim=-1) if entropy_top_k is None else top_k_entropy(log_p, entropy_top_k)
    return tokens.squeeze(-1), log_p.gather(-1, tokens).squeeze(-1), entropies


def top_k_entropy(log_p: Float[Tensor, "rows vocab"], k: int) -> Float[Tensor, " rows"]:
    """Entropy summed over the k most likely tokens only, nats, as an engine that reports k log-probs computes it.

    Formula: -sum over the k largest p of p ln p, with probabilities of the full distribution: never more than the entropy. The
    public ARPO code's estimator, with k = 10.

    Example: ln of the probabilities [0.5, 0.25, 0.25] and k = 2 give 0.5 ln 2 + 0.25 ln 4 = 0.693, of an entropy of 1.040.
    """
    largest = log_p.topk(min(k, log_p.shape[-1]), dim=-1).values
    return -(largest.exp() * largest).sum(dim=-1)
