"""Float32 masters of low-precision weights: nothing of a small step is lost, and float32 models keep their bits."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.batching.packing import PackNode, pack_trees
from arpo.distributed.world import ALONE
from arpo.models.policy import PolicyModel
from arpo.training.config import OptimizerConfig
from arpo.training.optimizer import MasterAdamW, build_optimizer, optimizer_step
from arpo.training.optimizer_file import load_optimizer, save_optimizer

LOW = [torch.bfloat16, torch.float16]
ALL = [*LOW, torch.float32, torch.float64]


def make_network(dtype: torch.dtype) -> Qwen3ForCausalLM:
    """Qwen3's shape and initial weights of 0.02, as of its released code."""
    config = Qwen3Config(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=128, tie_word_embeddings=True, initializer_range=0.02,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen3ForCausalLM(config).to(dtype)  # pyright: ignore[reportArgumentType]


def optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def share_moved(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Share of the entries of the matrices that differ."""
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b.dim() == 2]
    return sum(int((b != a).sum()) for b, a in pairs) / sum(b.numel() for b, _ in pairs)


def train(network: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, num_updates: int) -> None:
    generator = torch.Generator().manual_seed(1)
    nodes = [[PackNode(None, row, [False] + [True] * 15)] for row in torch.randint(256, (8, 16), generator=generator).tolist()]
    policy, packed = PolicyModel(network), pack_trees(nodes)
    for _ in range(num_updates):
        (-policy(packed)[0].mean()).backward()
        assert optimizer_step(optimizer, 1e-6, 1.0) is not None


def test_as_many_masters_move_as_weights_in_float32():
    """100 updates of 1e-6, each of Adam's size, move a weight by up to 1e-4.

    A weight of 0.02 has a spacing of 2^-6 * 2^-7 = 1.2e-4 in bfloat16: one step of 1e-6 is a sixtieth of what rounds up
    (6e-5), so AdamW on the weights themselves moves only those near 0; the sum of the steps passes 6e-5, so most copies move
    with masters.
    """
    moved: dict[torch.dtype, tuple[float, float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        network = make_network(dtype)
        optimizer = build_optimizer(network, OptimizerConfig())
        sides = (optimized(optimizer), list(network.parameters()))
        before = [[p.detach().clone() for p in side] for side in sides]
        train(network, optimizer, 100)
        moved[dtype] = (share_moved(before[0], sides[0]), share_moved(before[1], sides[1]))
    assert moved[torch.float32][0] > 0.99
    assert moved[torch.bfloat16][0] == pytest.approx(moved[torch.float32][0], abs=0.005), "the masters"
    assert 0.7 < moved[torch.bfloat16][1] < 0.97, "their bfloat16 copies"

    network = make_network(torch.bfloat16)
    before = [p.detach().clone() for p in network.parameters()]
    train(network, torch.optim.AdamW(network.parameters(), lr=1e-6), 100)
    assert share_moved(before, list(network.parameters())) < 0.05, "the case that needs masters"


@pytest.mark.parametrize("dtype", LOW)
def test_the_network_is_the_rounded_masters_and_the_masters_follow_float32(dtype: torch.dtype):
    """A weight of 1 and the gradients 1, 1: Adam's steps are 1e-4 each, which both formats round away from 1."""
    module = nn.Linear(1, 1, bias=False).to(dtype)
    exact = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    nn.init.ones_(exact.weight)
    optimizers = [build_optimizer(m, OptimizerConfig(weight_decay=0.0)) for m in (module, exact)]
    for _ in range(50):
        for m, optimizer in zip((module, exact), optimizers, strict=True):
            m(torch.ones(1, 1, dtype=m.weight.dtype)).sum().backward()
            optimizer_step(optimizer, 1e-4, 10.0)
        assert torch.equal(module.weight, optimizers[0].masters[0][1].to(dtype)), "to nearest"
    (_, master), *others = optimizers[0].masters
    assert not others
    assert master.dtype == torch.float32
    assert torch.allclose(master, exact.weight, rtol=0, atol=1e-7)
    assert float(exact.weight) == pytest.approx(1 - 50 * 1e-4, abs=1e-6)
    assert float(module.weight) != 1.0
    state = optimizers[0].state[master]
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float32


@pytest.mark.parametrize("dtype", LOW)
def test_micro_batches_add_up_in_float32_and_leave_no_second_gradient(dtype: torch.dtype):
    """1 + 2^-12 eight times is 1.001953125; bfloat16 keeps 8 bits and float16 11, so both would stay at 1."""
    module = nn.Linear(1, 1, bias=False).to(dtype)
    optimizer = build_optimizer(module, OptimizerConfig())
    for value in (1.0, *[2.0**-12] * 8):
        module(torch.full((1, 1), value, dtype=dtype)).sum().backward()
        assert module.weight.grad is None
    assert optimizer.masters[0][1].grad is not None
    assert float(optimizer.masters[0][1].grad) == 1 + 8 * 2.0**-12
    assert optimizer_step(optimizer, 0.0, 100.0) == 1 + 8 * 2.0**-12, "the norm is of the float32 gradient"
    assert optimizer.masters[0][1].grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_in_float32_or_float64_is_trained_as_by_torch_to_the_bit(dtype: torch.dtype):
    ours, theirs = make_network(dtype), make_network(dtype)
    optimizer = build_optimizer(ours, OptimizerConfig(learning_rate=1e-6))
    assert not optimizer.masters
    matrices, vectors = ([p for p in theirs.parameters() if (p.dim() >= 2) == flag] for flag in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    assert [id(p) for p in optimized(optimizer)] == [
        id(p) for flag in (True, False) for p in ours.parameters() if (p.dim() >= 2) == flag
    ]
    train(ours, optimizer, 3)
    train(theirs, torch.optim.AdamW(groups, lr=1e-6, betas=(0.9, 0.999), fused=True), 3)
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("dtype", ALL)
def test_tied_weights_have_one_master_and_frozen_weights_none(dtype: torch.dtype):
    network = make_network(dtype)
    network.model.layers[0].requires_grad_(False)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = build_optimizer(network, OptimizerConfig())
    assert len(optimized(optimizer)) == len({id(p) for p in trained}) == len(trained)
    assert {id(p) for p, _ in optimizer.masters} == ({id(p) for p in trained} if dtype in LOW else set())
    assert network.lm_head.weight is network.model.embed_tokens.weight


def test_an_update_that_is_not_finite_leaves_masters_moments_and_network():
    network = make_network(torch.bfloat16)
    optimizer = build_optimizer(network, OptimizerConfig())
    train(network, optimizer, 1)
    before = copy.deepcopy((optimizer.state_dict(), network.state_dict(), [master for _, master in optimizer.masters]))
    for _, master in optimizer.masters:
        master.grad = torch.full_like(master, float("inf"))
    assert optimizer_step(optimizer, 1.0, 1.0) is None
    after = (optimizer.state_dict(), network.state_dict())
    assert all(torch.equal(a, b) for a, (_, b) in zip(before[2], optimizer.masters, strict=True))
    assert all(torch.equal(before[0]["state"][i]["exp_avg"], s["exp_avg"]) for i, s in after[0]["state"].items())
    assert all(torch.equal(value, after[1][name]) for name, value in before[1].items())


def test_what_is_saved_goes_on_as_if_never_stopped(tmp_path: Path):
    """The bfloat16 weights alone would not do: 8 bits of the master's 24 are in them."""
    networks = [make_network(torch.bfloat16) for _ in range(3)]
    whole, first, second = (build_optimizer(network, OptimizerConfig()) for network in networks)
    train(networks[0], whole, 6)
    train(networks[1], first, 3)
    save_optimizer(networks[1], first, tmp_path, ALONE)
    load_optimizer(networks[2], second, tmp_path, ALONE)
    train(networks[2], second, 3)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole.masters, second.masters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(networks[0].parameters(), networks[2].parameters(), strict=True))
    assert any(not torch.equal(master, p.float()) for p, master in second.masters)


def test_gradients_go_to_the_latest_optimizer():
    module = nn.Linear(1, 1, bias=False).bfloat16()
    former, latest = (MasterAdamW([{"params": [module.weight]}], lr=1.0) for _ in range(2))
    module(torch.ones(1, 1, dtype=torch.bfloat16)).sum().backward()
    assert former.masters[0][1].grad is None
    assert latest.masters[0][1].grad is not None
    assert float(latest.masters[0][1].grad) == 1.0


def test_masters_start_from_the_finer_values_of_the_file(tmp_path: Path):
    """A weight of 0.02 has a spacing of 1.2e-4 in bfloat16; one step of 3e-6 moves a fortieth of the copies.

    From the network's own value, in the middle between two roundings, one such step moves none but the smallest weights.
    """
    exact = make_network(torch.float32)
    exact.save_pretrained(tmp_path / "float32")
    make_network(torch.bfloat16).save_pretrained(tmp_path / "bfloat16")
    moved: dict[str, float] = {}
    for name in ("float32", "bfloat16"):
        network = make_network(torch.bfloat16)
        before = [p.detach().clone() for p in network.parameters()]
        optimizer = build_optimizer(PolicyModel(network), OptimizerConfig(), tmp_path / name)
        assert all(torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))
        values = dict(exact.named_parameters()) if name == "float32" else {n: p.float() for n, p in network.named_parameters()}
        masters = dict(optimizer.masters)
        assert [n for n, p in network.named_parameters() if not torch.equal(masters[p], values[n])] == []
        for master in masters.values():
            master.grad = torch.ones_like(master)
        optimizer_step(optimizer, 3e-6, 1e9)
        moved[name] = share_moved(before, list(network.parameters()))
    assert moved["float32"] > 0.02
    assert moved["bfloat16"] < moved["float32"] / 2


def test_a_file_of_other_values_changes_no_master(tmp_path: Path):
    other = make_network(torch.float32)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    other.save_pretrained(tmp_path)
    network = make_network(torch.bfloat16)
    optimizer = build_optimizer(network, OptimizerConfig(), tmp_path)
    assert all(torch.equal(master, parameter.float()) for parameter, master in optimizer.masters)
