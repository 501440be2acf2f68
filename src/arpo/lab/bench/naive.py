"""The naive rollout: batch by batch, turn by turn; each turn recomputes everything and waits for its slowest call."""

import time
from collections.abc import Callable
from typing import cast

import torch
from transformers import GenerationConfig, PreTrainedModel

from arpo.lab.bench.workload import Workload


@torch.inference_mode()
def naive_seconds(model: PreTrainedModel, workload: Workload) -> float:
    """Seconds of the workload with the model's `generate`, `width` trajectories at a time.

    With a single turn this is plain `generate`.
    """
    prompts = torch.tensor(workload.prompts, device=model.device).repeat_interleave(workload.group_size, dim=0)
    observation = torch.tensor(workload.observation, device=model.device)
    config = GenerationConfig(do_sample=True, max_new_tokens=workload.turn_tokens, eos_token_id=None, pad_token_id=0)
    generate = cast(Callable[..., torch.Tensor], model.generate)
    start = time.perf_counter()
    for first in range(0, workload.num_trajectories, workload.width):
        token_ids = prompts[first : first + workload.width]
        delays = workload.delays[first : first + workload.width]
        for turn in range(workload.num_turns):
            token_ids = generate(token_ids, attention_mask=torch.ones_like(token_ids), generation_config=config)
            if turn < workload.num_calls:
                time.sleep(delays[:, turn].max())
                token_ids = torch.cat([token_ids, observation.expand(len(token_ids), -1)], dim=1)
    if token_ids.shape[1] != workload.trajectory_tokens:
        raise AssertionError(f"`generate` gave {token_ids.shape[1]} tokens, the workload has {workload.trajectory_tokens}")
    return time.perf_counter() - start
