"""The latencies of the synthetic tools."""

from dataclasses import dataclass
from math import inf, log
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True, slots=True)
class ToolLatency:
    """A lognormal distribution of seconds, fixed by its median and its 99th percentile; all 0 when the median is 0.

    Example: median 0.05 and p99 2.0 give sigma = ln(2.0 / 0.05) / 2.326 = 1.586 and mean 0.05 * exp(sigma^2 / 2) = 0.176.
    """

    name: str
    median: float = 0.0
    p99: float = 0.0
    limit: float = inf
    """Longest call in seconds, as the time limit of tools."""

    def sample(self, shape: tuple[int, ...], seed: int) -> np.ndarray:
        """Latencies in seconds; the same for the same shape and seed."""
        if self.median == 0:
            return np.zeros(shape)
        sigma = log(self.p99 / self.median) / NormalDist().inv_cdf(0.99)
        drawn = self.median * np.exp(sigma * np.random.default_rng(seed).standard_normal(shape))
        return np.minimum(drawn, self.limit)


NO_LATENCY = ToolLatency("0")
LONG_TAILED = ToolLatency("long_tailed", median=0.05, p99=2.0, limit=3.0)
LATENCIES = {latency.name: latency for latency in (NO_LATENCY, LONG_TAILED)}
"""By the name in the results."""
