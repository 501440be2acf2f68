"""TRL's GRPO training step on the same trajectories. This program runs in TRL's virtual environment, without arpo.

It reads a JSON object as the first line of standard input (see `arpo.lab.bench.training_peer`) and answers with one line. Each
further line is a number of tokens per forward pass: it does one step and answers with its measurements as one line of JSON.
"""

import json
import sys
import tempfile
import time
from importlib.metadata import version

import torch
from datasets import Dataset  # pyright: ignore[reportMissingImports]
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports]
from trl.trainer.utils import pad  # pyright: ignore[reportMissingImports]


class GivenDataTrainer(GRPOTrainer):
    """TRL's trainer on trajectories that are given, not generated and scored."""

    def _prepare_inputs(self, generation_batch):
        return generation_batch


def make_trainer(request: dict) -> GivenDataTrainer:
    """A trainer with the settings the other contenders have: clip 0.2, mean over all tokens, no KL."""
    on_cpu = request["device"] == "cpu"
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=on_cpu, bf16=False, report_to="none", num_generations=2, beta=0.0,
        per_device_train_batch_size=2, gradient_checkpointing=False, max_completion_length=request["longest"],
        epsilon=0.2, loss_type="dapo", temperature=1.0, steps_per_generation=1, logging_steps=10**9,
    )  # fmt: skip
    trainer = GivenDataTrainer(
        model=AutoModelForCausalLM.from_pretrained(request["model"], dtype=getattr(torch, request["dtype"])),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "?"}] * 4),
        processing_class=AutoTokenizer.from_pretrained(request["model"]),
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def collate(rows: list[dict], num_items: torch.Tensor, device: torch.device) -> dict[str, torch.Tensor]:
    """The tensors TRL's loss reads: prompts padded on the left, completions on the right, to the longest of these rows."""

    def padded(values: list[list], dtype: torch.dtype, side: str = "right") -> torch.Tensor:
        return pad([torch.tensor(v, dtype=dtype) for v in values], padding_side=side).to(device)

    prompts, completions = [row["prompt_ids"] for row in rows], [row["completion_ids"] for row in rows]
    return {
        "prompt_ids": padded(prompts, torch.long, "left"),
        "prompt_mask": padded([[1] * len(ids) for ids in prompts], torch.long, "left"),
        "completion_ids": padded(completions, torch.long),
        "completion_mask": padded([[1] * len(ids) for ids in completions], torch.long),
        "tool_mask": padded([row["completion_mask"] for row in rows], torch.long),
        "old_per_token_logps": padded([row["logprobs"] for row in rows], torch.float32),
        "advantages": torch.tensor([max(row["advantages"], key=abs) for row in rows], dtype=torch.float32, device=device),
        "num_items_in_batch": num_items,
    }


def step(trainer: GivenDataTrainer, rows: list[dict], budget: int, longest: int) -> dict[str, float]:
    """TRL's `training_step` over all rows, as many at once as the budget holds, without the optimizer."""
    model, device = trainer.model, trainer.accelerator.device
    model.zero_grad(set_to_none=True)
    num_rows = max(1, budget // longest)
    start = time.perf_counter()
    num_items = torch.tensor(sum(sum(row["completion_mask"]) for row in rows), device=device)
    loss = 0.0
    for first in range(0, len(rows), num_rows):
        loss += float(trainer.training_step(model, collate(rows[first : first + num_rows], num_items, device), num_items))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    squares = sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None)
    return {"seconds": seconds, "loss": loss, "gradient_norm": squares**0.5}


def main() -> None:
    """Answer requests until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    request = json.loads(sys.stdin.readline())
    torch.set_num_threads(request["num_threads"])
    trainer = make_trainer(request)
    print(json.dumps({"version": version("trl")}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            measured = step(trainer, request["rows"], int(line), request["longest"])
        except torch.OutOfMemoryError:
            measured = {"seconds": float("inf"), "loss": None, "gradient_norm": None}
        print(json.dumps(measured), file=answers, flush=True)


if __name__ == "__main__":
    main()
