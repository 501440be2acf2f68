"""Which inference engine samples completions. Torch-free."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from arpo.clients.config import RetryingHttpConfig, ServedModelConfig
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


class OpenAIEngineConfig(ServedModelConfig):
    """A model behind an OpenAI-compatible server, with the tools on our side. For `arpo eval` only."""

    type: Literal["openai"] = "openai"
    """`openai`: a server that speaks the OpenAI protocol (vLLM, SGLang, llama.cpp, hosted ones)."""
    api: Literal["completions", "chat"] = "completions"
    """`completions`: token ids go out, encoded by the tokenizer in `model.path`, which must be the served model's. `chat`:
    messages go out, for a model whose tokenizer is not at hand: without `model`, with `agent.protocol.type = "tags"`; four
    bytes of UTF-8 count as a token in `agent` and in the records."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request, as the server knows them, e.g. `{top_k = -1, repetition_penalty = 1.0}` for a vLLM
    server that takes other defaults from the model's generation_config.json."""
    http: RetryingHttpConfig = RetryingHttpConfig(timeout_s=600.0)
    """How the server is called."""

    @property
    def api_path(self) -> str:
        """What follows `base_url` in the address of a request."""
        return "completions" if self.api == "completions" else "chat/completions"

    @model_validator(mode="after")
    def _check_extra(self) -> Self:
        taken = sorted(_OWN_FIELDS & set(self.extra_body))
        if taken:
            raise ValueError(f"extra_body.{taken[0]} is what the evaluation sets itself for every request; leave it out")
        return self


_OWN_FIELDS = {"model", "prompt", "messages", "max_tokens", "temperature", "seed", "stop", "n", "stream", "return_token_ids"}

EngineConfig = Annotated[TransformersEngineConfig | VllmEngineConfig | OpenAIEngineConfig, Field(discriminator="type")]


def require_engine_can(config: EngineConfig, *, deterministic: bool, key: str) -> None:
    """Refuse what the engine cannot keep; `key` names the option in the message.

    Raises:
        ValueError: batches of fixed composition are asked of vLLM or of a server.
    """
    if config.type != "transformers" and deterministic:
        former = "vLLM" if config.type == "vllm" else "a server"
        raise ValueError(
            f"{key} = true with engine.type = {config.type!r}: {former} forms its batches by what has arrived, so their "
            f"composition, and with it the arithmetic, cannot be fixed; set {key} = false (draws keep their seeds) or "
            f"engine.type = 'transformers'"
        )


def require_sampled_tokens(config: EngineConfig, purpose: str) -> None:
    """Refuse a server where more than text is needed; `purpose` names the command in the message.

    Raises:
        ValueError: the engine is a server.
    """
    if config.type == "openai":
        raise ValueError(
            f"engine.type = 'openai' is for `arpo eval` only: {purpose} needs the ids, log-probs and entropies of the very "
            f"tokens that were sampled, which no server guarantees; set engine.type to 'transformers' or 'vllm'"
        )
