"""Configuration of models."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from arpo.config import Config


def check_device_name(name: str) -> str:
    """The name, if it is one of a device that arpo supports; `device.require_device` asks whether the machine has it.

    Raises:
        ValueError: it is not.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise ValueError("the devices are auto, cpu, cuda and, of several, cuda:0, cuda:1, ...; set one of them")
    return name


DeviceName = Annotated[str, AfterValidator(check_device_name)]
"""A device in torch's names, or `auto`."""


class ModelConfig(Config):
    """A model, and the number format and device of its weights."""

    short_for = "path"

    path: Path = Field(examples=["Qwen/Qwen3-0.6B"])
    """A Hugging Face directory (config.json, safetensors, tokenizer.json), a model of the hub by its name OWNER/NAME, or a GGUF
    file; see docs/models.md. A directory or file here wins over a hub name of the same spelling."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; None: its main branch. A run's records name the commit."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Number format of the weights: float32 on a CPU, bfloat16 where the processor has it, float64 for checks; float16 does not
    train. A policy trained in full in bfloat16 has float32 masters and moments beside."""
    device: DeviceName = "auto"
    """Device of the weights: `auto`, which is `cuda` where there is one and else `cpu`; `cpu`; `cuda` or, of several, `cuda:0`,
    `cuda:1` and so on. A machine without it refuses the run before any work; a run records the device it took."""


class LoraConfig(Config):
    """A low-rank adapter over a frozen model (LoRA, arXiv:2106.09685): `pip install 'arpo[peft]'`."""

    short_for = "rank"

    rank: int = Field(default=16, ge=1)
    """Rank of the adapter's matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """The adapter's output is scaled by alpha / rank."""
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of the adapted linear layers, e.g. `q_proj`; None: every linear layer of the model's blocks."""


class TrainedModelConfig(ModelConfig):
    """A policy to train."""

    lora: LoraConfig | None = None
    """Train an adapter and freeze the model's weights; None: train every weight."""
    gradient_checkpointing: bool = False
    """True: the backward pass computes each block again instead of keeping its activations. Less memory per token and
    more time in an update, which computes the blocks twice; gradients do not change."""

    @model_validator(mode="after")
    def _refuse_float16(self) -> Self:
        if self.dtype == "float16":
            raise ValueError(
                "model.dtype = 'float16' is for engines and evaluation: in training, gradients below 6e-8 become 0 in it, with "
                "model.lora too; set model.dtype to 'bfloat16', which has float32's range, or to 'float32'"
            )
        return self


class TinyPolicyConfig(Config):
    """A Qwen3-shaped policy small enough to train on a CPU in minutes; about 1 M parameters by default."""

    vocab_size: int = Field(default=1024, ge=640)
    """Largest size of its byte-level BPE vocabulary; the 256 bytes, the domain's numbers and the protocol's tags take about
    570 tokens."""
    hidden_size: int = Field(default=128, ge=16, multiple_of=8)
    """Width of the residual stream."""
    num_layers: int = Field(default=3, ge=1)
    """Transformer blocks."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; keys and values have the same number."""
    head_dim: int = Field(default=32, ge=8, multiple_of=2)
    """Width of one head."""
    intermediate_size: int = Field(default=384, ge=16)
    """Width of the gated MLP."""
    max_positions: int = Field(default=2048, ge=128)
    """Longest sequence, in tokens."""
    initializer_range: float = Field(default=0.05, gt=0)
    """Standard deviation of the initial weights."""
