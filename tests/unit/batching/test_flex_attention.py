"""The GPU's mask, as far as a CPU can tell: every token's view, every tile's kind, and the forward pass."""

from itertools import pairwise
from random import Random

import pytest
import torch

from arpo.batching import flex_attention as flex_module
from arpo.batching.flex_attention import BLOCK_SIZE, TreeMask, _compiled, flex_tree_attention
from arpo.batching.packing import PackNode, pack_trees


def random_pack(seed: int, longest: int):
    random = Random(seed)
    trees: list[list[PackNode]] = []
    for _ in range(3):
        nodes: list[PackNode] = []

        def grow(parent: int | None, depth: int, nodes: list[PackNode] = nodes) -> None:
            index, length = len(nodes), random.randint(1, longest)
            nodes.append(PackNode(parent, [1] * length, [False] * length))
            for _ in range(random.choice([1, 2, 3]) if depth < 3 else 0):
                grow(index, depth + 1)

        grow(None, 0)
        trees.append(nodes)
    return pack_trees(trees)


def dense(ends: torch.Tensor) -> torch.Tensor:
    index = torch.arange(len(ends))
    return (index <= index[:, None]) & (index[:, None] < ends)


def test_ends_say_where_subtrees_end() -> None:
    """The docstring's example of the packing module."""
    pack = pack_trees([[PackNode(None, [1, 1], [False] * 2), PackNode(0, [1] * 3, [False] * 3), PackNode(0, [1], [False])]])
    assert pack.layout.ends.tolist() == [6, 6, 5, 5, 5, 6]


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_function_is_the_tree_and_padding_sees_itself(seed: int) -> None:
    ends = random_pack(seed, 30).layout.ends
    mask = TreeMask(ends)
    size = len(ends) + mask.num_padding
    assert size % BLOCK_SIZE == 0
    index = torch.arange(size)
    found = mask.blocks.mask_mod(index, index, index[:, None], index[None, :])
    assert torch.equal(found[: len(ends), : len(ends)], dense(ends))
    assert not found[: len(ends), len(ends) :].any()
    assert found[len(ends) :].diagonal(offset=len(ends)).all()  # no row is empty, as its softmax would be undefined
    assert not found[len(ends) :, : len(ends)].any()


@pytest.mark.parametrize("lengths", [(400, 390, 300, 50, 260), (257, 383, 128, 300, 300), (1, 511, 512, 128, 330)])
def test_tiles_are_full_partial_or_left_out_as_their_tokens_say(lengths: tuple[int, ...]) -> None:
    """A prompt, two children, and two children of the second."""
    parents = (None, 0, 0, 2, 2)
    nodes = [PackNode(parent, [1] * n, [False] * n) for parent, n in zip(parents, lengths, strict=True)]
    ends = pack_trees([nodes]).layout.ends
    mask = TreeMask(ends)
    size = len(ends) + mask.num_padding
    index = torch.arange(size)
    tokens = mask.blocks.mask_mod(index, index, index[:, None], index[None, :])
    tiles = tokens.view(size // BLOCK_SIZE, BLOCK_SIZE, -1, BLOCK_SIZE).transpose(1, 2).flatten(2)
    partial, full = torch.zeros(tiles.shape[:2], dtype=torch.bool), torch.zeros(tiles.shape[:2], dtype=torch.bool)
    blocks = mask.blocks
    assert blocks.full_kv_num_blocks is not None
    assert blocks.full_kv_indices is not None
    for row in range(len(tiles)):
        partial[row, blocks.kv_indices[0, 0, row, : blocks.kv_num_blocks[0, 0, row]].long()] = True
        full[row, blocks.full_kv_indices[0, 0, row, : blocks.full_kv_num_blocks[0, 0, row]].long()] = True
    is_diagonal = torch.eye(len(tiles), dtype=torch.bool)  # taken for partial always
    assert torch.equal(full, tiles.all(-1) & ~is_diagonal)
    assert torch.equal(partial | full, tiles.any(-1))
    assert not (partial & full).any()
    assert full.any()
    assert (~(partial | full)).tril(-1).any()  # work the tree saves


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_forward_equals_the_cpu_s_own_path(kv_heads: int) -> None:
    pack = random_pack(7, 12)
    size = len(pack.token_ids)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(size, heads, 16, generator=generator) for heads in (4, kv_heads, kv_heads))
    with torch.no_grad():
        found = flex_tree_attention(query, key, value, TreeMask(pack.layout.ends), 0.25)
        expected = pack.layout.attend(0, query, key, value, 0.25)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow  # compiles with the system's C++ compiler
def test_packs_of_many_lengths_are_compiled_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten packs of ten lengths, in tiles of 3 and more: one kernel serves every length."""
    monkeypatch.setattr(flex_module, "flex_attention", _compiled())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for seed in range(10):
        pack = random_pack(seed, 12 + 5 * seed)
        query, key, value = torch.randn(3, len(pack.token_ids), 2, 16, generator=torch.Generator().manual_seed(seed))
        mask = TreeMask(pack.layout.ends)
        with torch.no_grad():
            found = flex_tree_attention(query, key, value, mask, 0.25)
            expected = pack.layout.attend(0, query, key, value, 0.25)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_packs_of_whole_tiles_need_no_padding() -> None:
    lengths = [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1]
    padding = [TreeMask(torch.full((n,), n)).num_padding for _, n in pairwise(lengths)]
    assert padding == [BLOCK_SIZE - 1, 1, 0, BLOCK_SIZE - 1]
