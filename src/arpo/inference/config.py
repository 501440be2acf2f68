"""Which inference engine samples completions. Torch-free."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from arpo.clients.config import RetryingHttpConfig, ServedModelConfig
from arpo.config import Config
from arpo.errors import ConfigError
from arpo.ranks import num_ranks


class EngineConfigBase(Config):
    """The abilities of each kind of engine, as class attributes; other code asks for these, never for the type."""

    is_deterministic: ClassVar[bool] = False
    """Whether it can fix the composition of its batches, so that runs repeat to the bit."""
    can_train: ClassVar[bool] = True
    """Whether it reports ids, log-probs and entropies of the exact tokens it sampled, and accepts weights."""
    shares_model: ClassVar[bool] = False
    """Whether it runs the trainer's model, so that its log-probs need no correction."""
    loads_model: ClassVar[bool] = True
    """Whether it loads the weights in `model.path`; False: at most the tokenizer is read from there."""
    takes_device: ClassVar[bool] = True
    """Whether it runs on `model.device`; False: it finds its device by itself."""

    @property
    def takes_text(self) -> bool:
        """Whether it takes messages instead of token ids, and so needs no tokenizer."""
        return False

    def computes_in(self, model_dtype: str) -> str:
        """Number format of its weights, as torch names it; `model_dtype` is that of `model.dtype`."""
        return model_dtype


class TransformersEngineConfig(EngineConfigBase):
    """The model in this process, shared with the trainer: on a CPU, on a GPU, and wherever runs must repeat exactly."""

    is_deterministic: ClassVar[bool] = True
    shares_model: ClassVar[bool] = True

    type: Literal["transformers"] = "transformers"
    """`transformers`: in-process, continuous batching over a key-value cache that forks."""


class VllmEngineConfig(EngineConfigBase):
    """vLLM in this process, beside the trainer's model: `pip install 'arpo[vllm]'`. It finds its device by itself."""

    takes_device: ClassVar[bool] = False

    type: Literal["vllm"] = "vllm"
    """`vllm`: paged attention; prefix caching replaces the fork."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of its weights; None means `model.dtype`."""
    gpu_memory_utilization: float = Field(default=0.4, gt=0, lt=1)
    """Share of the device's memory (CPU: of main memory) for weights and cache; the trainer needs the rest."""
    enforce_eager: bool = False
    """True: no compilation and no CUDA graphs; starts faster, samples slower."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Most sequences of one forward pass; more wait."""

    def computes_in(self, model_dtype: str) -> str:
        """As `EngineConfigBase.computes_in`."""
        return self.dtype or model_dtype


class OpenAIEngineConfig(EngineConfigBase, ServedModelConfig):
    """A model behind an OpenAI-compatible server; arpo runs the tools. For `arpo eval` only."""

    can_train: ClassVar[bool] = False
    loads_model: ClassVar[bool] = False
    sets: ClassVar[frozenset[str]] = ServedModelConfig.sets | {"prompt", "stop", "return_token_ids"}

    type: Literal["openai"] = "openai"
    """`openai`: a server that speaks the OpenAI protocol (vLLM, SGLang, llama.cpp, hosted ones)."""
    api: Literal["completions", "chat"] = "completions"
    """`completions`: sends token ids, encoded by the tokenizer in `model.path`, which must be the served model's. `chat`: sends
    messages, for a model whose tokenizer is unavailable: without `model`, with `agent.protocol.type = "tags"`; four bytes of
    UTF-8 count as a token in `agent` and in the records."""
    http: RetryingHttpConfig = RetryingHttpConfig(timeout_s=600.0)
    """Timeout and retries of requests."""

    @property
    def takes_text(self) -> bool:
        """As `EngineConfigBase.takes_text`."""
        return self.api == "chat"

    @property
    def api_path(self) -> str:
        """The path after `base_url` in the address of a request."""
        return "completions" if self.api == "completions" else "chat/completions"


EngineConfig = Annotated[TransformersEngineConfig | VllmEngineConfig | OpenAIEngineConfig, Field(discriminator="type")]


def require_deterministic(config: EngineConfig, key: str) -> None:
    """Refuse an engine that cannot fix the composition of its batches, as the option `key` requires.

    Raises:
        ValueError: the engine cannot.
    """
    if not config.is_deterministic:
        raise ValueError(
            f"{key} = true with engine.type = {config.type!r}: this engine forms its batches from the requests that have "
            f"arrived, so their composition, and with it the arithmetic, varies; set {key} = false (draws keep their seeds) or "
            f"engine.type = {_types_with('is_deterministic')}"
        )


def require_sampled_tokens(config: EngineConfig, purpose: str) -> None:
    """Refuse an engine that reports less of a token than training needs; the message names `purpose`, a command.

    Raises:
        ValueError: the engine reports less.
    """
    if not config.can_train:
        raise ValueError(
            f"engine.type = {config.type!r} is for `arpo eval` only: {purpose} needs the ids, log-probs and entropies of the "
            f"exact tokens that were sampled, which this engine does not report; set engine.type to {_types_with('can_train')}"
        )


def require_engine_of_rank(config: EngineConfig) -> None:
    """Refuse, where torchrun started several processes, an engine that is not made for them.

    Raises:
        ConfigError: the engine does not run in each process beside the others.
    """
    if num_ranks() > 1 and not config.shares_model:
        raise ConfigError(
            f"engine.type = {config.type!r}: under torchrun each process samples with an engine of its own, in process; set "
            f"engine.type = {_types_with('shares_model')}, or start one process without torchrun"
        )


def _types_with(ability: str) -> str:
    kinds: tuple[type[EngineConfigBase], ...] = get_args(get_args(EngineConfig)[0])
    return " or ".join(repr(kind.model_fields["type"].default) for kind in kinds if getattr(kind, ability))
