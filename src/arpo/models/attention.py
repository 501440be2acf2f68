"""One attention implementation for every model, whose mask and cache come from a layout object.

Transformers calls the registered function `arpo` in each layer with the `layout` keyword given to the model. Tokens are packed
without padding, [1, tokens]; the layout decides which token sees which. `batching` lays out trees for training, `inference`
lays out running sequences over their cache. This works for every architecture that takes its attention from the transformers
attention interface (Qwen2, Qwen3, Llama and most others).
"""

from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from arpo.errors import ModelError
from arpo.models.rms_norm import fuse_norms
from arpo.models.vocabulary import mask_logits, masked_rows

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
    **options: object,
) -> tuple[Tensor, None]:
    """The function that transformers calls: query [1, heads, tokens, dim] in, output [1, tokens, heads, dim] out."""
    changes = [name for name in _CHANGES if options.get(name) is not None]
    if changes or value.shape[-1] != query.shape[-1]:
        raise ModelError(_refusal(type(module).__name__, " and ".join(changes) or "values and keys of different sizes"))
    packed = (states[0].transpose(0, 1) for states in (query, key, value))
    return layout.attend(module.layer_idx, *packed, scale=scaling).unsqueeze(0), None  # pyright: ignore[reportArgumentType]


AttentionInterface.register(ATTENTION_NAME, _attention)

_CHANGES = ("softcap", "s_aux", "sliding_window", "position_bias")
"""Arguments with which some architectures change their scores or their mask."""


_LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")
"""Keys with which some architectures (Gemma 2, Cohere, Granite, Falcon-H1) cap or scale the logits of their head."""


def layout_obstacle(model: PreTrainedModel) -> str | None:
    """The feature that keeps the model from taking its attention from a layout; None if there is none."""
    config = model.config.get_text_config()
    if not type(model)._supports_attention_backend:
        return "an attention function of its own"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"layers of type {', '.join(sorted(kinds))}"
    if getattr(config, "layer_types", None) is None and getattr(config, "sliding_window", None) is not None:
        return f"a sliding window of {config.sliding_window} tokens"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return f"a cap on its attention scores of {config.attn_logit_softcapping}"
    return None


def use_layout_attention(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, taking its attention from a layout, with its norms fused.

    Raises:
        ModelError: the model's attention is not plain causal attention over all earlier tokens, so no layout describes it; or
            as `require_plain_head`.
    """
    obstacle = layout_obstacle(model)
    if obstacle is not None:
        raise ModelError(_refusal(model.config.model_type, obstacle))
    require_plain_head(model)
    model.set_attn_implementation(ATTENTION_NAME)
    return fuse_norms(model)


def head_obstacle(model: PreTrainedModel) -> str | None:
    """How the model caps or scales the logits of its head, so that log-probs from the head are wrong; None: not at all."""
    config = model.config.get_text_config()
    changes = {name: getattr(config, name, None) for name in _LOGIT_CHANGES}
    return next((f"{name} = {value}" for name, value in changes.items() if value not in (None, 1)), None)


def require_plain_head(model: PreTrainedModel) -> None:
    """Refuse a model that caps or scales the logits of its head.

    Raises:
        ModelError: it does.
    """
    obstacle = head_obstacle(model)
    if obstacle is not None:
        raise ModelError(
            f"{model.config.get_text_config().model_type}: its configuration has {obstacle}, which changes the logits of its "
            f"head; arpo does not compute that, so use a model without it"
        )


def _refusal(name: str, obstacle: str) -> str:
    return f'{name}: has {obstacle}, which packed trees do not support; to train it, set batching.packing = "flat"'


def forward_hidden(model: PreTrainedModel, token_ids: Tensor, positions: Tensor, layout: AttentionLayout) -> Tensor:
    """Last hidden states [tokens, hidden] of packed `token_ids` [tokens] at `positions` [tokens].

    A model with layout attention computes them in one pass. Any other model computes one sequence after the other, with a
    sequence starting at each position 0; it cannot run packed trees.

    Raises:
        ModelError: a packed tree, whose positions go back to a number other than 0, for a model without layout attention.
    """
    if model.config._attn_implementation == ATTENTION_NAME:
        return _forward(model, token_ids, positions, layout=layout)
    starts = (positions == 0).nonzero().flatten()
    goes_back = (positions[1:] != positions[:-1] + 1) & (positions[1:] != 0)
    if bool(goes_back.any()):
        raise ModelError(_refusal(model.config.model_type, layout_obstacle(model) or "its own attention switched on"))
    bounds = starts[1:].tolist()
    sequences = zip(token_ids.tensor_split(bounds), positions.tensor_split(bounds), strict=True)
    return torch.cat([_forward(model, *sequence) for sequence in sequences])


def _forward(model: PreTrainedModel, token_ids: Tensor, positions: Tensor, **options: object) -> Tensor:
    output = model.base_model(input_ids=token_ids.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False, **options)
    return output.last_hidden_state[0]


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [tokens, vocab] of hidden states, in float32 at least; rows without a token are masked."""
    return finished_logits(model, cast(torch.nn.Module, model.get_output_embeddings())(hidden))


def finished_logits(model: PreTrainedModel, logits: Tensor) -> Tensor:
    """What the model's head gives for some tokens, in float32 at least and masked; a float32 input is changed in place."""
    return mask_logits(logits.to(torch.promote_types(logits.dtype, torch.float32)), masked_rows(model))
