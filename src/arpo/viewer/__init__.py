"""Rollout trees and training curves as one self-contained HTML page; `picture` draws a PNG. No torch."""

from arpo.viewer.report import write_report

__all__ = ["write_report"]
