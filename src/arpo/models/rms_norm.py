"""Root-mean-square norms with few passes over memory, forward and backward."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

_ALIKE = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}
"""Classes of transformers equivalent to `RMSNorm`; others have an offset or a gate."""


class RMSNorm(nn.Module):
    """y = w x / sqrt(mean(x^2) + eps) over the last dimension.

    As in transformers, the result is rounded to the input's format before the weight; but float64 is computed in float64, not
    float32, and there are fewer passes over memory, above all backward.
    """

    def __init__(self, weight: nn.Parameter, variance_epsilon: float):
        """A norm with an existing weight [size]."""
        super().__init__()
        self.weight = weight
        self.variance_epsilon = variance_epsilon

    def forward(self, states: Tensor) -> Tensor:
        """The norm of states [..., size]."""
        if torch.is_grad_enabled():
            return cast(Any, _RmsNorm).apply(states, self.weight, self.variance_epsilon)
        return _norm_and_scale(states, self.weight, self.variance_epsilon)[0]


def fuse_norms(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with equivalent norms replaced by `RMSNorm`; parameters and their names do not change."""
    alike = [(name, module) for name, module in model.named_modules() if type(module).__name__ in _ALIKE]
    for name, module in alike:
        model.set_submodule(name, RMSNorm(cast(nn.Parameter, module.weight), cast(float, module.variance_epsilon)))
    return model


def _norm_and_scale(states: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The norm of the states, and 1 / sqrt(mean(x^2) + eps) [..., 1]."""
    exact = states.to(torch.promote_types(states.dtype, torch.float32))
    norms = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
    scale = norms.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
    unit = exact * scale
    return unit.mul_(weight) if unit.dtype == states.dtype == weight.dtype else unit.to(states.dtype) * weight, scale


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        result, scale = _norm_and_scale(states, weight, epsilon)
        ctx.save_for_backward(states, weight, scale)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The layer-norm kernel with mean 0, plus the term that it subtracts because its mean depends on the input.

        Formula: with y = x s and g the gradient times w, s (g - mean(g) - y mean(g y)) + s mean(g).
        """
        states, weight, scale = ctx.saved_tensors
        exact, gradient, factor = (t.to(scale.dtype) for t in (states, gradients[0], weight))
        of_states, of_weight, _ = torch.ops.aten.native_layer_norm_backward(
            gradient.contiguous(), exact, weight.shape, torch.zeros_like(scale), scale, factor, None, [True, True, False]
        )
        of_states.add_(scale * (gradient @ factor).div_(len(factor)).unsqueeze(-1))
        return of_states.to(states.dtype), of_weight.to(weight.dtype), None
