"""Presets: what each algorithm is made of, as data. Torch-free."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from arpo.config import Config, lay_over, without_other_types
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
    """One algorithm as its file in `presets/` describes it."""

    name: str
    """What `algorithm` is set to."""
    paper: str
    """Where it was published, e.g. "arXiv:2507.19849"."""
    about: str
    """What is particular about it, one line."""
    keys: dict[str, Any]
    """The keys of a run it sets, nested as in TOML."""

    def resolve(self) -> AlgorithmConfig:
        """The sections it sets, every key resolved."""
        return AlgorithmConfig.model_validate(self.keys)


def preset_names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))


@cache
def read_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        ValueError: there is none of that name; the names are listed.
    """
    names = preset_names()
    if name not in names:
        raise ValueError(f"algorithm = {name!r}: there is no such preset; choose one of {', '.join(names)}")
    keys = tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    return Preset(name, keys.pop("paper"), keys.pop("about"), keys)


def apply_preset(given: dict[str, Any]) -> dict[str, Any]:
    """`given` over the keys of the preset that its `algorithm` names (default: arpo), section by section.

    A section that names another `type` replaces the preset's, except for keys that every type of loss or of advantage has.

    Example: {"algorithm": "dr_grpo", "loss": {"type": "reinforce"}} keeps dr_grpo's aggregation, not its clip bounds.
    """
    preset = read_preset(str(given.get("algorithm", "arpo"))).keys
    return lay_over(without_other_types(preset, given, _COMMON_KEYS), given)


_COMMON_KEYS = {
    "loss": ReinforceLossConfig.model_fields.keys() - {"type"},
    "advantage": OutcomeAdvantageConfig.model_fields.keys() - {"type"},
}
"""Section -> keys that all of its types have."""


def _folder() -> Any:
    return resources.files("arpo") / "presets"
