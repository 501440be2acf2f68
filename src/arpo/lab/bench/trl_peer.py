"""TRL's GRPO tool loop on the same workload. This program runs in TRL's virtual environment, without arpo.

Reads a JSON object on standard input (see `arpo.lab.bench.peers`) and writes one as the last line of standard output. Trainer,
`generate` call and tool loop are TRL's. Three methods that depend on text are replaced: prompts and observations are the
workload's tokens, and every completion reads as a tool call.
"""

import json
import sys
import tempfile
import time
from importlib.metadata import version

import torch
import trl.trainer.grpo_trainer as grpo  # pyright: ignore[reportMissingImports]
from datasets import Dataset  # pyright: ignore[reportMissingImports]
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports]
from trl.chat_template_utils import qwen3_chat_template  # pyright: ignore[reportMissingImports]


class FixedTurnsTrainer(GRPOTrainer):
    """TRL's trainer with the workload's tokens in place of the chat template's."""

    work: dict

    def rollout(self, rows: list[int]) -> None:
        """Generate the trajectories `rows` together, by TRL's own loop."""
        self._rows = rows
        self._sync_tool_dicts = [{"wait": wait} for _ in rows]
        self._async_tool_dicts = [{} for _ in rows]
        _, completions, *_ = self._generate([[{"role": "user", "content": "?"}] for _ in rows])
        if any(len(ids) != self.max_completion_length for ids in completions):
            sys.exit(f"TRL sampled other token counts than the workload's: {sorted({len(ids) for ids in completions})}")

    def _tokenize_prompts(self, prompts):
        group_size = self.work["group_size"]
        return [list(self.work["prompts"][row // group_size]) for row in self._rows], None, {}

    def _get_tool_suffix_ids(self, tool_messages):
        return list(self.work["observation"])


def wait() -> str:
    """Wait as long as the workload says.

    Returns:
        A word.
    """
    if delay := next(delays):
        time.sleep(delay)
    return "done"


def read_tool_call(*_: object, **__: object) -> dict:
    """Every completion is a call of the tool."""
    call = {"type": "function", "function": {"name": "wait", "arguments": {}}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def make_trainer(work: dict) -> FixedTurnsTrainer:
    """A trainer for the workload's model and token counts."""
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    tokenizer.chat_template = qwen3_chat_template
    budget = work["num_turns"] * work["turn_tokens"] + (work["num_turns"] - 1) * work["observation_tokens"]
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none", num_generations=2, beta=0.0,
        per_device_train_batch_size=2, gradient_checkpointing=False, max_completion_length=budget,
        max_tool_calling_iterations=work["num_turns"] - 1, generation_kwargs={"eos_token_id": None},
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": "?"}]}] * 4)
    model = AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32)
    trainer = FixedTurnsTrainer(
        model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=config, train_dataset=data,
        processing_class=tokenizer, tools=[wait],
    )  # fmt: skip
    trainer.work = work
    trainer.eos_token_ids = [-1]
    trainer.generation_config.max_new_tokens = work["turn_tokens"]
    trainer.generation_config.eos_token_id = None
    model.eval()
    return trainer


def measure(trainer: FixedTurnsTrainer, batch_size: int, num_rows: int, *, concurrent: bool) -> float:
    """Seconds for the first `num_rows` trajectories; with `concurrent` each batch waits for its slowest call only."""
    global delays
    waits, batches = [], [range(i, min(i + batch_size, num_rows)) for i in range(0, num_rows, batch_size)]
    for rows in batches:
        for turn in range(trainer.work["num_turns"] - 1):
            serial = [trainer.work["delays"][row][turn] for row in rows]
            waits += [max(serial)] + [0.0] * (len(serial) - 1) if concurrent else serial
    delays = iter(waits)
    start = time.perf_counter()
    for rows in batches:
        trainer.rollout(list(rows))
    return time.perf_counter() - start


def main() -> None:
    """Measure with TRL's serial tools and with concurrent ones, at the best batch size up to the slots."""
    work = json.load(sys.stdin)
    torch.set_num_threads(work["num_threads"])
    grpo.parse_response = read_tool_call
    num_rows = len(work["delays"])
    trainer = make_trainer(work)
    probe = min(work["width"], num_rows)
    quiet = [[0.0] * len(row) for row in work["delays"]]
    slow, trainer.work["delays"] = work["delays"], quiet
    measure(trainer, probe, probe, concurrent=True)  # warms up
    sizes = [size for size in (probe, probe // 2, probe // 4) if size]
    best = min(sizes, key=lambda size: measure(trainer, size, probe, concurrent=True))
    trainer.work["delays"] = slow
    is_slow = any(map(any, slow))
    concurrent = measure(trainer, best, num_rows, concurrent=True)
    serial = measure(trainer, best, num_rows, concurrent=False) if is_slow else concurrent
    result = {"serial_seconds": serial, "concurrent_seconds": concurrent, "batch_size": best, "version": version("trl")}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
