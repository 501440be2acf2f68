"""N ranks make the update of one: each loss, uneven trees, ranks without a tree, several updates per step.

Ranks add the same numbers in another order, so that results agree within rounding: 1e-10 in float64, 1e-5 in float32.
"""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.batching.packing import PackNode, pack_trees
from arpo.config import parse_config
from arpo.distributed.assignment import Share, assign, share_packs
from arpo.distributed.world import ALONE, World
from arpo.models.attention import forward_hidden
from arpo.training import update
from arpo.training.config import RlRun
from arpo.training.learner import Learner
from arpo.training.optimizer import MasterAdamW
from arpo.training.presets import preset_names
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Message, Reward, Task

KL = {"kl": {"coefficient": 0.3, "estimator": "k3"}}
OWN: dict[str, dict[str, Any]] = {
    "kl in the loss": {"algorithm": "grpo", "loss": KL},
    "kl off the reward": {"algorithm": "rloo", "loss": {"kl": {"coefficient": 0.3, "estimator": "k1"}}},
    "kl off the tokens": {"algorithm": "reinforce_pp", "loss": {"kl": {"coefficient": 0.3, "estimator": "k1"}}},
    "several updates": {"algorithm": "grpo", "updates_per_step": 2, "epochs_per_step": 2},
    "several updates, cispo": {"algorithm": "cispo", "epochs_per_step": 2},
    "several updates, gspo": {"algorithm": "gspo", "updates_per_step": 2, "epochs_per_step": 2},
    "a lora": {"algorithm": "grpo", "model": {"lora": {"rank": 4}}, "loss": KL},
    "blocks again": {"algorithm": "grpo", "model": {"gradient_checkpointing": True}},
    "flat packs": {"algorithm": "gspo", "batching": {"packing": "flat", "max_tokens": 96}},
    "entropy": {"algorithm": "aepo", "loss": {"entropy_coefficient": 0.1}},
}
"""What presets do not have."""
FEW = {"grpo": {"algorithm": "grpo"}, **{name: OWN[name] for name in ("kl off the reward", "several updates", "a lora")}}
PRESETS = {name: {"algorithm": name} for name in preset_names()}


