"""FlexAttention over packed trees on a GPU: outputs and gradients are those of the CPU's path attention."""

from random import Random

import pytest
import torch

from arpo.batching.packing import PackNode, pack_trees
from arpo.models.attention import forward_hidden, use_layout_attention
from arpo.models.policy import PolicyModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def random_pack(seed: int, longest: int = 150):
    random = Random(seed)
    nodes: list[PackNode] = []

    def grow(parent: int | None, depth: int) -> None:
        index, length = len(nodes), random.randint(1, longest)
        nodes.append(PackNode(parent, [random.randrange(97) for _ in range(length)], [parent is not None] * length))
        for _ in range(random.choice([1, 2, 3]) if depth < 3 else 0):
            grow(index, depth + 1)

    grow(None, 0)
    return pack_trees([nodes, nodes[:1]])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("kv_heads", [2, 8])
@pytest.mark.parametrize("seed", range(3))
def test_attention_equals_the_cpu_s(seed: int, kv_heads: int, dtype: torch.dtype, tolerance: float) -> None:
    pack = random_pack(seed)
    size, generator = len(pack.token_ids), torch.Generator().manual_seed(seed)
    inputs = [torch.randn(size, heads, 64, generator=generator).to(dtype) for heads in (8, kv_heads, kv_heads)]
    wanted = torch.randn(size, 8, 64, generator=generator).to(dtype)
    results = []
    for device, exact in (("cpu", torch.float64), ("cuda", dtype)):
        states = [x.to(device, exact).requires_grad_() for x in inputs]
        output = pack.layout.to(torch.device(device)).attend(0, *states, scale=0.125)
        gradients = torch.autograd.grad(output, states, wanted.to(device, exact))
        results.append([x.double().cpu() for x in (output, *gradients)])
    for expected, found in zip(*results, strict=True):
        assert float((found - expected).norm() / expected.norm()) <= tolerance


def test_packs_of_many_sizes_compile_few_times(make_model) -> None:
    """Every step has packs of another size; a kernel for each would take minutes."""
    model = use_layout_attention(make_model(dtype="float32")).cuda()
    torch._dynamo.reset()
    with torch.no_grad():
        for seed in range(12):
            pack = random_pack(seed, longest=40).to(torch.device("cuda"))
            forward_hidden(model, pack.token_ids, pack.positions, pack.layout)
    assert torch._dynamo.utils.counters["frames"]["ok"] <= 4


def test_a_training_step_gives_the_cpu_s_gradients(make_model) -> None:
    pack = random_pack(4, longest=60)
    found = []
    for device in ("cpu", "cuda"):
        model = use_layout_attention(make_model(dtype="float32")).to(device)
        moved = pack.to(torch.device(device))
        hidden = forward_hidden(model, moved.token_ids, moved.positions, moved.layout)
        hidden.square().mean().backward()
        found.append([p.grad.cpu() for p in model.parameters() if p.grad is not None])
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert float((on_cpu - on_gpu).norm()) <= 5e-3 * max(float(on_cpu.norm()), 1e-6)


FAMILIES = ("embed_tokens", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "norm")
"""Parts of weights' names; every weight of the model has one."""


def test_tree_and_flat_gradients_in_bfloat16_are_as_far_from_the_exact_one(make_model) -> None:
    """Per family of weights: neither packing's error in bfloat16 is much above the other's."""
    tree = tree_of_leaves()
    leaves = [path_of(tree, leaf) for leaf in range(len(tree)) if all(node.parent != leaf for node in tree)]
    # a token that d leaves share counts d times in flat packing, and so d times in the tree's sum
    packs = {"tree": pack_trees([tree]), "flat": pack_trees([[node] for node in leaves])}
    exact = family_gradients(make_model(dtype="float64"), packs["flat"], torch.device("cpu"), torch.float64, None)
    counts = leaf_counts(tree)
    errors: dict[str, dict[str, float]] = {}
    for name, pack in packs.items():
        weights = counts if name == "tree" else None
        found = family_gradients(make_model(dtype="float64"), pack, torch.device("cuda"), torch.bfloat16, weights)
        errors[name] = {f: float((found[f] - exact[f]).norm() / exact[f].norm()) for f in exact}
    for family in exact:
        assert errors["tree"][family] <= 1.5 * errors["flat"][family] + 1e-3, (family, errors)


def tree_of_leaves() -> list[PackNode]:
    """A prompt of 150 tokens with three children of 100, each with two leaves of 80."""
    random = Random(0)

    def node(parent: int | None, length: int) -> PackNode:
        return PackNode(parent, [random.randrange(97) for _ in range(length)], [parent is not None] * length)

    nodes = [node(None, 150)]
    for _ in range(3):
        nodes.append(node(0, 100))
        middle = len(nodes) - 1
        nodes += [node(middle, 80), node(middle, 80)]
    return nodes


def path_of(tree: list[PackNode], leaf: int) -> PackNode:
    """The path from the root to a leaf as one node."""
    path: list[PackNode] = []
    index: int | None = leaf
    while index is not None:
        path.insert(0, tree[index])
        index = tree[index].parent
    return PackNode(None, [t for node in path for t in node.token_ids], [m for node in path for m in node.loss_mask])


def leaf_counts(tree: list[PackNode]) -> torch.Tensor:
    """Per target of the packed tree, the leaves that share it: 2 for a child's, 1 for a leaf's."""
    return torch.cat([torch.full((sum(n.loss_mask),), 2.0 if n.parent == 0 else 1.0) for n in tree if n.parent is not None])


def family_gradients(
    model, pack, device: torch.device, dtype: torch.dtype, weights: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """The gradient of the weighted sum of log-probs, of all weights of a family as one vector."""
    policy = PolicyModel(model).to(device, dtype)
    logprobs, _ = policy(pack.to(device))
    (logprobs if weights is None else logprobs * weights.to(device)).sum().backward()
    found: dict[str, list[torch.Tensor]] = {}
    for name, parameter in policy.named_parameters():
        (family,) = [f for f in FAMILIES if f in name.split(".")[-2]][:1] or ["lm_head"]
        found.setdefault(family, []).append(parameter.grad.double().cpu().flatten())
    return {family: torch.cat(parts) for family, parts in found.items()}


def test_packs_move_whole() -> None:
    pack = random_pack(1).to(torch.device("cuda"))
    tensors = pack.token_ids, pack.positions, pack.targets, pack.predictors, pack.layout.ends
    assert {t.device.type for t in tensors} == {"cuda"}
