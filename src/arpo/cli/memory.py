"""`arpo doctor --config`: the memory of a run, by phase."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arpo.cli.kinds import config_class
from arpo.cli.output import make_table, progress, result_console
from arpo.cli.overrides import place_tools
from arpo.config import Config, load_config, read_toml
from arpo.errors import ConfigError
from arpo.recipes import find_recipe

if TYPE_CHECKING:
    from arpo.training.memory import MemoryEstimate

_KIND_OF = {"tasks": "rl", "data": "sft"}
"""A key that one kind of training run has and the other has not."""


def show_memory(
    source: str, model: str | None, memory_gb: float | None, num_ranks: int, overrides: list[str], *, as_json: bool
) -> int:
    """Print the memory of a run by phase.

    Args:
        source: A TOML file of `arpo train` or `arpo sft`, or the name of a recipe of `arpo train`.
        model: Directory with the model's config.json; None: `model.path` of the configuration.
        memory_gb: What the device has, in GB of 10^9 bytes; None: ask it.
        num_ranks: Processes that torchrun starts; `memory_gb` is of each one's device.
        overrides: Further keys, as `key=value`.
        as_json: Print one JSON object instead of tables.

    Raises:
        ConfigError: the file configures no training, or the run does not fit its device.
        ModelError: config.json cannot be read.
    """
    from arpo.models.hub import is_hub_name
    from arpo.models.source import find_run_model
    from arpo.training.memory import estimate_memory
    from arpo.training.memory_check import shortage

    overrides = [*overrides, *([f"model.path={model}"] if model else [])]
    config: Any = _load(find_recipe(source, "rl"), overrides)
    if config.model.path.is_file() or (not config.model.path.exists() and is_hub_name(config.model.path)):
        config = config.model_copy(update={"model": find_run_model(config.model, progress(), needs_weights=False)[1]})
    estimate = estimate_memory(config, None if memory_gb is None else round(memory_gb * 1e9), num_ranks)
    if as_json:
        result_console().print_json(data=to_json(estimate))
    else:
        _print_tables(estimate)
    if estimate.fits is False:
        raise ConfigError(f"{source}: {shortage(config, estimate)}")
    return 0


def to_json(estimate: "MemoryEstimate") -> dict[str, Any]:
    """The estimate as plain data; sizes in bytes."""
    phases = [{"name": phase.name, "rows": phase.rows, "total": phase.total} for phase in estimate.phases]
    return asdict(estimate) | {"phases": phases, "largest_phase": estimate.largest.name, "fits": estimate.fits}


def _load(path: Path, overrides: list[str]) -> Config:
    keys = {*read_toml(path), *(override.partition("=")[0] for override in overrides)}
    kind = next((kind for key, kind in _KIND_OF.items() if key in keys), None)
    if kind is None:
        raise ConfigError(f"--config {path}: configures neither `arpo train` (it has no tasks) nor `arpo sft` (it has no data)")
    cls = config_class(kind)
    return load_config(cls, path, place_tools(cls, overrides))


def _print_tables(estimate: "MemoryEstimate") -> None:
    from arpo.training.memory_check import gigabytes

    console, size = result_console(), estimate.size
    names = list(dict.fromkeys(name for phase in estimate.phases for name in phase.rows))
    table = make_table("GB", *(f">{phase.name}" for phase in estimate.phases))
    for name in names:
        table.add_row(name, *(gigabytes(phase.rows[name]) if name in phase.rows else "" for phase in estimate.phases))
    table.add_section()
    table.add_row("together", *(gigabytes(phase.total) for phase in estimate.phases))
    console.print(table)
    lines = [
        f"{size.parameters / 1e9:.3f} billion parameters, {size.trained / 1e9:.3f} of them trained",
        f"update: passes of {estimate.pass_tokens:,} packed tokens, {estimate.kept_per_token:,} bytes kept for each",
    ]
    if estimate.cache_per_token:
        lines.append(
            f"sampling: up to {estimate.num_slots:,} trajectories of {estimate.longest:,} tokens at once, "
            f"{estimate.cache_per_token:,} bytes of cache for each token"
        )
    if estimate.num_ranks > 1:
        lines.append(f"on each of {estimate.num_ranks} ranks, each with a device of its own, or a part of the CPU's memory")
    has = "unknown here" if estimate.available is None else f"{gigabytes(estimate.available)} GB"
    lines.append(
        f"most: {gigabytes(estimate.largest.total)} GB in the phase {estimate.largest.name}; {estimate.device} has {has}"
    )
    for line in lines:
        console.print(line, markup=False, highlight=False)
