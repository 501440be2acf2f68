"""Keys of other commands that a study sets; its files cannot set them."""

from collections.abc import Mapping
from typing import Any

from arpo.config import dotted

_RUN_KEYS = {"out": "--out", "seed": "runs"}

RESERVED_KEYS: Mapping[str, Mapping[str, str]] = {
    "world": _RUN_KEYS | {"num_test": "num_test"},
    "demos": _RUN_KEYS,
    "sft": _RUN_KEYS,
    "rl": _RUN_KEYS | {
        "algorithm": "arms.<name>.algorithm",
        "rollouts_every": "checkpoint_every",
        "checkpoint.every": "checkpoint_every",
        "checkpoint.keep": "checkpoint_every",
        "validation.every": "num_steps",
        "agent.tools.cache.path": "--out",
    },
    "test": {
        "out": "--out",
        "model.path": "arms",
        "num_tasks": "num_test",
        "num_samples": "num_samples",
        "num_threads": "--threads",
        "agent.tools.cache.path": "--out",
    },
}  # fmt: skip
"""Section -> dotted key of the command -> the study's key or option that decides it."""


def reserved_key_in(section: str, keys: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first reserved key in a section, and what decides it; None: there is none.

    Example: ("rl", {"validation": {"every": 5}}) -> ("validation.every", "num_steps")
    """
    reserved = RESERVED_KEYS[section]
    return next(((key, reserved[key]) for key in dotted(keys) if key in reserved), None)
