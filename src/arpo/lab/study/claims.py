"""Judges claims: the estimate of each, and whether its intervals lie within the claim's bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from arpo.lab.study.claims_config import ClaimConfig
from arpo.lab.study.comparisons import Estimate, ResampledMetrics, difference, estimate, ratio

Verdict = Literal["holds", "fails", "open", "none"]


@dataclass(slots=True, frozen=True, kw_only=True)
class JudgedClaim:
    """A claim with its estimate and verdict."""

    name: str
    claim: ClaimConfig
    estimate: Estimate | None
    """None: left out."""
    verdict: Verdict
    """`holds`: the bootstrap's and Student's interval lie within the bound; `fails`: both lie outside; `open`: anything else,
    and with one run; `none`: the claim has no bound, or is left out. A ratio has the bootstrap's alone."""
    left_out: str | None
    """Why nothing can be said yet; None: something can."""


def judge(claims: Mapping[str, ClaimConfig], metrics: ResampledMetrics) -> list[JudgedClaim]:
    """Every claim, in order."""
    return [_judge(name, claim, metrics) for name, claim in claims.items()]


def _judge(name: str, claim: ClaimConfig, metrics: ResampledMetrics) -> JudgedClaim:
    of = metrics.of(claim.of, claim.figure, claim.at)
    if claim.against is None:
        value = estimate(of)
    else:
        against = metrics.of(claim.against, claim.against_figure or claim.figure, claim.at)
        value = (difference if claim.measure == "difference" else ratio)(of, against)
    left_out = None if value is not None else _why_left_out(claim)
    return JudgedClaim(name=name, claim=claim, estimate=value, verdict=_verdict(claim, value), left_out=left_out)


def _verdict(claim: ClaimConfig, value: Estimate | None) -> Verdict:
    bound = claim.below if claim.above is None else claim.above
    if value is None or bound is None:
        return "none"
    if len(value.runs) < 2:
        return "open"
    sign = -1 if claim.above is None else 1
    ends = [sign * (end - bound) for end in (value.low, value.high, value.t_low, value.t_high) if end is not None]
    return "holds" if min(ends) > 0 else "fails" if max(ends) < 0 else "open"


def _why_left_out(claim: ClaimConfig) -> str:
    arms = " and ".join(dict.fromkeys(arm for arm in (claim.of, claim.against) if arm is not None))
    return f"no finished run, with the same world and seed, of {arms} has {claim.figure}"
