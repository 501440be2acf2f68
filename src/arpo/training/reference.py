"""The frozen policy that KL terms compare with."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from arpo.batching.policy_batch import PolicyBatch, TreeCredit, make_policy_batches
from arpo.distributed.assignment import compute_shared
from arpo.distributed.sharding import shard
from arpo.distributed.world import ALONE, World
from arpo.errors import ModelError
from arpo.models.loading import load_policy
from arpo.models.lora import adapter_off, has_adapter
from arpo.models.policy import PolicyModel
from arpo.models.vocabulary import mask_rows_without_token
from arpo.training.algorithm_config import KlConfig
from arpo.training.config import RlRun
from arpo.training.update import compute_logprobs
from arpo.tree import RolloutTree


class RewardKl(NamedTuple):
    """The KL of some trees, estimated by k1 = ln p_policy - ln p_reference of their tokens."""

    leaf_sums: list[Tensor]
    """Per tree, sum over the sampled tokens of each leaf's trajectory [L]."""
    token_values: list[list[Tensor]]
    """Per tree and node id, of each sampled token [T]; empty for prompts and observations."""
    mean: float
    """Nats per sampled token, each counted once."""

    def token_costs(self, kl: KlConfig) -> list[list[Tensor]] | None:
        """What each token costs, by tree and node id, where the KL is taken off token by token; None where it is not."""
        if kl.level != "token":
            return None
        return [[kl.coefficient * of_node for of_node in of_tree] for of_tree in self.token_values]


class Reference:
    """The reference policy: a second model, or the trained policy with its adapter off."""

    def __init__(self, config: RlRun, policy: PolicyModel, world: World = ALONE):
        """Load the reference.

        Args:
            config: The run; `loss.kl.reference` names the model, None: that of the run's start.
            policy: The policy in training. With an adapter it is its own reference, without further memory.
            world: Ranks that share the passes, and the weights of a second model.

        Raises:
            ModelError: the model cannot be loaded, or has another vocabulary.
        """
        path = config.loss.kl.reference
        self._batching, self._world = config.batching, world
        self.policy = policy
        if path is not None or not has_adapter(policy.network):
            network = load_policy(path or config.model.path, config.model.dtype, config.model.device)
            needs_layout = config.batching.packing == "tree"
            self.policy = PolicyModel(network, config.rollout.temperature, needs_layout=needs_layout).requires_grad_(False)
        sizes = [model.network.config.vocab_size for model in (self.policy, policy)]
        if sizes[0] != sizes[1]:
            raise ModelError(
                f"loss.kl.reference = {str(path)!r}: its vocabulary has {sizes[0]} tokens, the policy's {sizes[1]}; name a "
                f"model with the policy's tokenizer"
            )
        if path is not None:
            mask_rows_without_token(self.policy.network, config.model.path)  # all that the policy can sample has a log-prob
        if self.policy is not policy:
            shard(self.policy, world)

    @torch.no_grad()
    def logprobs(self, batches: Sequence[PolicyBatch]) -> list[Tensor]:
        """Per batch, log-probs [N] of its sampled tokens at the sampling temperature."""
        with adapter_off(self.policy.network):
            return compute_logprobs(self.policy, batches)

    def reward_kl(self, trees: Sequence[RolloutTree]) -> RewardKl:
        """The KL of the policy that sampled the trees; its log-probs are those the engine reported."""
        neutral = [TreeCredit(torch.ones(len(t.leaves())), torch.zeros(len(t.leaves()), len(t.nodes)), 0.0) for t in trees]
        batches = make_policy_batches(trees, neutral, self._batching)
        kls = [b.rollout_logprobs - r for b, r in zip(batches, self._all_logprobs(batches), strict=True)]
        sums = torch.cat([b.leaf_sums(kl) for b, kl in zip(batches, kls, strict=True)])
        per_token = torch.cat([kl[b.is_first] for b, kl in zip(batches, kls, strict=True)])
        leaf_sums = list(sums.split([len(n.leaf_weights) for n in neutral]))
        return RewardKl(leaf_sums, _by_node(trees, per_token), float(per_token.mean()))

    def _all_logprobs(self, batches: Sequence[PolicyBatch]) -> list[Tensor]:
        """As `logprobs`, on a CPU, of batches that the ranks share."""
        device = self.policy.device
        return compute_shared(batches, lambda own: self.logprobs([batch.to(device) for batch in own]), self._world)


def _by_node(trees: Sequence[RolloutTree], values: Tensor) -> list[list[Tensor]]:
    """Values of the trees' sampled tokens, each once and depth-first as in batches, per tree and node id."""
    nodes = [node for tree in trees for node in tree.depth_first() if node.is_sampled]
    pieces = iter(values.split([len(node.token_ids) for node in nodes]))
    found = [[values[:0]] * len(tree.nodes) for tree in trees]
    for tree, of_tree in zip(trees, found, strict=True):
        for node in tree.depth_first():
            if node.is_sampled:
                of_tree[node.id] = next(pieces)
    return found
