"""Bias, direction and variance of estimators: exact from all trees, or with intervals from sampled ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arpo.lab.bias.decision_tree import DecisionTree
from arpo.lab.bias.estimators import Array, Estimator, Gradients
from arpo.lab.bias.rollouts import Growth, all_trees, sample_trees
from arpo.tree import RolloutTree

NUM_BLOCKS = 50
"""Blocks of the jackknife."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Measurement:
    """The error of one estimator on the groups of one growth; g is the true gradient, g_hat the estimate from one group."""

    growth: str
    estimator: str
    scale: float
    """c = <E[g_hat], g> / |g|^2, for which c g is nearest to E[g_hat]. Harmless in one task; where tasks differ in c, it
    weights them."""
    bias: float
    """|E[g_hat] - c g| / (c |g|), the tangent of the angle to g; more groups do not reduce it."""
    interval: tuple[float, float] | None
    """95 % interval of `bias`, or a wider one where the estimate of its square is negative; None: `bias` is exact."""
    cosine: float
    """Cosine of E[g_hat] and g."""
    variance: float
    """tr Cov[g_hat] / (c |g|)^2 of one group."""
    num_tokens: float
    """Expected sampled tokens of a group, a shared one once."""

    @property
    def cost(self) -> float:
        """Sampled tokens for a given accuracy where bias does not matter, relative: variance * tokens."""
        return self.variance * self.num_tokens


def measure_exactly(tree: DecisionTree, growth: Growth, estimators: Sequence[Estimator]) -> list[Measurement]:
    """Measurements from the sum over every possible group."""
    trees, probabilities = all_trees(tree, growth)
    sums = _Sums(tree, growth, estimators)
    sums.add(trees, np.array(probabilities), 0)
    return sums.measure(with_intervals=False)


def measure_by_sampling(
    tree: DecisionTree, growth: Growth, estimators: Sequence[Estimator], *, num_groups: int, seed: int
) -> list[Measurement]:
    """Measurements from sampled groups, in blocks of equal size; the estimate of the squared bias is unbiased."""
    sums = _Sums(tree, growth, estimators)
    size = num_groups // NUM_BLOCKS
    for block in range(NUM_BLOCKS):
        trees = list(sample_trees(tree, growth, size, seed * NUM_BLOCKS + block))
        sums.add(trees, np.full(size, 1 / (size * NUM_BLOCKS)), block)
    return sums.measure(with_intervals=True)


class _Sums:
    """Weighted first and second moments, by block."""

    def __init__(self, tree: DecisionTree, growth: Growth, estimators: Sequence[Estimator]):
        self._truth = tree.gradient
        self._growth = growth
        self._estimators = estimators
        self._gradients = Gradients(tree, estimators)
        self._means = np.zeros((NUM_BLOCKS, len(estimators), tree.num_parameters))
        self._squares = np.zeros((NUM_BLOCKS, len(estimators)))
        self._weights = np.zeros(NUM_BLOCKS)
        self._tokens = 0.0

    def add(self, trees: Sequence[RolloutTree], weights: Array, block: int) -> None:
        """Add trees."""
        for indices, gradients in self._gradients.compute(trees):
            self._means[block] += np.einsum("r,rep->ep", weights[indices], gradients)
            self._squares[block] += weights[indices] @ np.square(gradients).sum(axis=2)
        self._weights[block] += weights.sum()
        lengths = [sum(len(n.token_ids) for n in t.nodes if n.is_sampled) for t in trees]
        self._tokens += float(weights @ np.array(lengths))

    def measure(self, *, with_intervals: bool) -> list[Measurement]:
        """One row per estimator."""
        return [self._row(index, e.name, with_intervals) for index, e in enumerate(self._estimators)]

    def _row(self, index: int, name: str, with_intervals: bool) -> Measurement:
        truth, means = self._truth, self._means[:, index]
        norm = float(np.linalg.norm(truth))
        mean = means.sum(axis=0)
        scale = float(mean @ truth) / norm**2
        variance = float(self._squares[:, index].sum() - mean @ mean)
        bias, interval = float(np.linalg.norm(mean - scale * truth)) / (scale * norm), None
        if with_intervals:
            estimate, error = _squared_bias(means / self._weights[:, None], truth)
            bias, low = max(estimate, 0.0) ** 0.5, max(estimate - 1.96 * error, 0.0) ** 0.5
            interval = (low, (max(estimate, 0.0) + 1.96 * error) ** 0.5)
        return Measurement(
            growth=self._growth.name,
            estimator=name,
            scale=scale,
            bias=bias,
            interval=interval,
            cosine=float(mean @ truth) / (norm * float(np.linalg.norm(mean))),
            variance=variance / (scale * norm) ** 2,
            num_tokens=self._tokens,
        )


def _squared_bias(blocks: Array, truth: Array) -> tuple[float, float]:
    """(|E[g_hat] - c g| / (c |g|))^2 from the means of independent blocks [B, P], and its jackknife standard error.

    Above the fraction: the mean over pairs of *different* blocks of the product of their parts orthogonal to g, so that noise
    is not mistaken for bias.
    """
    unit = truth / np.linalg.norm(truth)
    along = blocks @ unit
    across = blocks - np.outer(along, unit)
    squares = np.square(across).sum(axis=1)

    def of(chosen: NDArray[np.bool_]) -> float:
        count, total = chosen.sum(), across[chosen].sum(axis=0)
        return float((total @ total - squares[chosen].sum()) / (count * (count - 1)) / along[chosen].mean() ** 2)

    everything = np.ones(len(blocks), dtype=bool)
    left_out = np.array([of(everything & (np.arange(len(blocks)) != block)) for block in range(len(blocks))])
    error = np.sqrt((len(blocks) - 1) / len(blocks) * np.square(left_out - left_out.mean()).sum())
    return of(everything), float(error)
