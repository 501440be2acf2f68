"""Loads and saves a policy as a Hugging Face directory."""

import shutil
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from arpo.errors import ModelError
from arpo.files.whole import whole
from arpo.models.config import TrainedModelConfig
from arpo.models.device import require_device
from arpo.models.lora import add_adapter, has_adapter, merged_weights
from arpo.models.recomputation import recompute_blocks
from arpo.models.vocabulary import mask_rows_without_token

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja", "chat_template.json", "additional_chat_templates",
)  # fmt: skip
"""Tokenizer files of a model directory; arpo requires `tokenizer.json`."""


def load_policy(directory: Path, dtype: str = "float32", device: str = "cpu", attention: str = "sdpa") -> PreTrainedModel:
    """The causal language model in a Hugging Face directory, in evaluation mode; nothing is downloaded.

    Rows of its vocabulary without a token are outside every distribution (`vocabulary`).

    Args:
        directory: Holds config.json, weights and tokenizer.json; any architecture `AutoModelForCausalLM` knows.
        dtype: Name of a torch floating-point type, `"float32"` or `"bfloat16"` for example.
        device: In torch's names.
        attention: The attention implementation registered with transformers: `"sdpa"`, `"eager"` or `"arpo"`.

    Raises:
        ConfigError: this machine does not have the device.
        ModelError: the directory is missing or incomplete, its architecture unknown, its weights unreadable or of another
            architecture, or its tokenizer has more tokens than the model has embeddings.
    """
    number_format = getattr(torch, dtype, None)
    if not isinstance(number_format, torch.dtype):
        raise ModelError(f"model.dtype = {dtype!r} is not a torch number format; use float32, bfloat16, float16 or float64")
    require_device(device)
    _check_directory(directory)
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        model, report = cast(Any, AutoModelForCausalLM).from_pretrained(
            directory,
            config=config,
            local_files_only=True,
            dtype=number_format,
            attn_implementation=attention,
            output_loading_info=True,
        )
    except Exception as error:  # transformers runs a model's own code and reads its files without checks
        raise ModelError(f"{directory}: cannot load this model ({_first_line(error)}); {_remedy(directory)}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ModelError(
            f"{directory}: the weights lack {len(missing)} tensors of {type(model).__name__}, {missing[0]!r} first; "
            "they would be random, so use the complete checkpoint or correct config.json"
        )
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


def write_policy(model: PreTrainedModel, tokenizer_source: Path, directory: Path) -> None:
    """As `save_policy`, but directly into a new directory, for callers that rename it themselves.

    Raises:
        ModelError: `tokenizer_source` holds no tokenizer.json.
    """
    if not (tokenizer_source / "tokenizer.json").is_file():
        raise ModelError(f"{tokenizer_source}: no tokenizer.json to copy; name the directory the model was loaded from")
    directory.mkdir(parents=True)
    model.save_pretrained(directory, state_dict=dict(merged_weights(model)) if has_adapter(model) else None)
    for name in TOKENIZER_FILES:
        if (tokenizer_source / name).is_dir():
            shutil.copytree(tokenizer_source / name, directory / name)
        elif (tokenizer_source / name).is_file():
            shutil.copyfile(tokenizer_source / name, directory / name)


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such directory; model.path must be a Hugging Face model directory on this machine")
    for name, pattern in (("config.json", "config.json"), ("weights", "*.safetensors"), ("tokenizer", "tokenizer.json")):
        if not any(directory.glob(pattern)):
            raise ModelError(
                f"{directory}: no {name} ({pattern}); a model directory holds config.json, *.safetensors and tokenizer.json"
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _remedy(directory: Path) -> str:
    if '"text_config"' in (directory / "config.json").read_text(encoding="utf-8", errors="replace"):
        return "its config.json has a text_config, as those of image models do; save the language model alone and name that"
    return "is it a complete causal-LM checkpoint?"
