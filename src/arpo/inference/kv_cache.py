"""A key-value cache whose sequences fork.

A slot holds one sequence's keys and values. Several prefixes may point into one slot: positions are written once and never
change, so a prefix of length n stays valid while the sequence grows beyond n. Continuing the longest prefix writes in place;
continuing a shorter one copies its n positions into a new slot. Nothing is computed twice.

A slot keeps its number; its row of memory may change, so that sequences computed together are adjacent.
"""

import heapq
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from arpo.errors import EngineError


class ForkableKVCache:
    """Slots of keys and values with reference counts; grows as needed, and holds no memory while no prefix is held."""

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        most_positions: int | None = None,
    ):
        """An empty cache; memory per slot doubles when it is full, up to `most_positions`, the longest sequence expected."""
        self._most_positions = most_positions or sys.maxsize
        self._layers = [torch.empty((2, 0, num_kv_heads, 0, head_dim), dtype=dtype, device=device)] * num_layers
        self.num_copied_tokens = 0
        """Positions that forks have copied since the start."""
        self._clear()

    def _clear(self) -> None:
        self._layers = [self._layers[0][:, :0, :, :0].clone()] * len(self._layers)
        self._references: list[int] = []
        self._free: list[int] = []
        self._writing: set[int] = set()
        self._rows: list[int] = []
        self._slot_in: list[int] = []  # the inverse of `_rows`
        self.lengths: list[int] = []
        """Positions written per slot."""
        self.num_positions = 0
        """Positions of memory per slot."""

    @property
    def num_slots(self) -> int:
        """Slots in memory, used or not."""
        return self._layers[0].shape[1]

    @property
    def num_used_slots(self) -> int:
        """Slots with at least one prefix."""
        return len(self._references) - len(self._free)

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, each [rows, kv_heads, positions, dim]: views that are written in place."""
        keys, values = self._layers[layer]
        return keys, values

    @property
    def dtype(self) -> torch.dtype:
        """Number format of keys and values."""
        return self._layers[0].dtype

    @property
    def device(self) -> torch.device:
        """The device of keys and values."""
        return self._layers[0].device

    @property
    def position_bytes(self) -> int:
        """Size of one position's keys and values in one layer."""
        _, _, heads, _, dim = self._layers[0].shape
        return 2 * heads * dim * self._layers[0].element_size()

    def rows(self, slots: Sequence[int]) -> list[int]:
        """The current rows of memory of the slots."""
        return [self._rows[slot] for slot in slots]

    def gather(self, slots: Sequence[int]) -> None:
        """Move the slots into the first rows, in any order; slots already there stay.

        Example: slots 4 and 2 in rows 7 and 0, slot 9 in row 1: slots 4 and 9 exchange their rows.
        """
        gathered = set(slots)
        holes = [row for row in range(len(slots)) if self._slot_in[row] not in gathered]
        outside = sorted((s for s in slots if self._rows[s] >= len(slots)), key=lambda slot: (self.lengths[slot], slot))
        for slot, row in zip(outside, holes, strict=True):
            self._exchange(slot, self._slot_in[row])

    def _exchange(self, slot: int, other: int) -> None:
        """Exchange the rows of two slots, with the contents still in use."""
        row, other_row = self._rows[slot], self._rows[other]
        length, other_length = self.lengths[slot], self.lengths[other] if self._references[other] else 0
        for states in self._layers:
            moved = states[:, row, :, :length].clone()
            states[:, row, :, :other_length] = states[:, other_row, :, :other_length]
            states[:, other_row, :, :length] = moved
        self._rows[slot], self._rows[other] = other_row, row
        self._slot_in[row], self._slot_in[other_row] = other, slot

    def write_indices(self, slots: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """[tokens * kv_heads] indices for `write`, one token each of `slots` at `positions`; valid until rows change."""
        _, _, heads, capacity, _ = self._layers[0].shape
        rows = np.array(self._rows)[slots][:, None] * heads + np.arange(heads)
        return (rows * capacity + positions[:, None]).reshape(-1)

    def write(self, layer: int, indices: Tensor, keys: Tensor, values: Tensor) -> None:
        """Write keys and values [tokens, kv_heads, dim] of one layer at `write_indices`."""
        for storage, states in zip(self.layer(layer), (keys, values), strict=True):
            dim = states.shape[-1]
            storage.view(-1, dim).index_copy_(0, indices, states.reshape(-1, dim))

    def allocate(self) -> int:
        """An empty slot with one reference: the lowest free one, so that the choice does not depend on timing."""
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot = len(self._references)
            self._reserve(slots=slot + 1, positions=0)
            self._references.append(0)
            self.lengths.append(0)
            self._rows.append(slot)
            self._slot_in.append(slot)
        self._references[slot] = 1
        self.lengths[slot] = 0
        return slot

    def retain(self, slot: int) -> None:
        """One more prefix points to `slot`."""
        self._references[slot] += 1

    def release(self, slot: int) -> None:
        """One prefix fewer points to `slot`; the last one frees it.

        Raises:
            EngineError: released more often than retained.
        """
        if slot >= len(self._references) or self._references[slot] < 1:
            raise EngineError(f"cache slot {slot} was released twice; release each prefix handle once")
        self._references[slot] -= 1
        if self._references[slot] == 0:
            self._writing.discard(slot)
            heapq.heappush(self._free, slot)
            if not self.num_used_slots:  # an empty cache is a new one: later requests do not depend on earlier ones,
                self._clear()  # and an update has its memory

    def claim(self, slot: int, length: int) -> int:
        """A slot that holds the first `length` positions of `slot` and may be extended until `end_writing`.

        It is `slot` itself, with one more reference, when nothing is written beyond `length` and no other sequence is extending
        it; otherwise a copy of those positions.
        """
        if self.lengths[slot] == length and slot not in self._writing:
            self.retain(slot)
            self._writing.add(slot)
            return slot
        copy = self.allocate()
        row, copy_row = self._rows[slot], self._rows[copy]
        for states in self._layers:
            states[:, copy_row, :, :length] = states[:, row, :, :length]
        self.lengths[copy] = length
        self.num_copied_tokens += length
        self._writing.add(copy)
        return copy

    def end_writing(self, slot: int) -> None:
        """Let the next caller of `claim` extend `slot` in place."""
        self._writing.discard(slot)

    def extend(self, slot: int, num_tokens: int) -> None:
        """Claim the next `num_tokens` positions of `slot`; the caller writes them in every layer."""
        self.lengths[slot] += num_tokens
        if self.lengths[slot] > self.num_positions:
            self._reserve(slots=0, positions=self.lengths[slot])

    def extend_each(self, slots: Sequence[int]) -> None:
        """Claim the next position of every slot; all must be below `num_positions`."""
        for slot in slots:
            self.lengths[slot] += 1

    def check_integrity(self) -> None:
        """Verify the free list against the reference counts.

        Raises:
            EngineError: a slot is both free and in use, or neither; or two slots share a row.
        """
        free = {slot for slot, count in enumerate(self._references) if count == 0}
        if free != set(self._free) or len(self._free) != len(free):
            raise EngineError(f"cache integrity: free list {sorted(self._free)} differs from unreferenced slots {sorted(free)}")
        if [self._slot_in[row] for row in self._rows] != list(range(len(self._rows))):
            raise EngineError("cache integrity: two slots share a row")

    def _reserve(self, *, slots: int, positions: int) -> None:
        """Make room, layer by layer, so that only one layer stands in memory twice."""
        _, old_slots, heads, old_positions, dim = self._layers[0].shape
        if slots <= old_slots and positions <= old_positions:
            return
        new_slots = max(slots, 2 * old_slots, 8) if slots > old_slots else old_slots
        doubled = min(2 * max(old_positions, 32), self._most_positions)
        new_positions = max(positions, doubled) if positions > old_positions else max(old_positions, min(64, doubled))
        used = min(max(self.lengths, default=0), old_positions)
        for layer, states in enumerate(self._layers):
            # zeros, as positions never written are read too, masked
            grown = states.new_zeros((2, new_slots, heads, new_positions, dim))
            grown[:, :old_slots, :, :used] = states[:, :, :, :used]
            self._layers[layer] = grown
            del states
        self.num_positions = new_positions
