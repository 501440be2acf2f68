"""The kinds of configuration: the command that each configures, and its class."""

from collections.abc import Mapping
from pkgutil import resolve_name

from arpo.config import Config

KINDS: Mapping[str, tuple[str, str]] = {
    "world": ("arpo world make", "arpo.world.config:WorldConfig"),
    "demos": ("arpo demos", "arpo.world.config:DemosRun"),
    "sft": ("arpo sft", "arpo.training.config:SftRun"),
    "rl": ("arpo train", "arpo.training.config:RlRun"),
    "rollout": ("arpo rollout", "arpo.evaluation.config:RolloutRun"),
    "eval": ("arpo eval", "arpo.evaluation.config:EvalRun"),
    "tools": ("arpo tool", "arpo.tools.config:ToolsConfig"),
    "study": ("arpo study", "arpo.lab.study.config:StudyConfig"),
}
"""Name -> (command, class as module:name, imported when it is asked for)."""


def config_class(kind: str) -> type[Config]:
    """The configuration class of a kind."""
    return resolve_name(KINDS[kind][1])
