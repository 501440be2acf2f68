"""Packing keeps every token once, in depth-first order, with its depth, its predictor and the keys it may see."""

from itertools import accumulate
from random import Random

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from arpo.batching.packing import PackNode, pack_trees, split_by_tokens


def node(parent: int | None, ids: list[int], wanted: bool = True) -> PackNode:
    return PackNode(parent, ids, [wanted] * len(ids))


EXAMPLE = [node(None, [10, 11], wanted=False), node(0, [20, 21, 22]), node(0, [30])]


def test_the_docstring_s_example() -> None:
    packed = pack_trees([EXAMPLE])
    assert packed.token_ids.tolist() == [10, 11, 20, 21, 22, 30]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 2]
    assert packed.targets.tolist() == [20, 21, 22, 30]
    assert packed.predictors.tolist() == [1, 2, 3, 1]  # the first token of each child is predicted by the prompt's last


def test_trees_follow_one_another_and_positions_start_again() -> None:
    packed = pack_trees([EXAMPLE, [PackNode(None, [40, 41, 42], [False, True, False])]])
    assert packed.token_ids.tolist() == [10, 11, 20, 21, 22, 30, 40, 41, 42]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 2, 0, 1, 2]
    assert packed.targets.tolist()[-1] == 41
    assert packed.predictors.tolist()[-1] == 6


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node(None, [1], False), node(0, [2]), node(0, [3]), node(1, [4])], "depth-first"),
        ([node(None, [1], False), node(2, [2]), node(0, [3])], "depth-first"),
        ([node(0, [1], False)], "depth-first"),
        ([node(None, [1], False), node(None, [2])], "depth-first"),
        ([node(None, [1], False), node(0, [])], "0 tokens"),
        ([PackNode(None, [1, 2], [False])], "mask of 1"),
        ([node(None, [1])], "first token"),
    ],
)
def test_what_cannot_be_packed_is_refused(nodes: list[PackNode], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pack_trees([nodes])


def random_tree(random: Random) -> list[PackNode]:
    """Nodes in depth-first order, some with a single child, forks of up to three."""
    nodes: list[PackNode] = []

    def grow(parent: int | None, depth: int) -> None:
        index = len(nodes)
        nodes.append(node(parent, [random.randrange(97) for _ in range(random.randint(1, 6))], wanted=parent is not None))
        for _ in range(random.choice([0, 1, 1, 2, 3]) if depth < 4 else 0):
            grow(index, depth + 1)

    grow(None, 0)
    return nodes


def visible(trees: list[list[PackNode]]) -> Tensor:
    """[T, T] by the definition: a token sees the tokens of its path up to itself."""
    starts = [0, *accumulate(len(n.token_ids) for nodes in trees for n in nodes)]
    mask = torch.zeros(starts[-1], starts[-1], dtype=torch.bool)
    first = 0
    for nodes in trees:
        for index, own in enumerate(nodes):
            path = [index]
            while (parent := nodes[path[-1]].parent) is not None:
                path.append(parent)
            for offset in range(len(own.token_ids)):
                row = starts[first + index] + offset
                for ancestor in path[1:]:
                    mask[row, starts[first + ancestor] : starts[first + ancestor + 1]] = True
                mask[row, starts[first + index] : row + 1] = True
        first += len(nodes)
    return mask


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_equals_one_dense_mask_in_value_and_gradient(seed: int, kv_heads: int) -> None:
    random = Random(seed)
    trees = [random_tree(random) for _ in range(random.randint(1, 4))]
    layout = pack_trees(trees).layout
    mask = visible(trees)
    generator = torch.Generator().manual_seed(seed)

    def states(heads: int) -> Tensor:
        return torch.randn(len(mask), heads, 8, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = states(4), states(kv_heads), states(kv_heads)
    tree = layout.attend(0, *inputs, scale=0.3)
    query, key, value = (s.transpose(0, 1).unsqueeze(0) for s in inputs)
    dense = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)[0].transpose(0, 1)
    torch.testing.assert_close(tree, dense, rtol=0, atol=1e-12)
    wanted = torch.randn(tree.shape, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(torch.autograd.grad(tree, inputs, wanted), torch.autograd.grad(dense, inputs, wanted), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_split_by_tokens_follows_the_docstring() -> None:
    assert split_by_tokens([5, 4, 9, 20, 1], 10) == [[0, 1], [2], [3], [4]]
    assert split_by_tokens([], 10) == []
    assert split_by_tokens([5, 5, 1], 10) == [[0, 1], [2]]


@pytest.mark.parametrize("seed", range(5))
def test_split_keeps_every_item_once_and_only_a_lone_item_exceeds_the_limit(seed: int) -> None:
    random = Random(seed)
    sizes = [random.randint(1, 30) for _ in range(40)]
    batches = split_by_tokens(sizes, 25)
    assert [i for batch in batches for i in batch] == list(range(40))
    assert all(sum(sizes[i] for i in batch) <= 25 or len(batch) == 1 for batch in batches)
