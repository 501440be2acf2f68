"""The in-process engine for models that keep their own attention: one sequence after the other, with transformers' own cache.

Simple and right, and slower than `TransformersEngine`: sequences share no forward pass, and every request computes its prefix
again.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arpo.errors import EngineError, ModelError
from arpo.inference.base import WeightSource
from arpo.inference.request import Request
from arpo.inference.sampling import draw, stream_uniforms
from arpo.inference.stopping import StopFinder
from arpo.inference.token_prefix import TokenPrefix, TokenPrefixEngine
from arpo.models.attention import head_logits, layout_obstacle, require_plain_head
from arpo.models.weights import ModelWeights, copy_weights, weight_digests
from arpo.types import Completion, SamplingParams, StopReason


class SequenceEngine(TokenPrefixEngine):
    """`InferenceEngine` over a model in this process whose attention no layout describes, with sliding windows for example."""

    entropy_estimators: tuple[str, ...] = ("exact", "top_k")
    """The engine sees the full distribution."""

    def __init__(self, model: PreTrainedModel, *, decode: Callable[[Sequence[int]], str], eos_ids: frozenset[int]):
        """An engine over a model.

        Args:
            model: The model, with transformers' own attention; a trainer may share it.
            decode: Text of sampled ids, searched for stop strings.
            eos_ids: Ids that end a completion.

        Raises:
            ModelError: the model's logits are not those of its head.
        """
        super().__init__()
        require_plain_head(model)
        self._model = model
        self._stops = StopFinder(decode, eos_ids)
        self.notice = (
            f"engine: {model.config.model_type} has {layout_obstacle(model)}, so that its sequences are computed one by one; "
            f"slower than with other architectures"
        )

    async def generate(
        self, prefix: TokenPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, TokenPrefix]:
        """As `InferenceEngine.generate`."""
        prefix.require_held()
        request = Request(sampling=sampling, seed=seed, position=position, stop=tuple(stop), before=prefix.last(position))
        states = self._hidden_states(prefix.token_ids, request.tokens)
        while (reason := self._draw(request, next(states))) is None:
            await asyncio.sleep(0)  # tools go on meanwhile
        return request.completion(reason, self.version), prefix.extend(request.tokens, is_sampled=True)

    async def update_weights(self, source: WeightSource, version: int) -> None:
        """As `InferenceEngine.update_weights`; the weights of a model shared with the trainer are in use already.

        Raises:
            EngineError: prefixes of the former weights are held, or `source` holds the weights of another architecture.
        """
        await super().update_weights(source, version)
        if not (isinstance(source, ModelWeights) and source.model is self._model):
            try:
                copy_weights(source, self._model)
            except ModelError as error:
                raise EngineError(f"update_weights: {error}") from error

    async def weight_digests(self) -> dict[str, str]:
        """As `InferenceEngine.weight_digests`; an adapter, if any, is merged in."""
        return weight_digests(ModelWeights(self._model))

    @torch.inference_mode()
    def _hidden_states(self, prefix: Sequence[int], drawn: Sequence[int]) -> Iterator[Tensor]:
        """The last hidden state [1, hidden] of the prefix, then of each token that the caller adds to `drawn` meanwhile."""
        waiting, cache, length = list(prefix), None, 0
        while True:
            positions = torch.arange(length, length + len(waiting), device=self._model.device)
            output = self._model.base_model(
                input_ids=torch.tensor([waiting], device=self._model.device), position_ids=positions.unsqueeze(0),
                past_key_values=cache, use_cache=True,
            )  # fmt: skip
            yield output.last_hidden_state[:, -1]
            cache, length, waiting = output.past_key_values, length + len(waiting), [drawn[-1]]

    @torch.inference_mode()
    def _draw(self, request: Request, hidden: Tensor) -> StopReason | None:
        """Draw a token; return why the completion ends with it, or None."""
        position = request.position + len(request.tokens)
        uniforms = stream_uniforms(np.array([request.seed], dtype=np.uint64), np.array([position]))
        sampling = request.sampling
        drawn = draw(head_logits(self._model, hidden), sampling.temperature, uniforms, sampling.entropy_top_k)
        token, logprob, entropy = (column.item() for column in drawn)
        return request.add(int(token), float(logprob), float(entropy), self._stops)
