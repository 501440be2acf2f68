"""Loads and saves a policy as a Hugging Face directory."""

import shutil
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from arpo.errors import ModelError
from arpo.files.whole import whole
from arpo.models.config import TrainedModelConfig
from arpo.models.device import require_device
from arpo.models.directory import TOKENIZER_FILES, accompanying_files, check_directory, forget_origin, read_config
from arpo.models.lora import add_adapter, has_adapter, merged_weights
from arpo.models.recomputation import recompute_blocks
from arpo.models.shards import MAX_SHARD_BYTES
from arpo.models.vocabulary import mask_rows_without_token
from arpo.types import StrPath


def load_policy(directory: StrPath, dtype: str = "float32", device: str = "cpu", attention: str = "sdpa") -> PreTrainedModel:
    """The causal language model in a Hugging Face directory, in evaluation mode; nothing is downloaded.

    Rows of its vocabulary without a token are outside every distribution (`vocabulary`).

    Args:
        directory: Holds config.json, weights and tokenizer.json; any architecture `AutoModelForCausalLM` knows.
        dtype: Name of a torch floating-point type, `"float32"` or `"bfloat16"` for example.
        device: In torch's names, or `auto`.
        attention: The attention implementation registered with transformers: `"sdpa"`, `"eager"` or `"arpo"`.

    Raises:
        ConfigError: this machine does not have the device.
        ModelError: the directory is missing or incomplete, its architecture unknown or of its own code, its weights unreadable,
            quantised or of another architecture, or its tokenizer has more tokens than the model has embeddings.
    """
    directory = Path(directory)
    number_format = getattr(torch, dtype, None)
    if not isinstance(number_format, torch.dtype):
        raise ModelError(f"model.dtype = {dtype!r} is not a torch number format; use float32, bfloat16, float16 or float64")
    device = require_device(device)
    check_directory(directory)
    _refuse_quantised(directory)
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        model, report = cast(Any, AutoModelForCausalLM).from_pretrained(
            directory,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=number_format,
            attn_implementation=attention,
            output_loading_info=True,
        )
    except Exception as error:  # transformers reads a model's files without checks
        raise ModelError(f"{directory}: cannot load this model ({_first_line(error)}); {_remedy(directory)}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ModelError(
            f"{directory}: the weights lack {len(missing)} tensors of {type(model).__name__}, {missing[0]!r} first; "
            "they would be random, so use the complete checkpoint or correct config.json"
        )
    _check_tied(directory, model)
    mask_rows_without_token(model, directory)
    return model.to(device).eval()


def load_trained_policy(config: TrainedModelConfig, seed: int) -> PreTrainedModel:
    """The initial policy of a trainer: `load_policy`, with a new adapter if one is configured.

    Args:
        config: The model, its adapter, if any, and whether blocks are computed again.
        seed: The run's seed; names the random numbers of the adapter.

    Raises:
        ConfigError: as `add_adapter` and `recompute_blocks`.
        ModelError: as `load_policy`.
    """
    model = load_policy(config.path, config.dtype, config.device)
    if config.lora is not None:
        add_adapter(model, config.lora, seed)
    return recompute_blocks(model) if config.gradient_checkpointing else model


def save_policy(model: PreTrainedModel, tokenizer_source: Path, directory: Path) -> None:
    """Write a complete Hugging Face directory: safetensors, configuration, and the tokenizer files of `tokenizer_source`.

    An adapter is merged into the weights, so that the directory holds an ordinary model. The files are written to a temporary
    directory that replaces `directory` at the end, so that it never holds half a checkpoint.

    Raises:
        ModelError: `tokenizer_source` holds no tokenizer.json.
    """
    with whole(directory) as partial:
        write_policy(model, tokenizer_source, partial)


def write_policy(
    model: PreTrainedModel,
    tokenizer_source: Path,
    directory: Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """As `save_policy`, but directly into a new directory, for callers that rename it themselves.

    Args:
        model: With or without an adapter.
        tokenizer_source: The model directory whose tokenizer, licence and model card go with the weights.
        directory: To make.
        max_shard_bytes: Size above which the weights are written in several files.
        weights: By their names in the ordinary model; None: those of `model`, with an adapter merged in.

    Raises:
        ModelError: `tokenizer_source` holds no tokenizer.json.
    """
    if not (tokenizer_source / "tokenizer.json").is_file():
        raise ModelError(f"{tokenizer_source}: no tokenizer.json to copy; name the directory the model was loaded from")
    directory.mkdir(parents=True)
    if weights is None and has_adapter(model):
        weights = dict(merged_weights(model))
    model.save_pretrained(directory, state_dict=weights, max_shard_size=max_shard_bytes)
    copy_companions(tokenizer_source, directory)
    forget_origin(directory)


def copy_companions(source: Path, directory: Path) -> None:
    """Copy a model directory's tokenizer, licence and model card into a directory."""
    for path in [*(source / name for name in TOKENIZER_FILES), *accompanying_files(source)]:
        if path.is_dir():
            shutil.copytree(path, directory / path.name)
        elif path.is_file():
            shutil.copyfile(path, directory / path.name)


def _refuse_quantised(directory: Path) -> None:
    settings = read_config(directory).get("quantization_config")
    if settings:
        method = settings.get("quant_method", "unknown") if isinstance(settings, dict) else settings
        raise ModelError(
            f"{directory}: its weights are quantised (quantization_config in config.json, method {method!r}), and "
            f"arpo trains and samples plain weights in process; name the unquantised checkpoint"
        )


def _check_tied(directory: Path, model: PreTrainedModel) -> None:
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if model.config.get_text_config().tie_word_embeddings and head is not None and head.weight is not embeddings.weight:
        raise ModelError(
            f"{directory}: config.json has tie_word_embeddings = true, but the weights hold an output matrix (lm_head) "
            "that differs from the embeddings, and libraries disagree on which one counts; set it to false to use both, or "
            "remove lm_head"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _remedy(directory: Path) -> str:
    if '"text_config"' in (directory / "config.json").read_text(encoding="utf-8", errors="replace"):
        return "its config.json has a text_config, as those of image models do; save the language model alone and name that"
    return "is it a complete causal-LM checkpoint?"
