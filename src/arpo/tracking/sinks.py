"""The tracker: checks names, writes `metrics.jsonl`, and passes the values on to the chosen sinks."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from arpo.errors import ConfigError
from arpo.tracking.config import SinkName, TrackingConfig
from arpo.tracking.jsonl import JsonlSink
from arpo.tracking.metrics import check_names

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Somewhere metrics go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of one step."""
        ...

    def truncate_after(self, step: int) -> None:
        """Forget later steps, which a resumed run is about to log again; a service that cannot keeps them."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


class Tracker:
    """Logs a run's metrics: always to `metrics.jsonl`, and to the sinks the configuration chooses.

    Files are opened when its context is entered. An optional sink that fails is reported once and left alone from then on: no
    dashboard stops a training run.

    Raises:
        ConfigError: a chosen sink's package is not installed; the message names the extra to install.

    Example:
        with Tracker(run_dir, config.tracking) as tracker:
            tracker.log(1, {"rollout/reward_mean": 0.25})
    """

    def __init__(self, run_dir: Path, config: TrackingConfig, settings: Mapping[str, Any] | None = None) -> None:
        """`settings` is the run's resolved configuration, shown by W&B and trackio beside the curves."""
        self._openers: dict[SinkName, Callable[[], Sink]] = {
            name: partial(_find_sink(name), run_dir, config, settings or {}) for name in config.sinks
        }
        self._run_dir = run_dir
        self._optional: dict[str, Sink] = {}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record values of one step; one call is one line of `metrics.jsonl`.

        Raises:
            ValueError: a name is not in `METRICS`.
        """
        check_names(values)
        self._jsonl.log(step, values)
        for name, sink in list(self._optional.items()):
            self._attempt(name, lambda sink=sink: sink.log(step, values))

    def truncate_after(self, step: int) -> None:
        """Drop what was logged after `step`, so that a resumed run's record equals that of an uninterrupted one."""
        self._jsonl.truncate_after(step)
        for name, sink in list(self._optional.items()):
            self._attempt(name, lambda sink=sink: sink.truncate_after(step))

    def close(self) -> None:
        """Close every sink."""
        self._jsonl.close()
        for name, sink in list(self._optional.items()):
            self._attempt(name, sink.close)
        self._optional.clear()

    def __enter__(self) -> Self:
        """Open every sink."""
        self._jsonl = JsonlSink(self._run_dir)
        for name in self._openers:
            self._attempt(name, partial(self._open, name))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close, whether or not the run failed."""
        self.close()

    def _open(self, name: SinkName) -> None:
        self._optional[name] = self._openers[name]()

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever a third-party dashboard raises, training goes on
            self._optional.pop(name, None)
            logger.warning("tracking: sink %r failed (%r) and is off from now on; metrics.jsonl stays complete", name, error)


def _find_sink(name: SinkName) -> Callable[[Path, TrackingConfig, Mapping[str, Any]], Sink]:
    try:
        match name:
            case "tensorboard":
                from arpo.tracking.tensorboard import TensorboardSink

                return lambda run_dir, *_: TensorboardSink(run_dir)
            case "wandb":
                from arpo.tracking.wandb import WandbSink

                return WandbSink
            case "trackio":
                from arpo.tracking.trackio import TrackioSink

                return TrackioSink
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tracking.sinks holds {name!r}, whose package {error.name!r} is not installed: pip install 'arpo[{name}]', "
            f"or take {name!r} out of tracking.sinks"
        ) from error
