"""Token log-probabilities and full-vocabulary entropies from hidden states, in chunks of the packed sequence."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from arpo.models.attention import head_logits


def logprobs_and_entropy(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"], temperature: float = 1.0
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Log-probability of each target and entropy of each distribution, at a sampling temperature.

    Formula: with p = softmax(logits / temperature), ln p[target] and H = -sum_v p_v ln p_v, nats, over the full vocabulary.
    Libraries differ: the public ARPO code sums the top 10 log-probs over 20 tokens and divides by ln(vocab); this is exact,
    per token, undivided. Temperature 0 (greedy) is measured at 1.

    Example: logits [[0, 0]] and target [1] give (ln 0.5, ln 2) = (-0.6931, 0.6931).
    """
    log_p = torch.log_softmax(logits / (temperature or 1.0), dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    return log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropy


def hidden_to_logprobs(
    model: PreTrainedModel,
    hidden: Float[Tensor, "tokens hidden"],
    targets: Int[Tensor, " tokens"],
    temperature: float = 1.0,
    chunk_tokens: int = 4096,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """`logprobs_and_entropy` of the model's head on hidden states, never holding more than `chunk_tokens` rows of logits.

    With several chunks the backward pass computes each chunk's logits again instead of keeping them.
    """

    def head(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        return logprobs_and_entropy(head_logits(model, part), wanted, temperature)

    if len(hidden) <= chunk_tokens:
        return head(hidden, targets)
    parts = [
        checkpoint(head, h, t, use_reentrant=False)
        for h, t in zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
    ]
    logprobs, entropies = zip(*parts, strict=True)  # pyright: ignore[reportArgumentType]
    return torch.cat(logprobs), torch.cat(entropies)
