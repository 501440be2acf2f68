"""Which inference engine samples completions. Torch-free."""

from typing import Annotated, Literal

from pydantic import Field

from arpo.config import Config


class TransformersEngineConfig(Config):
    """The model in this process, shared with the trainer: on a CPU, on a GPU, and wherever runs must repeat exactly."""

    type: Literal["transformers"] = "transformers"
    """`transformers`: in-process, continuous batching over a key-value cache that forks."""


class VllmEngineConfig(Config):
    """vLLM in this process, beside the trainer's model: `pip install 'arpo[vllm]'`."""

    type: Literal["vllm"] = "vllm"
    """`vllm`: paged attention; prefix caching stands in for the fork."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of its weights; None means `model.dtype`."""
    gpu_memory_utilization: float = Field(default=0.4, gt=0, lt=1)
    """Share of the device's memory (on a CPU: of the main memory) for its weights and cache; the trainer needs the rest."""
    enforce_eager: bool = False
    """Run without compilation and CUDA graphs: starts faster, samples slower."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Most sequences of one forward pass; more wait."""


EngineConfig = Annotated[TransformersEngineConfig | VllmEngineConfig, Field(discriminator="type")]


def require_engine_can(config: EngineConfig, *, deterministic: bool, key: str) -> None:
    """Refuse what the engine cannot keep; `key` names the option in the message.

    Raises:
        ValueError: batches of fixed composition are asked of vLLM.
    """
    if config.type == "vllm" and deterministic:
        raise ValueError(
            f"{key} = true with engine.type = 'vllm': vLLM forms its batches by what has arrived, so their composition, and "
            f"with it the arithmetic, cannot be fixed; set {key} = false (draws keep their seeds) or engine.type = "
            f"'transformers'"
        )
