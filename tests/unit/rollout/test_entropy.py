"""Entropy windows and their change, worked by hand (arXiv:2507.19849, section 3)."""

import math

import pytest

from arpo.rollout.entropy import Normalizer, entropy_delta, windowed_entropy


def test_the_window_is_the_first_tokens() -> None:
    assert windowed_entropy([0.9, 0.3, 0.6, 5.0], 3) == pytest.approx(0.6)


def test_a_short_turn_ends_the_window() -> None:
    assert windowed_entropy([0.9, 0.3], 20) == pytest.approx(0.6)
    assert windowed_entropy([0.25], 1) == 0.25


def test_no_tokens_are_no_window() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        windowed_entropy([], 3)


# after (0.9 + 0.7) / 2 = 0.8, initial (0.2 + 0.4) / 2 = 0.3; ln 512 = 6.2383; (0.7 + 0.3) / 512 = 0.001953
@pytest.mark.parametrize(
    ("normalizer", "expected"), [("none", 0.5), ("log_vocab", 0.5 / math.log(512)), ("paper", (0.7 + 0.3) / 512)]
)
def test_every_normaliser(normalizer: Normalizer, expected: float) -> None:
    delta = entropy_delta([0.9, 0.7, 9.0], [0.2, 0.4, 9.0], window=2, normalizer=normalizer, vocab_size=512)
    assert delta == pytest.approx(expected, rel=1e-12)


def test_windows_of_different_length() -> None:
    # three tokens after (mean 0.6), one at the start (0.5); the paper's sum has the one pair both windows have: 0.9 - 0.5
    after, initial = [0.9, 0.6, 0.3], [0.5]
    assert entropy_delta(after, initial, window=20, normalizer="none", vocab_size=100) == pytest.approx(0.1)
    assert entropy_delta(after, initial, window=20, normalizer="paper", vocab_size=100) == pytest.approx(0.004)


@pytest.mark.parametrize("normalizer", ["none", "log_vocab", "paper"])
def test_more_sure_is_negative_and_unchanged_is_0(normalizer: Normalizer) -> None:
    assert entropy_delta([0.1], [0.5], window=1, normalizer=normalizer, vocab_size=64) < 0
    assert entropy_delta([0.5, 0.2], [0.5, 0.2], window=2, normalizer=normalizer, vocab_size=64) == 0
