"""One attention implementation for every model, whose mask and cache come from a layout object.

Transformers calls the registered function `arpo` in each layer and passes on the `layout` keyword given to the model. Tokens
are packed without padding, [1, tokens]; the layout says which token sees which. `batching` lays out trees for training,
`inference` lays out running sequences over their cache. Works for every architecture that takes its attention from the
transformers attention interface (Qwen2, Qwen3, Llama and most others).
"""

from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from arpo.errors import ModelError

ATTENTION_NAME = "arpo"


class AttentionLayout(Protocol):
    """Decides, for packed tokens, which keys each query sees."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention output [tokens, heads, dim] from query [tokens, heads, dim], key and value [tokens, kv_heads, dim]."""
        ...


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    layout: AttentionLayout,
    **_: object,
) -> tuple[Tensor, None]:
    """The function transformers calls: query [1, heads, tokens, dim] in, output [1, tokens, heads, dim] out."""
    packed = (states[0].transpose(0, 1) for states in (query, key, value))
    return layout.attend(module.layer_idx, *packed, scale=scaling).unsqueeze(0), None  # pyright: ignore[reportArgumentType]


AttentionInterface.register(ATTENTION_NAME, _attention)


def use_layout_attention(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, taking its attention from a layout.

    Raises:
        ModelError: the model has sliding-window or other layers whose mask a layout does not describe.
    """
    layer_types = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        raise ModelError(f"{model.config.model_type}: layers of type {sorted(layer_types)}; only full attention is supported")
    model.set_attn_implementation(ATTENTION_NAME)
    return model


def forward_hidden(model: PreTrainedModel, token_ids: Tensor, positions: Tensor, layout: AttentionLayout) -> Tensor:
    """Last hidden states [tokens, hidden] of packed `token_ids` [tokens] at `positions` [tokens]."""
    output = model.base_model(
        input_ids=token_ids.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False, layout=layout
    )
    return output.last_hidden_state[0]


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [tokens, vocab] of hidden states, in float32 at least."""
    logits: Tensor = cast(torch.nn.Module, model.get_output_embeddings())(hidden)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
