"""A policy's weights over ranks by FSDP2: each rank keeps a part of every weight, its gradient and its moments.

Between steps the whole weights are gathered on every rank, so that its engine decodes, and the start-up probe and the
checkpoint's model read, as on one rank, with passes of their own number. For an update they are scattered again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from arpo.batching.packing import PackNode, pack_trees
from arpo.distributed.world import World
from arpo.models.config import TrainedModelConfig
from arpo.models.loading import load_trained_policy
from arpo.models.policy import PolicyModel

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


@dataclass(frozen=True, slots=True)
class Sharding:
    """The sharded modules of a policy; none in a world of one, where every method does nothing."""

    modules: list["FSDPModule"] = field(default_factory=list["FSDPModule"])
    """The blocks, and last the whole policy with what no block holds."""

    def gather(self) -> None:
        """Make every weight whole on every rank, in the number format of its passes; they stay so until `scatter`."""
        for module in self.modules:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()

    def scatter(self) -> None:
        """Keep this rank's part of every weight alone; passes gather block by block."""
        for module in self.modules:
            module.reshard()
        for module in self.modules[:-1]:
            module.set_reshard_after_forward(True, recurse=False)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather the weights within the context; an error leaves them gathered."""
        self.gather()
        yield
        self.scatter()

    @contextmanager
    def scattered(self) -> Iterator[None]:
        """Scatter the weights within the context. An error leaves them scattered, as the other ranks may not be there."""
        self.scatter()
        yield
        self.gather()


UNSHARDED = Sharding()
"""Of a policy in a world of one."""


def shard(policy: PolicyModel, world: World, dtype: torch.dtype | None = None) -> Sharding:
    """Shard the weights of a policy, in place, over the ranks of a world; they are left scattered.

    Gradients are summed over ranks, in float32 at least: the loss of each rank's packs is a part of the loss of all.

    Args:
        policy: The same on every rank; its parameters become the sharded ones, in their number format.
        world: Of one rank: nothing changes.
        dtype: Number format of the gathered weights, in which passes compute; None: that of each parameter.
    """
    if world.mesh is None:
        return UNSHARDED
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    formats = {p.dtype for p in policy.parameters() if p.requires_grad}
    reduce_dtype = torch.float64 if torch.float64 in formats else torch.float32
    precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=reduce_dtype, cast_forward_inputs=False)
    blocks = [module for module in policy.modules() if isinstance(module, GradientCheckpointingLayer)]
    modules = [fully_shard(module, mesh=world.mesh, mp_policy=precision) for module in (*blocks, policy)]
    register_fsdp_forward_method(policy, "hits")
    for module in modules:
        module.set_gradient_divide_factor(1.0)  # the default is the number of ranks: a mean
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction that does not divide
    # Which weights a backward pass gathers ahead must not follow from the passes before it: engines differ in theirs.
    for module, ahead in zip(modules, (modules[-1], *modules), strict=False):
        module.set_modules_to_backward_prefetch([ahead])
    sharding = Sharding(modules)
    with torch.no_grad():  # FSDP finds its outermost module in the first pass, which must not be an engine's
        policy(pack_trees([[PackNode(None, [0, 0], [False, True])]]).to(policy.device))
    sharding.scatter()
    return sharding


def load_sharded(
    config: TrainedModelConfig, seed: int, world: World, temperature: float = 1.0, *, needs_layout: bool
) -> tuple[PolicyModel, Sharding]:
    """The initial policy of a trainer, sharded over the ranks of a world, and scattered.

    Trained in full, the sharded weights are float32 at least: they are the masters, and passes compute in `model.dtype`. With
    an adapter every weight keeps its number format.

    Args:
        config: The model, which each rank reads whole before it keeps its part.
        seed: As `load_trained_policy`.
        world: Ranks.
        temperature: As `PolicyModel`.
        needs_layout: As `PolicyModel`.

    Raises:
        ConfigError, ModelError: as `load_trained_policy` and `PolicyModel`.
    """
    dtype: torch.dtype = getattr(torch, config.dtype)
    is_narrow = world.size > 1 and config.lora is None and dtype.itemsize < 4
    read = config.model_copy(update={"dtype": "float32"}) if is_narrow else config
    policy = PolicyModel(load_trained_policy(read, seed), temperature, needs_layout=needs_layout)
    return policy, shard(policy, world, dtype if is_narrow else None)
