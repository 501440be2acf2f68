"""What a model directory holds, found out without loading its weights."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from arpo.errors import ModelError
from arpo.models.attention import head_obstacle, layout_obstacle
from arpo.models.directory import read_config
from arpo.models.shards import stored_tensors
from arpo.models.vocabulary import rows_without_token


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """The network of a model directory."""

    architecture: str
    """Class of transformers, e.g. `LlamaForCausalLM`."""
    num_parameters: int
    """Numbers that training can change; tied ones once."""
    weight_gb: float | None
    """Size of the weight files, 10^9 bytes; None: the directory has none."""
    dtypes: dict[str, int]
    """Number format, as safetensors names it -> values stored in it."""
    num_layers: int
    num_sliding_layers: int
    """Layers that see a window of the past alone, or have another kind of attention than full causal one."""
    width: int
    """Of the residual stream."""
    num_positions: int | None
    """Longest sequence the model was made for, in tokens; None: its configuration does not say."""
    vocabulary_rows: int
    """Rows of the embeddings."""
    rows_without_token: int
    """Rows that no token of the tokenizer has; they are outside every distribution."""
    is_tied: bool
    """Whether the output matrix is the embeddings."""
    obstacle: str | None
    """Why it cannot run packed trees, and samples its sequences one by one in process; None: neither holds."""
    head_obstacle: str | None
    """How it caps or scales its logits, which arpo does not compute; None: not at all."""
    quantisation: str | None
    """Method of quantised weights, which arpo does not load; None: they are plain."""


def describe_model(directory: Path, *, has_weights: bool = True) -> ModelDescription:
    """The network of a directory, by its configuration and the headers of its weight files.

    Raises:
        ModelError: transformers does not know the architecture, or the files are broken.
    """
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers reads a model's files without checks
        raise ModelError(f"{directory}: transformers cannot read config.json ({str(error).strip().splitlines()[0]})") from error
    tensors = stored_tensors(directory) if has_weights else {}
    formats: Counter[str] = Counter()
    for tensor in tensors.values():
        formats[tensor.dtype] += tensor.num_values
    text = config.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or [])
    sliding = sum(kind != "full_attention" for kind in kinds)
    if not kinds and getattr(text, "sliding_window", None) is not None:
        sliding = text.num_hidden_layers
    quantisation = read_config(directory).get("quantization_config") or {}
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    return ModelDescription(
        architecture=type(model).__name__,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        weight_gb=sum(tensor.num_bytes for tensor in tensors.values()) / 1e9 if has_weights else None,
        dtypes=dict(formats.most_common()),
        num_layers=text.num_hidden_layers,
        num_sliding_layers=sliding,
        width=text.hidden_size,
        num_positions=getattr(text, "max_position_embeddings", None),
        vocabulary_rows=rows,
        rows_without_token=len(rows_without_token(directory, rows)),
        is_tied=bool(text.tie_word_embeddings),
        obstacle=layout_obstacle(model),
        head_obstacle=head_obstacle(model),
        quantisation=str(quantisation.get("quant_method", "unknown")) if quantisation else None,
    )
