"""Which rank computes which packs: the same on every rank, with as many passes on each, as every pass is a collective."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from arpo.batching.policy_batch import PolicyBatch
from arpo.distributed.world import World


def assign(sizes: Sequence[int], num_ranks: int) -> list[list[int]]:
    """The packs of each rank: the longest first, each to the rank with the fewest tokens so far, of equal ones the first.

    Example: sizes [5, 9, 4, 4] over 2 ranks give [[1, 3], [0, 2]]: 9 to rank 0, 5 and 4 to rank 1, then 4 to rank 0, whose 9
    equal them.
    """
    packs: list[list[int]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        rank = min(range(num_ranks), key=lambda r: (loads[r], r))
        packs[rank].append(index)
        loads[rank] += sizes[index]
    return packs


@dataclass(frozen=True, slots=True)
class Share:
    """The passes of one rank."""

    indices: list[int]
    """The pack of each pass: this rank's own, then the shortest of all again and again, as many as the busiest rank has."""
    num_own: int
    """Passes over own packs; the others have no weight."""


def share_packs(sizes: Sequence[int], world: World) -> Share:
    """The passes of this rank over packs of `sizes` tokens; none where there are no packs.

    FSDP gathers weights and reduces gradients in every pass of every rank, so that a rank without a pass would keep the others
    waiting for ever. Therefore short ranks compute the shortest pack without weight. One rank computes every pack in order.
    """
    if world.size == 1:
        return Share([*range(len(sizes))], len(sizes))
    packs = assign(sizes, world.size)
    own, most = packs[world.rank], max(map(len, packs))
    shortest = min(range(len(sizes)), key=lambda i: (sizes[i], i), default=0)
    return Share([*own, *[shortest] * (most - len(own))], len(own))


def compute_shared(
    packs: Sequence[PolicyBatch], compute: Callable[[Sequence[PolicyBatch]], Sequence[Tensor]], world: World
) -> list[Tensor]:
    """What `compute` makes of each pack, in their order, on a CPU and on every rank; each rank computes its share."""
    share = share_packs([len(pack.packed.token_ids) for pack in packs], world)
    results = compute([packs[i] for i in share.indices])
    own = [(i, value.cpu()) for i, value in zip(share.indices[: share.num_own], results, strict=False)]
    found = dict(pair for of_rank in world.gather(own) for pair in of_rank)
    return [found[i] for i in range(len(packs))]
