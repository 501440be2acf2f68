"""Exports a trained policy as an ordinary model directory: an adapter merged, the number format chosen, no trainer state."""

from pathlib import Path

import torch

from arpo.config import parse_config, read_toml
from arpo.errors import CheckpointError, ConfigError, ModelError
from arpo.files.whole import whole
from arpo.models.config import TrainedModelConfig
from arpo.models.directory import check_directory, read_config
from arpo.models.loading import load_policy, write_policy
from arpo.models.lora import merge_adapter
from arpo.models.shards import MAX_SHARD_BYTES, stored_tensors
from arpo.models.source import find_model
from arpo.models.writing import DTYPES, copy_model, require_new
from arpo.tracking.progress import Progress
from arpo.tracking.run_directory import how_to_go_on
from arpo.training.checkpoint import ADAPTER_FOLDER, MODEL_FOLDER

_ADAPTER_CONFIG = "adapter_config.json"
_STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def export_model(
    source: Path,
    out: Path,
    progress: Progress,
    *,
    checkpoint: str | None = None,
    base: str | None = None,
    dtype: str | None = None,
    max_shard_bytes: int | None = None,
) -> Path:
    """Write the policy of a run, checkpoint, model directory or peft adapter as a model directory; return what was exported.

    Weights, tokenizer, template, generation settings, licence and card go along. An adapter is merged in float32, and the sum
    is rounded to `dtype` once.

    Args:
        source: A run directory (of it `best`, else `final`, else the newest checkpoint), a model directory or checkpoint, or a
            folder with a peft adapter.
        out: A new or empty folder.
        progress: Reports what is exported.
        checkpoint: Of a run directory: the name of a checkpoint (`step_000020`, `best`, `final`) or its path.
        base: The model that an adapter belongs to, named as `model.path`; None: that of the run.
        dtype: A key of `DTYPES`; None keeps the weights' own, and for an adapter that of its run or base.
        max_shard_bytes: Size above which the weights are written in several files; None: 5 GB.

    Raises:
        ConfigError: `out` holds files, or an option has no effect.
        CheckpointError: there is no such checkpoint, or none yet.
        ModelError: the model, the adapter or its base cannot be loaded.
    """
    require_new(out)
    if not source.is_dir():
        raise ModelError(
            f"{source}: no such directory; name a run, a checkpoint, a model directory or a folder with an adapter "
            f"(`arpo model get` writes a model of the hub or a GGUF file)"
        )
    run = source if (source / "config.toml").is_file() else None
    if checkpoint is not None and run is None:
        raise ConfigError(
            f"--checkpoint {checkpoint}: has no effect, as {source} is no run directory; name the checkpoint itself"
        )
    folder = (_find_checkpoint(run, checkpoint) if run is not None else source).resolve()
    model, adapter = _parts(folder)
    if base is not None and adapter is None:
        raise ConfigError(f"--base {base}: has no effect, as {folder} holds no adapter; leave it out")
    progress.line(f"exporting {folder}")
    with whole(out) as partial:
        if adapter is not None and (model is None or base is not None or not _is_stored_in(model, dtype)):
            directory, own_dtype = _find_base(adapter, base, progress)
            _write_merged(adapter, directory, DTYPES[dtype or own_dtype], partial, max_shard_bytes or MAX_SHARD_BYTES)
        else:
            model = model or folder
            check_directory(model)
            copy_model(model, partial, dtype, max_shard_bytes)
    return folder


def _find_checkpoint(run: Path, name: str | None) -> Path:
    saved = sorted(path for path in (run / "checkpoints").glob("step_*[0-9]") if path.is_dir())
    if name is None:
        candidates = [*(run / link for link in ("best", "final")), *reversed(saved)]
    else:
        candidates = [run / "checkpoints" / name, run / name, Path(name)]
    found = next((path for path in candidates if path.is_dir()), None)
    if found is None and name is None:
        raise CheckpointError(f"{run}: has no checkpoint yet; {how_to_go_on(run)}")
    if found is None:
        known = ", ".join(path.name for path in [*(run / link for link in ("best", "final") if (run / link).exists()), *saved])
        raise CheckpointError(
            f"--checkpoint {name}: no such checkpoint in {run}, which has {known or 'none'}; name one of them"
        )
    return found


def _parts(folder: Path) -> tuple[Path | None, Path | None]:
    """The model directory and the peft adapter of a checkpoint, of a checkpoint's model, or of a folder that is either."""
    if (folder / _ADAPTER_CONFIG).is_file():
        return None, folder
    checkpoint = folder.parent if folder.name == MODEL_FOLDER else folder
    if not any((checkpoint / name).is_dir() for name in (MODEL_FOLDER, ADAPTER_FOLDER)):
        return folder, None
    parts = (checkpoint / MODEL_FOLDER, checkpoint / ADAPTER_FOLDER)
    model, adapter = (part if part.is_dir() else None for part in parts)
    return model, adapter


def _is_stored_in(directory: Path, dtype: str | None) -> bool:
    """Whether all weights are stored in a number format; None: whichever they are in."""
    return dtype is None or {_STORED.get(tensor.dtype) for tensor in stored_tensors(directory).values()} == {dtype}


def _write_merged(adapter: Path, base: Path, dtype: torch.dtype, out: Path, max_shard_bytes: int) -> None:
    model = merge_adapter(load_policy(base), adapter)
    torch.nn.Module.to(model, dtype)
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise ModelError(f"{adapter}: merged, it holds numbers that {dtype} cannot hold; use bfloat16 or float32")
    write_policy(model, base, out, max_shard_bytes)


def _find_base(adapter: Path, base: str | None, progress: Progress) -> tuple[Path, str]:
    """The directory of the model that an adapter belongs to, and the number format of the merged one: the run's, or its own."""
    run = adapter.parents[2]
    named = read_config(adapter, _ADAPTER_CONFIG).get("base_model_name_or_path")
    if base is not None:
        return _with_format(find_model(Path(base), label=f"--base {base}", progress=progress))
    if adapter.name == ADAPTER_FOLDER and (run / "config.toml").is_file():
        model = parse_config(
            TrainedModelConfig, read_toml(run / "config.toml").get("model", {}), f"{run / 'config.toml'}, model"
        )
        return find_model(model.path, model.revision, progress=progress), model.dtype if model.dtype in DTYPES else "float32"
    if named:
        label = f"{adapter / _ADAPTER_CONFIG}: base_model_name_or_path = {named!r}"
        return _with_format(find_model(Path(named), label=label, progress=progress))
    raise ConfigError(f"{adapter}: an adapter that does not say which model it belongs to; name that with --base MODEL")


def _with_format(directory: Path) -> tuple[Path, str]:
    """A directory and the widest number format among its weights."""
    stored = {_STORED.get(tensor.dtype, "float32") for tensor in stored_tensors(directory).values()}
    return directory, next(name for name in (*DTYPES, *stored) if name in stored)
