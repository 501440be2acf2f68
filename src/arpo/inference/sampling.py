"""Drawing tokens with one random stream per request, so that a draw does not depend on what else is in the batch."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arpo.models.logprobs import logprobs_and_entropy

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_uniforms(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1), one per (seed, position), by the SplitMix64 finaliser (Steele et al., OOPSLA 2014).

    Counter-based: number `position` of stream `seed` is the same however the positions are visited.
    """
    with np.errstate(over="ignore"):
        z = seeds.astype(np.uint64) + (positions.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(
    logits: Float[Tensor, "rows vocab"], temperature: float, uniforms: np.ndarray
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """One token per row with its log-probability and the entropy of its distribution.

    The token is where the cumulative distribution first exceeds the row's uniform number; at temperature 0 the largest
    logit, with log-probability and entropy measured at temperature 1.

    Example: probabilities [0.2, 0.5, 0.3] and uniform 0.65 give token 1, as 0.2 <= 0.65 < 0.7.
    """
    if temperature == 0:
        tokens = logits.argmax(dim=-1)
    else:
        cumulative = torch.softmax(logits / temperature, dim=-1).cumsum(dim=-1, dtype=torch.float64)
        threshold = torch.as_tensor(uniforms, device=logits.device).unsqueeze(-1) * cumulative[:, -1:]
        tokens = (cumulative <= threshold).sum(dim=-1).clamp_(max=logits.shape[-1] - 1)
    return tokens, *logprobs_and_entropy(logits, tokens, temperature)
