"""Refuses a run whose model cannot fit its device, before anything is loaded; warns of one that should not."""

from collections.abc import Callable

from arpo.errors import ConfigError, ModelError
from arpo.models.device import choose_device
from arpo.models.memory import ModelSize, model_size, outline_policy
from arpo.ranks import num_ranks
from arpo.training.config import RlRun, SftRun
from arpo.training.memory import MemoryEstimate, estimate_memory, rank_memory

_BYTES_PER_NUMBER = 34 / 2
"""Of activations per token, width and layer, by number of a byte's size: 34 s b h bytes at 16 bits (Korthikanti et al.,
arXiv:2205.05198, section 4.1). It decides only whether the count of the real passes is worth its seconds."""


def require_memory(config: RlRun | SftRun, report: Callable[[str], None]) -> None:
    """Compare what a run takes with what its device has.

    It is refused where weights, masters, gradients and moments alone exceed the device: without them there is no update. Where
    the largest phase would exceed it, `report` gets a line, as the largest pass may never come.

    Raises:
        ConfigError: the model cannot be trained on the device.
    """
    ranks = num_ranks()
    available = rank_memory(choose_device(config.model.device), ranks)
    if available is None:
        return
    try:
        outline = outline_policy(config.model)
    except ModelError:
        return  # loading says it better
    size, architecture = model_size(outline, ranks), outline.config.get_text_config()
    if size.states > available:
        raise ConfigError(_refusal(config, size, available))
    tokens = config.batching.max_tokens if isinstance(config, RlRun) else min(config.batch_tokens, config.batching.max_tokens)
    per_token = _BYTES_PER_NUMBER * outline.dtype.itemsize * architecture.hidden_size * architecture.num_hidden_layers
    if size.states + tokens * per_token > available / 2:
        estimate = estimate_memory(config, available, ranks)
        if not estimate.fits:
            report(f"memory: {shortage(config, estimate)}")


def _refusal(config: RlRun | SftRun, size: ModelSize, available: int) -> str:
    rows = {"weights": size.weights, "masters": size.masters, "optimizer moments": size.moments}
    is_gathered = size.gathered > size.gradients
    rows |= {"gathered weights": size.gathered} if is_gathered else {"gradients": size.gradients}
    where = f"on each of {num_ranks()} ranks " if num_ranks() > 1 else ""
    parts = " + ".join(f"{name} {gigabytes(value)}" for name, value in rows.items() if value)
    return (
        f"model.path = '{config.model.path}': training {size.trained / 1e9:.2f} of its {size.parameters / 1e9:.2f} billion "
        f"parameters takes {where}{parts} = {gigabytes(size.states)} GB before the first token, and "
        f"{choose_device(config.model.device)} has {gigabytes(available)} GB; "
        f"{_remedy(config, 'gathered weights' if is_gathered else 'weights')}"
    )


def shortage(config: RlRun | SftRun, estimate: MemoryEstimate) -> str:
    """What exceeds the device, by how much, and what to set; for an estimate that does not fit."""
    phase = estimate.largest
    row = max(phase.rows, key=lambda name: phase.rows[name])
    return (
        f"the phase {phase.name} takes up to {gigabytes(phase.total)} GB, and {estimate.device} has "
        f"{gigabytes(estimate.available or 0)} GB; most are {row}, {gigabytes(phase.rows[row])} GB: {_remedy(config, row)}"
    )


def gigabytes(size: float) -> str:
    """A size in GB of 10^9 bytes, with three digits."""
    return f"{size / 1e9:.3g}" if size < 1e11 else f"{size / 1e9:.0f}"


def _remedy(config: RlRun | SftRun, row: str) -> str:
    """What to set for less of a row."""
    model = config.model
    match row:
        case "activations" | "rest of the pass" | "pass":
            return "lower batching.max_tokens" if model.gradient_checkpointing else "set model.gradient_checkpointing = true"
        case "cache" | "pass of the engine":
            return "lower tasks_per_step, rollout.group_size or agent.limits.max_trajectory_tokens"
        case "engine (vLLM)":
            return "lower engine.gpu_memory_utilization"
        case "gathered weights":
            return "start more processes, set model.lora, or take a smaller model: each samples with the whole weights"
        case "reference" | "merged weights":
            return "set model.lora, whose base is the reference" if model.lora is None else "take a smaller model"
        case _:
            narrower = ' and model.dtype = "bfloat16"' if model.dtype in ("float32", "float64") else ""
            if model.lora is None:
                return f"train an adapter (--model.lora.rank=16{narrower}), or take a smaller model"
            return f"set{narrower.removeprefix(' and')}, or take a smaller model" if narrower else "take a smaller model"
