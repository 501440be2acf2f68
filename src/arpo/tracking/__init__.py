"""Metric names with units, and where their values go: `metrics.jsonl` always, TensorBoard, W&B and trackio by choice."""

from arpo.tracking.config import TrackingConfig
from arpo.tracking.jsonl import METRICS_FILE, read_metrics, series
from arpo.tracking.metrics import METRICS, Metric, metrics_markdown
from arpo.tracking.sinks import Sink, Tracker

__all__ = [
    "METRICS",
    "METRICS_FILE",
    "Metric",
    "Sink",
    "Tracker",
    "TrackingConfig",
    "metrics_markdown",
    "read_metrics",
    "series",
]
