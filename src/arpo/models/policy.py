"""The policy as one module, through which all training, measurement and comparison calls the network.

Old log-probs, training, the reference, the start-up probe and SFT all call `forward`, so that a wrapper of the module
(sharding, autocast, compilation) wraps every use of the network at once. The in-process engine calls the network directly.
"""

from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from arpo.models.attention import AttentionLayout, forward_hidden, layout_obstacle, require_plain_head, use_layout_attention
from arpo.models.logprobs import hidden_to_hits, hidden_to_logprobs


class PackedInput(Protocol):
    """Sequences or trees packed into one sequence of T tokens, N of which are targets (`batching.packing.PackedTokens`)."""

    @property
    def token_ids(self) -> Tensor:
        """[T] ids."""
        ...

    @property
    def positions(self) -> Tensor:
        """[T] depth of each token in its tree."""
        ...

    @property
    def predictors(self) -> Tensor:
        """[N] index of the token whose output predicts each target."""
        ...

    @property
    def targets(self) -> Tensor:
        """[N] ids whose log-prob is computed."""
        ...

    @property
    def layout(self) -> AttentionLayout:
        """Which tokens each token sees."""
        ...


class PolicyModel(nn.Module):
    """A causal language model that maps packed tokens to the log-probs and entropies of their targets."""

    def __init__(self, network: PreTrainedModel, temperature: float = 1.0, *, needs_layout: bool = True):
        """A policy over `network`, which is changed in place to take its attention from a layout.

        Args:
            network: A causal language model; gradients and updates act on its parameters.
            temperature: Sampling temperature at which log-probs and entropies are measured; 0 (greedy) is measured at 1.
            needs_layout: True: packed trees must run. False: a network whose attention takes no layout keeps its attention; it
                then computes sequences one after the other, and refuses trees.

        Raises:
            ModelError: `needs_layout`, and the attention of the network takes no layout.
        """
        super().__init__()
        if needs_layout or layout_obstacle(network) is None:
            use_layout_attention(network)
        require_plain_head(network)
        self.network = network
        self.temperature = temperature

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.network.device

    def forward(self, packed: PackedInput) -> tuple[Float[Tensor, " targets"], Float[Tensor, " targets"]]:
        """Log-prob of each target and entropy of the distribution it was drawn from, nats, in float32 at least.

        Formula: `logprobs.logprobs_and_entropy`, over the full vocabulary at `temperature`.

        Raises:
            ModelError: a packed tree for a network that keeps its own attention.

        Example: prompt [5, 6] and target 7 that follows it give ([ln p(7 | 5, 6)], [H(. | 5, 6)]).
        """
        hidden = forward_hidden(self.network, packed.token_ids, packed.positions, packed.layout)
        return hidden_to_logprobs(self.network, hidden[packed.predictors], packed.targets, self.temperature)

    def hits(self, packed: PackedInput) -> tuple[Float[Tensor, " targets"], Bool[Tensor, " targets"]]:
        """Log-prob of each target at temperature 1, and whether it is the likeliest token: `logprobs.hidden_to_hits`."""
        hidden = forward_hidden(self.network, packed.token_ids, packed.positions, packed.layout)
        return hidden_to_hits(self.network, hidden[packed.predictors], packed.targets)
