"""A model on paper: its parameters and what they take, from config.json alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from arpo.errors import ModelError
from arpo.models.config import ModelConfig, TrainedModelConfig
from arpo.models.lora import add_adapter
from arpo.models.recomputation import recompute_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Parameters of a model, tied ones once, and the bytes that training holds for them on each rank, from step to step.

    Formulas: AdamW has two moments per trained parameter (arXiv:1412.6980, algorithm 1). A parameter of less than 32 bits gets
    a float32 master, and its gradient and moments are float32 (mixed precision, arXiv:1710.03740, section 3.1): 2 + 4 + 4 + 8 =
    18 bytes. One of float32 is its own master: 4 + 4 + 8 = 16 bytes. A frozen one has its weight alone.

    On N ranks each holds the Nth part of all of it, without the bfloat16 weights of masters, which are gathered from them:
    16 / N bytes per trained parameter. Besides there are whole weights in the format of passes: all while sampling and when a
    model is written; in a pass those outside of blocks and two blocks, and backward the gradients of one block in both formats.

    Example: 100 bfloat16 parameters, all trained: weights 200, masters 400, gradients 400, moments 800 bytes. On 4 ranks
    masters 100, gradients 100, moments 200, and 200 gathered.
    """

    parameters: int
    """All parameters."""
    trained: int
    """Those that train."""
    weights: int
    """Bytes of the weights."""
    masters: int
    """Bytes of the float32 copies of trained weights of less than 32 bits."""
    gradients: int
    """Bytes of the gradients of the trained parameters."""
    largest: int
    """Bytes of the largest gradient."""
    gathered: int = 0
    """Bytes of the whole weights on a rank while it samples; 0 on one rank, whose weights are whole."""
    gathered_in_pass: int = 0
    """Bytes of the weights that a pass gathers at once; 0 on one rank."""
    gathered_gradients: int = 0
    """Bytes of a block's gradients before they are summed over ranks; 0 on one rank."""

    @property
    def moments(self) -> int:
        """Bytes of AdamW's moments."""
        return 2 * self.gradients

    @property
    def states(self) -> int:
        """Bytes that a step of training cannot do without: weights, masters, gradients and moments; or the gathered weights.

        Gradients and gathered weights are not there at the same time.
        """
        return self.weights + self.masters + self.moments + max(self.gradients, self.gathered)


def model_size(model: PreTrainedModel, num_ranks: int = 1) -> ModelSize:
    """The size of a model, real or on paper, on each of some ranks."""
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    gradients = [p.numel() * max(4, p.element_size()) for p in trained]
    masters = sum(4 * p.numel() for p in trained if p.element_size() < 4)
    weights = sum(p.numel() * p.element_size() for p in parameters)
    of_blocks = [_bytes(block.parameters()) for block in model.modules() if isinstance(block, GradientCheckpointingLayer)]
    gradients_of_blocks = [
        sum(p.numel() * (p.element_size() + max(4, p.element_size())) for p in block.parameters() if p.requires_grad)
        for block in model.modules() if isinstance(block, GradientCheckpointingLayer)
    ]  # fmt: skip
    is_shared = num_ranks > 1
    return ModelSize(
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in trained),
        weights=-(-(weights - (masters // 2 if is_shared else 0)) // num_ranks),
        masters=-(-masters // num_ranks),
        gradients=-(-sum(gradients) // num_ranks),
        largest=-(-max(gradients, default=0) // num_ranks),
        gathered=weights if is_shared else 0,
        gathered_in_pass=weights - sum(of_blocks) + 2 * max(of_blocks, default=0) if is_shared else 0,
        gathered_gradients=max(gradients_of_blocks, default=0) if is_shared else 0,
    )


def _bytes(parameters: Iterable[torch.nn.Parameter]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)


def outline_policy(config: ModelConfig) -> PreTrainedModel:
    """The policy of a configuration with shapes and without numbers, on torch's device `meta`.

    As `loading.load_trained_policy`, from config.json alone: with its adapter, and its blocks computed again where that is set.

    Raises:
        ConfigError: as `load_trained_policy`.
        ModelError: the directory has no readable config.json of an architecture that transformers knows.
    """
    try:
        architecture = AutoConfig.from_pretrained(
            config.path, revision=config.revision or "main", local_files_only=True, trust_remote_code=False
        )
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                architecture, dtype=getattr(torch, config.dtype), trust_remote_code=False
            ).eval()
    except Exception as error:  # transformers reads a directory's files without checks
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"model.path = '{config.path}': its memory cannot be told ({reason}); name a directory with the config.json of a "
            f"causal language model, whose weights are not needed"
        ) from error
    if isinstance(config, TrainedModelConfig):
        if config.lora is not None:
            with torch.device("meta"):
                add_adapter(model, config.lora, seed=0)
        if config.gradient_checkpointing:
            recompute_blocks(model)
    return model


def put_on_paper(outline: PreTrainedModel) -> PreTrainedModel:
    """The outline as a model on a CPU that has a shape and no numbers, within `allocation.trace_allocations`."""
    model = outline.to_empty(device="cpu")
    model.tie_weights()
    return model


def cache_bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of one token's keys and values in all layers, in the model's number format.

    Formula: 2 * layers * key-value heads * head size * bytes per number (keys and values; grouped queries share them,
    arXiv:2305.13245).

    Example: Llama-3.1-8B in bfloat16, 32 layers, 8 key-value heads of 128: 2 * 32 * 8 * 128 * 2 = 131,072 bytes.
    """
    config = model.config.get_text_config()
    kv_heads, head_dim = cache_shape(config)
    return 2 * config.num_hidden_layers * kv_heads * head_dim * model.dtype.itemsize


def cache_shape(config: object) -> tuple[int, int]:
    """Key-value heads and head size of an architecture's configuration."""
    heads: int = config.num_attention_heads  # pyright: ignore[reportAttributeAccessIssue]
    hidden: int = config.hidden_size  # pyright: ignore[reportAttributeAccessIssue]
    return getattr(config, "num_key_value_heads", None) or heads, getattr(config, "head_dim", None) or hidden // heads
