"""Draws: counter-based uniforms with the published values, and the inverse of the cumulative distribution."""

import math

import numpy as np
import pytest
import torch

from arpo.inference.sampling import draw, stream_uniforms


def test_uniforms_are_splitmix64() -> None:
    """The first outputs of SplitMix64 for seed 0 and 1234567, as published with its reference implementation."""
    known = {
        0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F], 1234567: [6457827717110365317, 3203168211198807973]
    }  # fmt: skip
    for seed, outputs in known.items():
        positions = np.arange(len(outputs))
        found = stream_uniforms(np.full(len(outputs), seed, dtype=np.uint64), positions)
        assert found.tolist() == [(z >> 11) * 2.0**-53 for z in outputs]


def test_a_position_s_number_does_not_depend_on_the_visit() -> None:
    seeds = np.array([5, 2**64 - 1, 5, 7], dtype=np.uint64)
    positions = np.array([3, 3, 0, 9])
    together = stream_uniforms(seeds, positions)
    alone = [stream_uniforms(seeds[i : i + 1], positions[i : i + 1])[0] for i in range(4)]
    assert together.tolist() == alone
    assert len(set(alone)) == 4


def test_uniforms_fill_the_interval_evenly_along_positions_and_along_seeds() -> None:
    n = 20_000
    for numbers in (
        stream_uniforms(np.full(n, 42, dtype=np.uint64), np.arange(n)),
        stream_uniforms(np.arange(n, dtype=np.uint64), np.zeros(n)),
    ):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
        # each bin expects 1000 with standard deviation 31
        assert abs(counts - 1000).max() < 150
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


PROBABILITIES = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.19, 0), (0.21, 1), (0.65, 1), (0.69, 1), (0.71, 2), (1 - 2**-53, 2)]
)
def test_the_token_is_where_the_cumulative_distribution_exceeds_the_number(uniform: float, token: int) -> None:
    tokens, logprobs, entropies = draw(PROBABILITIES.log(), 1.0, np.array([uniform]))
    assert tokens.tolist() == [token]
    assert logprobs.item() == pytest.approx(math.log(PROBABILITIES[0, token].item()))
    assert entropies.item() == pytest.approx(-(0.2 * math.log(0.2) + 0.5 * math.log(0.5) + 0.3 * math.log(0.3)))


@pytest.mark.parametrize("vocab", [100, 128, 256, 1280, 1281])
def test_blocks_of_a_vocabulary_draw_as_one_cumulative_sum(vocab: int) -> None:
    """A multiple of 128 is summed in blocks; a third of the tokens, and one whole block, are impossible."""
    generator = torch.Generator().manual_seed(vocab)
    logits = 3 * torch.randn(40, vocab, generator=generator)
    logits[:, torch.rand(vocab, generator=generator) < 1 / 3] = -math.inf
    logits[:, 128:256] = -math.inf
    uniforms = np.concatenate([[0.0, 1 - 2**-53], stream_uniforms(np.full(38, 4, dtype=np.uint64), np.arange(38))])
    cumulative = logits.log_softmax(-1).exp().cumsum(-1, dtype=torch.float64).numpy()
    expected = [int((row <= u * row[-1]).sum()) for row, u in zip(cumulative, uniforms, strict=True)]
    tokens, logprobs, _ = draw(logits, 1.0, uniforms)
    assert tokens.tolist() == expected
    assert logprobs.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_impossible_token_is_never_drawn(dtype: torch.dtype) -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]] * 4, dtype=dtype)
    tokens, _, _ = draw(logits, 1.0, np.array([0.0, 0.5 - 1e-9, 0.5, 1 - 2**-53]))
    assert tokens.tolist() == [1, 1, 3, 3]


def test_temperature_shapes_the_draw() -> None:
    # logits (0, ln 9): at 1 p = (0.1, 0.9), at 2 p = (0.25, 0.75)
    logits = torch.tensor([[0.0, math.log(9)]], dtype=torch.float64)
    assert draw(logits, 1.0, np.array([0.2]))[0].tolist() == [1]
    assert draw(logits, 2.0, np.array([0.2]))[0].tolist() == [0]
    assert draw(logits, 2.0, np.array([0.2]))[1].item() == pytest.approx(math.log(0.25))


def test_greedy_takes_the_largest_and_measures_at_one() -> None:
    tokens, logprobs, entropies = draw(PROBABILITIES.log(), 0.0, np.array([0.99]))
    assert tokens.tolist() == [1]
    assert logprobs.item() == pytest.approx(math.log(0.5))
    assert entropies.item() == pytest.approx(-(0.2 * math.log(0.2) + 0.5 * math.log(0.5) + 0.3 * math.log(0.3)))


def test_frequencies_are_the_probabilities() -> None:
    n = 20_000
    uniforms = stream_uniforms(np.full(n, 9, dtype=np.uint64), np.arange(n))
    tokens, _, _ = draw(PROBABILITIES.log().repeat(n, 1), 1.0, uniforms)
    frequencies = np.bincount(tokens.numpy(), minlength=3) / n
    assert frequencies == pytest.approx([0.2, 0.5, 0.3], abs=0.015)  # four standard deviations of 0.0035
