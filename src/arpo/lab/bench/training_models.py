"""The policies that `arpo bench train` trains: model directories, and random ones whose weights are the same on every call."""

from copy import deepcopy
from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from arpo.errors import ModelError
from arpo.lab.bench.policies import POLICIES
from arpo.lab.bench.training_data import TreeCounts
from arpo.models.loading import load_policy
from arpo.world.tiny_policy import make_tokenizer

_QWEN3 = {"0.6b": (1024, 3072), "1.7b": (2048, 6144)}
"""Width and MLP width of the two small Qwen3 models, which differ in nothing else."""
MODELS = (*POLICIES, *_QWEN3)
"""Models by name."""


def is_directory(name: str) -> bool:
    """Whether a model is named by its directory, not by its size."""
    return name not in _QWEN3 and name not in POLICIES


def read_config(name: str, num_ids: int = 0) -> PreTrainedConfig:
    """The configuration of a model directory, or that of `model_config`.

    Raises:
        ModelError: no such directory, or no configuration in it.
    """
    if not is_directory(name):
        return model_config(name, num_ids)
    if not (Path(name) / "config.json").is_file():
        raise ModelError(f"--model {name}: no config.json there; name one of {', '.join(MODELS)}, or a model directory")
    return AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)


def load_or_make(name: str, num_ids: int, dtype: str, device: str) -> PreTrainedModel:
    """The model of a directory, or `make_model` of `model_config`; with transformers' own attention."""
    if is_directory(name):
        return load_policy(Path(name), dtype, device)
    return make_model(model_config(name, num_ids), dtype, device)


def model_config(name: str, num_ids: int = 0) -> Qwen3Config:
    """The named architecture; its vocabulary holds at least the token ids below `num_ids`."""
    if name in _QWEN3:
        width, mlp_width = _QWEN3[name]
        return Qwen3Config(
            vocab_size=max(151936, num_ids), num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
            max_position_embeddings=40960, tie_word_embeddings=True, hidden_size=width,
            intermediate_size=mlp_width,
        )  # fmt: skip
    tiny = POLICIES[name]
    return Qwen3Config(
        vocab_size=max(tiny.vocab_size, num_ids), hidden_size=tiny.hidden_size, num_hidden_layers=tiny.num_layers,
        num_attention_heads=tiny.num_heads, num_key_value_heads=tiny.num_heads, head_dim=tiny.head_dim,
        intermediate_size=tiny.intermediate_size, initializer_range=tiny.initializer_range, tie_word_embeddings=True,
    )  # fmt: skip


def make_model(config: Qwen3Config, dtype: str, device: str) -> PreTrainedModel:
    """A model with random weights, the same on every call, with transformers' own attention."""
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM._from_config(deepcopy(config), dtype=getattr(torch, dtype), attn_implementation="sdpa")
    return model.eval()


def write_model(model: PreTrainedModel, folder: Path) -> Path:
    """Write the model with a tokenizer, which peers load and never use."""
    model.save_pretrained(folder)
    make_tokenizer(["a tokenizer nobody asks"], vocab_size=1024, max_positions=2048).save_pretrained(folder)
    return folder


def training_flops(config: PreTrainedConfig, counts: TreeCounts) -> float:
    """Floating-point operations of forward and backward with every shared token once, matrix products only.

    Formula: 6 per weight and token in the layers, 6 per weight of the head and sampled token, and in each layer and head
    12 * head_dim per query and key it sees (PaLM, arXiv:2204.02311, appendix B, where causality is not taken into account).
    """
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    attention = config.hidden_size * head_dim * 2 * (heads + (getattr(config, "num_key_value_heads", None) or heads))
    layer = attention + 3 * config.hidden_size * config.intermediate_size
    layers = 6 * layer * counts.unique_tokens + 12 * heads * head_dim * counts.visible_pairs
    return config.num_hidden_layers * layers + 6 * config.hidden_size * config.vocab_size * counts.sampled_tokens
