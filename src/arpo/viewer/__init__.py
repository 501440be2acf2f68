"""Rollout trees and training curves as one self-contained HTML page; `picture` draws a PNG. No torch."""

from arpo.viewer.entropy import EntropyCurve, EntropyProfile, entropy_by_distance
from arpo.viewer.report import write_report

__all__ = ["EntropyCurve", "EntropyProfile", "entropy_by_distance", "write_report"]
