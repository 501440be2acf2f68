"""TensorBoard event files in `<run>/tensorboard`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from arpo.tracking.config import TrackingConfig


class TensorboardSink:
    """Writes scalars with TensorBoard's own writer, which needs neither torch nor TensorFlow."""

    def __init__(self, run_dir: Path, config: TrackingConfig, settings: Mapping[str, Any]) -> None:
        self._writer = EventFileWriter(str(run_dir / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write all values as one event."""
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))
        self._writer.flush()

    def truncate_after(self, step: int) -> None:
        """Tell TensorBoard to forget later steps."""
        self._writer.add_event(Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
