import math

import pytest
import torch
from torch import nn

from arpo.training.config import OptimizerConfig
from arpo.training.optimizer import build_optimizer, optimizer_step, scheduled_rate


def rates(num_updates: int, **values: object) -> list[float]:
    config = OptimizerConfig.model_validate({"learning_rate": 1.0, **values})
    return [scheduled_rate(config, update, num_updates) for update in range(num_updates)]


def test_linear_with_warm_up():
    """Two updates up, then from the peak to 0 behind the last of four more: 1, 3/4, 2/4, 1/4."""
    assert rates(6, warmup_steps=2, schedule="linear") == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_linear_to_a_fraction():
    """From 1 to 0.2: each of four updates takes 0.8 / 4 away."""
    assert rates(4, schedule="linear", final_fraction=0.2) == pytest.approx([1.0, 0.8, 0.6, 0.4])


def test_cosine():
    """(1 + cos(pi t / 4)) / 2 for t = 0 ... 3."""
    half = 0.5 * (1 + math.sqrt(0.5))
    assert rates(4, schedule="cosine") == pytest.approx([1.0, half, 0.5, 1 - half])


def test_constant_and_beyond_the_end():
    assert rates(3, learning_rate=0.1, warmup_steps=1) == pytest.approx([0.1, 0.1, 0.1])
    for schedule in ("linear", "cosine"):
        config = OptimizerConfig.model_validate({"learning_rate": 1.0, "schedule": schedule, "final_fraction": 0.1})
        assert scheduled_rate(config, 9, 4) == pytest.approx(0.1), "a schedule never falls below its end"
    assert rates(1, warmup_steps=5) == pytest.approx([0.2]), "a warm-up longer than the run"


def test_matrices_decay_and_vectors_do_not():
    """AdamW with zero gradients only decays: 1 - 0.1 * 0.5 = 0.95."""
    model = nn.Linear(2, 2)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(model.weight, torch.full((2, 2), 0.95))
    assert torch.equal(model.bias, torch.ones(2))


def test_frozen_parameters_are_left_out():
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerConfig())
    assert [p for group in optimizer.param_groups for p in group["params"]] == [model.bias]


def test_an_update_clips_moves_and_clears():
    """A gradient of (3, 4) has norm 5; clipped to 1 it is (0.6, 0.8), and a plain step at rate 0.5 subtracts (0.3, 0.4)."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([parameter], lr=123.0)
    parameter.grad = torch.tensor([3.0, 4.0])
    assert optimizer_step(optimizer, 0.5, max_grad_norm=1.0) == pytest.approx(5.0)
    assert torch.allclose(parameter, torch.tensor([-0.3, -0.4]), atol=1e-6)
    assert parameter.grad is None