def grow(seed: int, num_paths: int) -> RolloutTree:
    """A tree with a call, a result and a fork in it; trees of more paths are longer."""
    random = Random(seed)

    def numbers(most: int) -> list[int]:
        return [random.randrange(20, 90) for _ in range(random.randint(1, most))]

    def complete(parent: Node, **fields: Any) -> Node:
        ids = numbers(6)
        values = {"logprobs": [-random.random() for _ in ids], "entropies": [random.random() for _ in ids]}
        return tree.append(parent, NodeKind.COMPLETION, ids, **values, **fields)

    task = Task(id=f"t{seed}", messages=(Message(role="user", content="?"),), references=("a",), source="s")
    tree = RolloutTree.from_prompt(task, numbers(8))
    tree.settings = {"num_initial": max(1, num_paths // 2)}
    for _ in range(max(1, num_paths // 2)):
        seen = tree.append(complete(tree.root), NodeKind.OBSERVATION, numbers(5))
        for fork in range(2):
            complete(seen, is_branch=fork > 0, is_done=True).reward = Reward(value=random.choice([-1.0, 0.0, 1.0]))
    tree.leaves()[0].reward, tree.leaves()[-1].reward = Reward(value=1.0), Reward(value=0.0)
    return tree


STEPS = [
    [grow(i, paths) for i, paths in enumerate((2, 9, 4, 3, 6))],  # an odd number of uneven trees
    [grow(7, 4)],  # a tree for one rank alone, in a pack or so
    [grow(10 + i, 4) for i in range(4)],
]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, make_tokenizer_directory: Any) -> Path:
    """A random Qwen3 of three layers, whose weights no number of ranks divides."""
    directory = make_tokenizer_directory(tmp_path_factory.mktemp("model"), "qwen3")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=350, hidden_size=34, intermediate_size=45, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=10, max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(directory)
    return directory


def make_learner(model: Path, values: dict[str, Any], world: World, dtype: str) -> Learner:
    data: dict[str, Any] = {
        "out": model, "tasks": model, "tasks_per_step": 5, "num_steps": 9, "batching": {"max_tokens": 96},
        "optimizer": {"learning_rate": 1e-3, "max_grad_norm": 0.5},
        "agent": {"protocol": {"tools": [], "system_prompt": ""}, "limits": {"max_trajectory_tokens": 96}},
    }  # fmt: skip
    values = data | values | {"model": {"path": model, "dtype": dtype} | values.get("model", {})}
    return Learner(parse_config(RlRun, values, "test"), world)


def weights(learner: Learner) -> Tensor:
    """Every weight, whole on every rank between updates."""
    return torch.cat([p.detach().double().flatten() for p in learner.policy.parameters()])


def learn_with_sgd(model: Path, values: dict[str, Any], world: World, dtype: str) -> tuple[Tensor, dict[str, float]]:
    """The step of plain gradient descent, its gradient times the rate, and the metrics."""
    learner = make_learner(model, values, world, dtype)
    before = weights(learner)
    groups = [group | {"lr": 1.0, "weight_decay": 0.0} for group in learner.optimizer.param_groups]
    learner.optimizer = torch.optim.SGD([{"params": group["params"]} for group in groups], lr=1.0)  # type: ignore[assignment]
    metrics = learner.learn(STEPS[0])
    return weights(learner) - before, metrics


def learn_with_adamw(model: Path, values: dict[str, Any], world: World, dtype: str) -> tuple[Tensor, dict[str, float]]:
    """The weights after five steps of AdamW."""
    learner = make_learner(model, values, world, dtype)
    metrics = [learner.learn(STEPS[step % len(STEPS)]) for step in range(5)][-1]
    return weights(learner), metrics


def require_equal(found: Any, expected: Any, tolerance: float, name: str) -> None:
    (tensor, metrics), (of_one, metrics_of_one) = found, expected
    assert float((tensor - of_one).abs().max()) <= tolerance * max(1.0, float(of_one.abs().max())), name
    assert metrics.keys() == metrics_of_one.keys(), name
    for key, value in metrics_of_one.items():
        assert metrics[key] == pytest.approx(value, rel=1e3 * tolerance, abs=1e3 * tolerance), (name, key)


def compare(ranks: Any, model: Path, size: int, cases: dict[str, dict[str, Any]], dtype: str, tolerance: float) -> None:
    """All cases in one start of the ranks."""

    def work(world: World) -> dict[str, Any]:
        results = {}
        for name, values in cases.items():
            results[f"{name}, gradient"] = learn_with_sgd(model, values, world, dtype)
            if dtype == "float64":
                results[f"{name}, weights"] = learn_with_adamw(model, values, world, dtype)
        return results

    [expected] = ranks(1, work)
    for found in ranks(size, work):
        for name, of_one in expected.items():
            require_equal(found[name], of_one, tolerance, name)


def test_two_ranks_learn_as_one(ranks: Any, model: Path):
    compare(ranks, model, 2, FEW, "float64", 1e-10)


def test_masters_are_sharded_and_passes_compute_in_bfloat16(ranks: Any, model: Path):
    """The masters are the float32 values of the file; a step of 2 ranks is that of one but for bfloat16's rounding."""

    def masters(learner: Learner, optimizer: MasterAdamW) -> dict[str, Tensor]:
        with learner.sharding.scattered():
            found = {name: p.detach() for name, p in optimizer.named_weights(learner.policy.network)}
            return {name: p.full_tensor() if hasattr(p, "full_tensor") else p.clone() for name, p in found.items()}

    def work(world: World) -> tuple[str, bool, Tensor]:
        learner = make_learner(model, FEW["grpo"], world, "bfloat16")
        dtype, optimizer, stored = learner.policy.network.dtype, learner.optimizer, load_file(model / "model.safetensors")
        before = masters(learner, optimizer)
        learner.optimizer = torch.optim.SGD([{"params": g["params"]} for g in optimizer.param_groups], lr=1.0)  # type: ignore[assignment]
        learner.learn(STEPS[0])
        step = torch.cat([(value - before[name]).flatten() for name, value in masters(learner, optimizer).items()])
        return str(dtype), all(torch.equal(value, stored[name]) for name, value in before.items()), step

    [(_, _, of_one)] = ranks(1, work)
    for dtype, is_exact, step in ranks(2, work):
        assert (dtype, is_exact) == ("torch.bfloat16", True)
        assert 0 < float((step - of_one).norm()) < 0.03 * float(of_one.norm())


@pytest.mark.distributed
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_every_loss_on_several_ranks(ranks: Any, model: Path, size: int, dtype: str, tolerance: float):
    compare(ranks, model, size, PRESETS | OWN, dtype, tolerance)


def test_ranks_decode_as_often_as_they_like(ranks: Any, model: Path):
    """Passes of an engine before an update, more on one rank than on the other, change nothing and keep nobody waiting."""
    nodes = [[PackNode(None, [1, 2, 3], [False, False, True])]]

    def work(world: World) -> Tensor:
        learner = make_learner(model, FEW["grpo"], world, "float64")
        network, packed = learner.policy.network, pack_trees(nodes)
        for step in STEPS[:2]:
            with torch.inference_mode():
                for _ in range(3 * (world.size - world.rank - 1)):
                    forward_hidden(network, packed.token_ids, packed.positions, packed.layout)
            learner.learn(step)
        return weights(learner)

    [of_one] = ranks(1, work)
    for found in ranks(2, work, timeout_seconds=20):
        assert float((found - of_one).abs().max()) < 1e-10


def test_a_mean_of_the_gradients_would_be_seen(ranks: Any, model: Path, monkeypatch: pytest.MonkeyPatch):
    """The comparison is sharp: with FSDP's default, which divides by the number of ranks, it fails."""
    from torch.distributed.fsdp import FSDPModule

    monkeypatch.setattr(FSDPModule, "set_gradient_divide_factor", lambda *_: None)
    with pytest.raises(AssertionError, match="grpo, gradient"):
        compare(ranks, model, 2, {"grpo": PRESETS["grpo"]}, "float64", 1e-10)


def test_a_rank_without_passes_would_be_waited_for(ranks: Any, model: Path, monkeypatch: pytest.MonkeyPatch):
    """Without passes of no weight the ranks wait for each other until the time limit, whose message says what to do."""

    def own_only(sizes: list[int], world: World) -> Share:
        share = share_packs(sizes, world)
        return Share(share.indices[: share.num_own], share.num_own)

    monkeypatch.setattr(update, "share_packs", own_only)
    _, errors = ranks.run(2, lambda world: learn_with_sgd(model, PRESETS["grpo"], world, "float64"), timeout_seconds=4)
    assert any("did not answer within distributed.timeout_seconds = 4" in text for text in errors.values()), errors
    assert all("go on with `x`" in text for text in errors.values()), errors


def test_packs_go_to_the_rank_with_the_fewest_tokens():
    """9 to rank 0, 5 to rank 1, 4 to rank 1 (5 < 9), 4 to rank 0, as 9 tie 9."""
    assert assign([5, 9, 4, 4], 2) == [[1, 3], [0, 2]]
    assert assign([3], 4) == [[0], [], [], []]
    assert assign([], 2) == [[], []]


def test_every_pack_counts_once_and_every_rank_passes_as_often():
    random = Random(0)
    for _ in range(200):
        size, sizes = random.randint(2, 5), [random.randint(1, 50) for _ in range(random.randint(0, 12))]
        shares = [share_packs(sizes, World(rank, size)) for rank in range(size)]
        assert sorted(i for share in shares for i in share.indices[: share.num_own]) == [*range(len(sizes))]
        assert len({len(share.indices) for share in shares}) == 1
        assert all(sizes[i] == min(sizes) for share in shares for i in share.indices[share.num_own :])
    assert share_packs([4, 2, 9], ALONE) == Share([0, 1, 2], 3), "one process computes in order"
