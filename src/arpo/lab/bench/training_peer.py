"""TRL's training step as a contender: a program in TRL's environment, idle while other contenders run."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import IO, Any, cast

import torch
from transformers import PreTrainedModel

from arpo.batching.rows import LeafRow
from arpo.errors import RunError
from arpo.lab.bench.training_steps import budgets, gradient_norm


class TrlTraining:
    """A `Contender`; close it."""

    def __init__(self, python: Path, model: Path, rows: Sequence[LeafRow], dtype: str, device: str):
        """Start the program by the interpreter `python` of an environment that holds TRL.

        Raises:
            RunError: the program failed.
        """
        longest = max(len(row.token_ids) for row in rows)
        self.budgets: Sequence[int] = budgets(len(rows) * longest, longest)
        self.loss: float | None = None
        self.is_warm = False
        self.gradient_norm: float | None = None
        self._python = python
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the program
        program = Path(__file__).with_name("trl_training_peer.py")
        self._process = subprocess.Popen(
            [python, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        request = {
            "model": str(model),
            "dtype": dtype,
            "device": device,
            "num_threads": torch.get_num_threads(),
            "longest": longest,
            "rows": [asdict(row) for row in rows],
        }
        self.version: str = self._ask(json.dumps(request))["version"]

    def measure(self, budget: int) -> float:
        """As `Contender.measure`."""
        answer = self._ask(str(budget))
        self.is_warm = True
        self.loss, self.gradient_norm = answer["loss"], answer["gradient_norm"]
        return answer["seconds"]

    def gradient_difference(self, reference: PreTrainedModel) -> float:
        """Difference of the norms over the norm, as TRL's program tells only the norm of its gradient; NaN without memory."""
        norm = gradient_norm(reference)
        return nan if self.gradient_norm is None else abs(self.gradient_norm - norm) / norm

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _ask(self, line: str) -> dict[str, Any]:
        stdin, stdout = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        try:
            stdin.write(line + "\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # the program died; its last words are read below
        if answer := stdout.readline():
            return json.loads(answer)
        self._process.wait()
        self._errors.seek(0)
        reason = self._errors.read().strip().splitlines()[-1:]
        raise RunError(f"{self._python}: TRL's program failed ({reason}); `make bench-peers` sets it up")
