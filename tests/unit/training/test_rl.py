"""What a resumption refuses."""

import json
from pathlib import Path

import pytest

from arpo.data.stored_tasks import open_tasks
from arpo.errors import CheckpointError
from arpo.training.checkpoint import TrainerState


def test_a_position_among_other_tasks_is_refused(tmp_path: Path):
    path = tmp_path / "t.jsonl"
    rows = [json.dumps({"question": f"who {i} ?", "answer": "Bo"}) + "\n" for i in range(3)]
    path.write_text("".join(rows))
    state = TrainerState(position=2, tasks_digest=open_tasks(path).digest)
    state.require_tasks(tmp_path, open_tasks(path).digest)
    path.write_text("".join(reversed(rows)))
    with pytest.raises(CheckpointError, match=r"other tasks .*\(2\) is wrong; restore the"):
        state.require_tasks(tmp_path, open_tasks(path).digest)
    TrainerState().require_tasks(tmp_path, open_tasks(path).digest)
