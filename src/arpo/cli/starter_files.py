"""The files that `arpo init` writes: three configurations, a tool, a reward, a few rows of data, and a tiny model."""

import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from arpo.errors import RunError
from arpo.files.whole import whole
from arpo.functions.trust import foreign_reason

_STOCK = {"apples": 12, "pears": 7, "plums": 30, "figs": 4, "lemons": 25, "limes": 9, "dates": 16, "grapes": 41}
_ASKED = (
    "How many {item} are in stock?", "How many {item} do we have?", "How many {item} are left?",
    "What is the number of {item}?",
)  # fmt: skip
_TESTED = "Tell me how many {item} there are."
COMMANDS = ("arpo sft sft.toml", "arpo train rl.toml", "arpo eval eval.toml")
"""What to run in the folder, in order."""


def write_starter(folder: Path) -> list[str]:
    """Write everything into a new or empty folder; return the names.

    Raises:
        RunError: the folder holds files, or code in it would never be run as it lies among downloads.
    """
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder}: is there already, and nothing is overwritten; choose another name, or --out DIR")
    if reason := foreign_reason(Path(os.path.abspath(folder / "my_reward.py"))):
        raise RunError(f"{folder}: {reason}, where arpo runs no code; choose another place with --out DIR")
    with whole(folder) as partial:
        partial.mkdir(parents=True)
        for source in sorted((resources.files("arpo.cli") / "starter").iterdir(), key=lambda file: file.name):
            if source.is_file():
                (partial / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        _write_rows(partial / "conversations.jsonl", _conversations())
        _write_rows(partial / "tasks.jsonl", (_task(asked, item) for item in _STOCK for asked in _ASKED[:2]))
        _write_rows(partial / "test.jsonl", (_task(_TESTED, item) for item in _STOCK))
        _write_policy(partial / "policy", [json.dumps(row) for row in _conversations()])
    return sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())


def _conversations() -> Iterator[dict[str, Any]]:
    """One conversation per question and item, in OpenAI's form."""
    for item, number in _STOCK.items():
        call = {"type": "function", "function": {"name": "stock", "arguments": json.dumps({"item": item})}}
        for asked in _ASKED:
            yield {
                "messages": [
                    {"role": "user", "content": asked.format(item=item)},
                    {"role": "assistant", "reasoning_content": f"I look up {item}.", "content": "", "tool_calls": [call]},
                    {"role": "tool", "content": str(number)},
                    {
                        "role": "assistant",
                        "reasoning_content": f"There are {number}.",
                        "content": f"<answer> \\boxed{{{number}}} </answer>",
                    },
                ]
            }


def _task(asked: str, item: str) -> dict[str, Any]:
    return {"question": asked.format(item=item), "answer": str(_STOCK[item])}


def _write_rows(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _write_policy(folder: Path, texts: list[str]) -> None:
    from arpo.models.config import TinyPolicyConfig
    from arpo.world.tiny_policy import make_tiny_policy

    size = TinyPolicyConfig(hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128, max_positions=1024)
    make_tiny_policy(folder, texts, size, seed=0)
