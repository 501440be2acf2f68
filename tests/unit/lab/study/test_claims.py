"""Claims against bounds, and those nothing can be said of."""

from typing import Any

import numpy as np
import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError
from arpo.evaluation.bootstrap import NUM_RESAMPLES
from arpo.lab.study.claims import JudgedClaim, judge
from arpo.lab.study.claims_config import ClaimConfig
from arpo.lab.study.comparisons import Column, ResampledMetrics

CALLS = {"about": "half", "of": "a", "against": "b", "figure": "tool_calls_per_task", "measure": "ratio"}


def claim(**keys: Any) -> ClaimConfig:
    return parse_config(ClaimConfig, {"about": "x", "of": "a", "figure": "tool_calls_per_task"} | keys, "test")


def judged(found: ClaimConfig, a: list[float], b: list[float]) -> JudgedClaim:
    """With the figure's values in runs (0, 0), (0, 1), … of both arms, and entropies of a tenth of them."""
    metrics = ResampledMetrics()
    for arm, values in (("a", a), ("b", b)):
        for seed, value in enumerate(values):
            for name, scaled in (("tool_calls_per_task", value), ("entropy_end", value / 10)):
                metrics.add(arm, name, "", (0, seed), Column(scaled, np.full(NUM_RESAMPLES, scaled)))
    return judge({"c": found}, metrics)[0]


@pytest.mark.parametrize(("below", "verdict"), [(0.7, "holds"), (0.5, "open"), (0.4, "fails")])
def test_a_ratio_is_judged_by_its_bootstrap_interval(below: float, verdict: str) -> None:
    """8/16 and 6/10: resamples between 0.5 and 0.6."""
    found = judged(claim(**CALLS, below=below), [8, 6], [16, 10])
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(14 / 26)
    assert found.verdict == verdict


def test_a_difference_needs_students_interval_too() -> None:
    """Differences 1, 2, 3: the bootstrap's interval is above 0, Student's 2 ± 4.303 · 1 / sqrt(3) = 2 ± 2.484 is not."""
    keys = {"against": "b", "above": 0.0}
    assert judged(claim(**keys), [11, 12, 13], [10, 10, 10]).verdict == "open"
    assert judged(claim(**keys), [12.0, 12.1, 12.2], [10, 10, 10]).verdict == "holds"
    assert judged(claim(**keys), [8.0, 8.1, 8.2], [10, 10, 10]).verdict == "fails"


def test_arms_that_are_equal_to_the_bit_are_not_better() -> None:
    """All differences are 0, and so are all ends of their intervals."""
    found = judged(claim(against="b", above=0.0), [10, 11, 12], [10, 11, 12])
    assert found.estimate is not None
    assert (found.estimate.low, found.estimate.high, found.verdict) == (0, 0, "open")


def test_two_figures_of_one_arm() -> None:
    found = judged(claim(against="a", against_figure="entropy_end"), [10, 20], [])
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(13.5)  # (9 + 18) / 2
    assert found.verdict == "none"


def test_a_figure_alone() -> None:
    found = judged(claim(above=14), [10, 20], [])
    assert found.estimate is not None
    assert (found.estimate.value, found.verdict) == (15, "open")


def test_a_claim_about_what_is_not_there_is_left_out_with_the_reason() -> None:
    found = judged(claim(against="nobody", above=0.0), [1, 2], [])
    assert (found.estimate, found.verdict) == (None, "none")
    assert found.left_out == "no finished run, with the same world and seed, of a and nobody has tool_calls_per_task"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"figure": "acuracy"}, "did you mean 'accuracy'"),
        ({"measure": "ratio"}, "against = None"),
        ({"at": "time"}, "no effect on tool_calls_per_task"),
        ({"above": 0.0, "below": 1.0}, "give one of them"),
    ],
)
def test_a_claim_without_sense_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        claim(**keys)
