"""Prompts that contradict the protocol are counted, wherever a run reads its tasks."""

import json
from pathlib import Path

from arpo.data.prompts import PromptCheck, check_prompts
from arpo.data.stored_tasks import open_tasks
from arpo.data.tasks import read_tasks
from arpo.protocols.config import HermesProtocolConfig
from arpo.tracking.progress import SilentProgress

SYSTEM = {"role": "system", "content": "Look it up by <search> words </search>, answered in <result> </result>."}
FAULT = "the system message teaches <result>, <search>, which protocol.type = 'hermes' does not read; "


class Listener(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_contradictions_are_counted_and_told_with_what_to_do(tmp_path: Path):
    """Two of three tasks bring the message."""
    question = {"role": "user", "content": "who ?"}
    prompts = [[SYSTEM, question], [question], [SYSTEM, question]]
    rows = [{"prompt": prompt, "reward_model": {"ground_truth": "Bo"}} for prompt in prompts]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told, stored = Listener(), Listener()
    check_prompts(read_tasks(file).tasks, HermesProtocolConfig(), told)
    check = PromptCheck(HermesProtocolConfig())
    open_tasks(file, check.add)
    check.report(stored)
    (line,) = told.lines
    assert line.startswith(f"prompts: in 2 of 3 {FAULT}")
    assert "protocol.task_system_prompt = 'replace' or 'drop'" in line
    assert stored.lines == told.lines


def test_prompts_that_fit_are_not_told(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"question": "who ?", "answer": "Bo"}\n')
    told = Listener()
    check_prompts(read_tasks(file).tasks, HermesProtocolConfig(), told)
    assert told.lines == []
