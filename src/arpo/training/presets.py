"""Presets: the parts of each algorithm, as data. Torch-free."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from arpo.config import Config, dotted, merge_keys, without_other_types
from arpo.rollout.config import RolloutConfig
from arpo.training.algorithm_config import (
    AdvantageConfig,
    DynamicSamplingConfig,
    LossConfig,
    OutcomeAdvantageConfig,
    OverlongConfig,
    PpoClipLossConfig,
    ReinforceLossConfig,
)


class AlgorithmConfig(Config):
    """The sections of a run that a preset sets."""

    rollout: RolloutConfig = RolloutConfig()
    """How trees grow."""
    advantage: AdvantageConfig = OutcomeAdvantageConfig()
    """How rewards become advantages."""
    loss: LossConfig = PpoClipLossConfig()
    """What is minimised."""
    dynamic_sampling: DynamicSamplingConfig = DynamicSamplingConfig()
    """Whether groups without signal are replaced."""
    overlong: OverlongConfig = OverlongConfig()
    """Penalty of trajectories near their token limit."""


@dataclass(slots=True, frozen=True)
class Preset:
    """One algorithm, as in its file of `presets/`."""

    name: str
    """Value of `algorithm`."""
    paper: str | None
    """Publication, e.g. "arXiv:2507.19849"; None: an algorithm of our own."""
    about: str
    """Its particularity, in one line."""
    keys: dict[str, Any]
    """Keys of a run that it sets, nested as in TOML."""

    def resolve(self) -> AlgorithmConfig:
        """Its sections, every key resolved."""
        return AlgorithmConfig.model_validate(self.keys)


def preset_names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))


@cache
def read_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        ValueError: there is none of that name; the message lists the names.
    """
    names = preset_names()
    if name not in names:
        raise ValueError(f"algorithm = {name!r}: there is no such preset; choose one of {', '.join(names)}")
    keys = tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    return Preset(name, keys.pop("paper", None), keys.pop("about"), keys)


def apply_preset(given: dict[str, Any]) -> dict[str, Any]:
    """The keys of the preset `algorithm` (default: arpo), overridden by `given` section by section.

    A section that names another `type` replaces the preset's, except for keys that every type of loss or of advantage has. With
    rule `none` every trajectory is initial, whatever number the preset sets for its rule.

    Example: {"algorithm": "dr_grpo", "loss": {"type": "reinforce"}} keeps dr_grpo's aggregation, not its clip bounds.
    """
    preset = read_preset(str(given.get("algorithm", "arpo"))).keys
    if dotted(given).get("rollout.rule.type") == "none":
        preset = preset | {"rollout": {k: v for k, v in preset["rollout"].items() if k != "num_initial_trajectories"}}
    return merge_keys(without_other_types(preset, given, _COMMON_KEYS), given)


_COMMON_KEYS = {
    "loss": ReinforceLossConfig.model_fields.keys() - {"type"},
    "advantage": OutcomeAdvantageConfig.model_fields.keys() - {"type"},
}
"""Section -> keys that all of its types have."""


def _folder() -> Any:
    return resources.files("arpo") / "presets"
