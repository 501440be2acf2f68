"""The command line as processes that can be killed, and a tiny domain to run it on: sums for Python, births for search."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from tokenizers import AddedToken, Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

TIMEOUT_S = 120
NAMES = {"Ada": "Kelford", "Bo": "Tolva", "Cy": "Kelford", "Di": "Moor", "Ed": "Tolva", "Flo": "Moor"}


@dataclass
class Result:
    """What became of a command."""

    codes: list[int]
    """Exit code of each process."""
    stdout: str
    stderr: str

    @property
    def code(self) -> int:
        """Of the first process."""
        return self.codes[0]


class Commands:
    """Starts arpo commands in processes of their own, one at a time."""

    def __init__(self, folder: Path):
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TRACKIO_DIR": str(folder / "trackio"),
        }  # fmt: skip
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("command_server.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self._folder = folder
        self.trackio = folder / "trackio"
        self.pid = 0
        """Of the command started last."""

    def start(self, *argv: object, die_at: tuple[str, int, str] | None = None, cwd: Path | None = None, ranks: int = 1) -> int:
        """Start `arpo argv`; return its process id. `die_at`: place, number of the call, before or after."""
        request = {
            "argv": [str(a) for a in argv], "cwd": str(cwd or self._folder), "die_at": die_at, "ranks": ranks,
            "stdout": str(self._folder / "stdout"), "stderr": str(self._folder / "stderr"),
        }  # fmt: skip
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        self.pid = int(self._read_line().split()[0])
        return self.pid

    def wait(self) -> Result:
        """Wait for the command started last; an exit code is negative when a signal ended the process."""
        codes = [int(code) for code in self._read_line().split()]
        return Result(codes, *((self._folder / name).read_text() for name in ("stdout", "stderr")))

    def __call__(
        self, *argv: object, die_at: tuple[str, int, str] | None = None, cwd: Path | None = None, ranks: int = 1
    ) -> Result:
        """Start `arpo argv` on some ranks and wait for it."""
        self.start(*argv, die_at=die_at, cwd=cwd, ranks=ranks)
        return self.wait()

    def succeed(self, *argv: object, cwd: Path | None = None, ranks: int = 1) -> Result:
        """As a call, for a command that must work."""
        result = self(*argv, cwd=cwd, ranks=ranks)
        assert result.codes == [0] * ranks, result.stderr
        return result

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=TIMEOUT_S)

    def _read_line(self) -> str:
        assert self._server.stdout is not None
        if not select.select([self._server.stdout], [], [], TIMEOUT_S)[0]:
            os.kill(self.pid, signal.SIGKILL)
            raise TimeoutError((self._folder / "stderr").read_text())
        return self._server.stdout.readline()


@pytest.fixture(scope="session")
def arpo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command line."""
    commands = Commands(tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Waits for a condition of the file system, checking it a thousand times a second."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.001)

    return wait


@pytest.fixture(scope="session")
def write_toml() -> Callable[[Path, dict[str, Any]], Path]:
    """Writes a configuration."""

    def write(path: Path, data: dict[str, Any]) -> Path:
        path.write_text(tomli_w.dumps(data))
        return path

    return write


@dataclass(frozen=True)
class Domain:
    """Where the tiny domain lies."""

    path: Path

    @property
    def agent(self) -> dict[str, Any]:
        """The agent loop, as a section of a configuration."""
        return {
            "protocol": {"system_prompt": ""},
            "limits": {"max_turn_tokens": 20, "max_trajectory_tokens": 96},
            "tools": {
                "executor": {"max_calls": 2, "max_result_tokens": 24},
                "python": {"isolation": "landlock"},
                "search": {"index": str(self.path / "index"), "top_k": 1},
            },
        }

    def sft(self, out: Path, **changes: Any) -> dict[str, Any]:
        """A cold start of a few seconds."""
        return {
            "out": str(out), "data": str(self.path / "conversations.jsonl"), "num_threads": 1, "num_epochs": 30,
            "batch_tokens": 256, "model": {"path": str(self.path / "policy")}, "protocol": {"system_prompt": ""},
            "optimizer": {"learning_rate": 1e-2, "schedule": "linear"},
        } | changes  # fmt: skip

    def rl(self, out: Path, **changes: Any) -> dict[str, Any]:
        """A run of four steps with branching, validation and checkpoints."""
        return {
            "out": str(out), "tasks": str(self.path / "train.jsonl"), "num_threads": 1, "num_steps": 4, "tasks_per_step": 2,
            "seed": 5, "model": {"path": str(self.path / "cold" / "final")}, "agent": self.agent,
            "rollout": {"group_size": 4, "entropy_window": 3}, "optimizer": {"learning_rate": 1e-3, "warmup_steps": 2},
            "validation": {"tasks": str(self.path / "valid.jsonl"), "every": 2, "num_tasks": 3},
            "checkpoint": {"every": 2, "keep": 1},
        } | changes  # fmt: skip

    def evaluation(self, out: Path, **changes: Any) -> dict[str, Any]:
        """An evaluation of a few tasks."""
        return {
            "out": str(out), "tasks": str(self.path / "valid.jsonl"), "num_threads": 1, "num_samples": 2,
            "model": {"path": str(self.path / "cold" / "final")}, "agent": self.agent,
        } | changes  # fmt: skip


@pytest.fixture(scope="session")
def domain(
    arpo: Commands, make_tokenizer_directory: Callable[..., Path], write_toml: Any, tmp_path_factory: pytest.TempPathFactory
) -> Domain:
    """Tasks, conversations, an index, a tiny random policy and its cold start, which answers some tasks and not others."""
    found = Domain(tmp_path_factory.mktemp("domain"))
    _write_data(found.path)
    _write_policy(make_tokenizer_directory(found.path / "policy", "qwen3"))
    arpo.succeed("index", "build", found.path / "corpus.jsonl", "--out", found.path / "index")
    arpo.succeed("sft", write_toml(found.path / "sft.toml", found.sft(found.path / "cold")))
    return found


@pytest.fixture(scope="session")
def never_stopped(arpo: Commands, domain: Domain, write_toml: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run of the tiny domain, for comparison."""
    folder = tmp_path_factory.mktemp("never_stopped")
    arpo.succeed("train", write_toml(folder / "rl.toml", domain.rl(folder / "run")))
    return folder / "run"


def _write_data(folder: Path) -> None:
    sums = [(f"{a}+{b}", str(a + b), "python", f"{a}+{b}", str(a + b)) for a in range(3) for b in range(4)]
    births = [(f"town {name}", town, "search", name, f"Page 1: {name} {town}") for name, town in NAMES.items()]
    pairs = [*births, *sums]
    conversations = [
        [
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"<think> think</think><{tool}> {call}</{tool}>"},
            {"role": "tool", "content": result},
            {"role": "assistant", "content": f"<think> answer</think><answer> \\boxed{{{answer}}}</answer>"},
        ]
        for question, answer, tool, call, result in pairs
    ]
    rows = [{"question": question, "answer": answer} for question, answer, *_ in pairs]
    _write_lines(folder / "conversations.jsonl", [{"messages": messages} for messages in conversations])
    _write_lines(folder / "train.jsonl", rows[:7])
    _write_lines(folder / "valid.jsonl", rows[3:9])
    _write_lines(folder / "corpus.jsonl", [{"title": name, "text": f"{name} {town}"} for name, town in NAMES.items()])


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_policy(folder: Path) -> None:
    """A random Qwen3 beside the tokenizer in `folder`, to which the tags are added as tokens, for short sequences."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tags = [f"<{slash}{name}>" for name in ("think", "search", "python", "result", "answer") for slash in ("", "/")]
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=256,
        tie_word_embeddings=True,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
