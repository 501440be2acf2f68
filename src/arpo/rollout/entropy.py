"""Entropy after a tool result, in the form the branch rules use."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from arpo.errors import ConfigError
from arpo.rollout.config import RolloutConfig
from arpo.tree import Node
from arpo.types import Completion

Normalizer = Literal["log_vocab", "none", "paper"]


def require_estimator(config: RolloutConfig, available: Sequence[str]) -> None:
    """Refuse an entropy estimator the engine lacks. Any estimator implies `surprisal`; the rule `none` needs no entropies.

    Args:
        config: Names the estimator.
        available: The engine's `entropy_estimators`.

    Raises:
        ConfigError: lists the available estimators.
    """
    if config.rule.type == "none":
        return
    if not available:
        raise ConfigError(
            f"rollout.rule.type = {config.rule.type!r}: this engine reports neither entropies nor log-probs of the tokens it "
            f"samples, so no rule can branch; set it to 'none', or use another engine"
        )
    choices = (*available, "surprisal")
    if config.entropy_estimator not in choices:
        raise ConfigError(
            f"rollout.entropy_estimator = {config.entropy_estimator!r}: this engine does not compute it; set it to "
            f"{' or '.join(map(repr, choices))} (each is another quantity: alpha, beta and thresholds do not carry over)"
        )


def token_entropies(drawn: Completion | Node, surprisal: bool) -> list[float]:
    """The uncertainty of each sampled token, nats: the entropy the engine reports, or the surprisal -ln p of the token drawn.

    The mean surprisal over draws is the entropy, but a single one is noisy.
    """
    return [-x for x in drawn.logprobs or []] if surprisal else list(drawn.entropies or [])


def normalizer_value(normalizer: Normalizer, vocab_size: int) -> float:
    """Divisor of a change of entropy: ln V, 1 or V.

    Example: V = 512 gives 6.238 for `log_vocab`, 1 for `none`, 512 for `paper`.
    """
    return {"log_vocab": math.log(vocab_size), "none": 1.0, "paper": float(vocab_size)}[normalizer]


def windowed_entropy(entropies: Sequence[float], window: int) -> float:
    """Mean entropy of the first `window` tokens, nats; of all tokens when there are fewer.

    Source: ARPO, arXiv:2507.19849, section 3 (k tokens after the tool result). Differs from the released code, which sums the
    top 10 log-probs of up to 20 tokens: a mean does not grow with the window, and the full vocabulary is counted.

    Raises:
        ValueError: no tokens.

    Example: entropies [0.9, 0.3, 0.6, 5.0] and window 3 give 0.6.
    """
    first = entropies[:window]
    if not first:
        raise ValueError("windowed_entropy: no tokens were sampled after the tool result")
    return fmean(first)


def entropy_delta(
    entropies: Sequence[float], initial_entropies: Sequence[float], *, window: int, normalizer: Normalizer, vocab_size: int
) -> float:
    """Change of the windowed entropy from the baseline, divided by the normaliser; positive: the policy is less sure.

    Formula: (H_after - H_initial) / ln V (`log_vocab`), H_after - H_initial (`none`), or
    sum_k (h_after,k - h_initial,k) / V (`paper`: arXiv:2507.19849, section 3, in its words; over the tokens both windows have).
    The baseline is the same window at the start of the path's initial trajectory. A value of beta belongs to its normaliser.

    Example: after [0.9, 0.7], initial [0.2, 0.4], V = 512: `none` 0.8 - 0.3 = 0.5, `log_vocab` 0.5 / 6.238 = 0.0802,
    `paper` (0.7 + 0.3) / 512 = 0.00195.
    """
    if normalizer == "paper":
        pairs = zip(entropies[:window], initial_entropies[:window], strict=False)
        return math.fsum(after - initial for after, initial in pairs) / vocab_size
    change = windowed_entropy(entropies, window) - windowed_entropy(initial_entropies, window)
    return change / normalizer_value(normalizer, vocab_size)
