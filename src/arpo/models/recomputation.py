"""Activation checkpointing: a block's activations are computed again in the backward pass instead of kept.

A transformer of L blocks then keeps the input of each block and the activations of one, not those of L, for a second forward
pass: about a third more work (Chen et al., arXiv:1604.06174). Gradients are the same to the bit where the kernels are
deterministic, as on a CPU. PyTorch's non-reentrant form is used, which takes keyword arguments, such as a layout, and frozen
inputs, as with an adapter.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from arpo.errors import ConfigError


def recompute_blocks(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, whose blocks are computed again in the backward pass.

    Transformers' own switch acts in training mode only; a policy stays in evaluation mode, as an engine may share it. Without
    gradient nothing changes.

    Raises:
        ConfigError: the architecture has no blocks that transformers can checkpoint.
    """
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise ConfigError(
            f"model.gradient_checkpointing = true: {type(model).__name__} has no blocks to compute again; set it to false"
        )
    for block in blocks:
        block.forward = _Recomputed(block.forward)
    return model


class _Recomputed:
    """The forward function of a block; with gradient it keeps its inputs alone."""

    def __init__(self, forward: Callable[..., Any]):
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **kwargs)
        # no block draws random numbers: a policy is in evaluation mode, without dropout
        return checkpoint(self._forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
