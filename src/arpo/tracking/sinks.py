"""The tracker: checks names, writes `metrics.jsonl`, and passes the values to the chosen sinks."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from arpo.errors import ConfigError
from arpo.ranks import is_main
from arpo.tracking.config import SinkName, TrackingConfig
from arpo.tracking.jsonl import JsonlSink
from arpo.tracking.metrics import check_names
from arpo.types import StrPath

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """A destination of metrics."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of one step."""
        ...

    def truncate_after(self, step: int) -> None:
        """Forget later steps, which a resumed run logs again; a service that cannot forget keeps them."""
        ...

    def close(self) -> None:
        """Write pending values."""
        ...


class Tracker:
    """Logs a run's metrics: always to `metrics.jsonl`, and to the sinks the configuration chooses.

    Entering the context opens the files. An optional sink that fails is reported once and then off: no dashboard stops a
    training run.

    Raises:
        ConfigError: a chosen sink's package is not installed; the message names the extra to install.

    Example:
        with Tracker(run_dir, config.tracking) as tracker:
            tracker.log(1, {"rollout/reward_mean": 0.25})
    """

    def __init__(self, run_dir: StrPath, config: TrackingConfig, settings: Mapping[str, Any] | None = None) -> None:
        """`settings`: the resolved configuration, which W&B and trackio show beside the curves."""
        run_dir = Path(run_dir)
        self._openers: dict[SinkName, Callable[[], Sink]] = {
            name: partial(_sink_class(name), run_dir, config, settings or {}) for name in config.sinks if is_main()
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
        self._jsonl: Sink = JsonlSink(self._run_dir) if is_main() else _NoSink()
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
        except Exception as error:  # training goes on, whatever a third-party dashboard raises
            self._optional.pop(name, None)
            logger.warning("tracking: sink %r failed (%r) and is off from now on; metrics.jsonl stays complete", name, error)


class _NoSink:
    """Of the ranks that write nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def truncate_after(self, step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


_SINK_CLASSES: dict[SinkName, str] = {"tensorboard": "TensorboardSink", "trackio": "TrackioSink", "wandb": "WandbSink"}


def _sink_class(name: SinkName) -> Callable[[Path, TrackingConfig, Mapping[str, Any]], Sink]:
    try:
        return getattr(import_module(f"arpo.tracking.{name}"), _SINK_CLASSES[name])
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tracking.sinks has {name!r}, whose package {error.name!r} is not installed: pip install 'arpo[{name}]', "
            f"or remove {name!r} from tracking.sinks"
        ) from error
