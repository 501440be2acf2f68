"""Train a policy on your own parquet, with your own tool and your own reward: python train_on_your_data.py MODEL TASKS OUT."""

import sys
from typing import Any

import arpo


def stock(item: str) -> str:
    """How many of an item are in store."""
    return {"apples": "12", "pears": "7", "plums": "30"}.get(item.strip(), "no such item")


def right_and_short(trajectory: arpo.Trajectory) -> arpo.Reward:
    """1 for a right answer, less 0.1 for every tool call; 0 for any other."""
    parse = trajectory.leaf.parse
    is_right = parse is not None and parse.answer in trajectory.task.references
    value = 1.0 - 0.1 * len(trajectory.observations) if is_right else 0.0
    return arpo.Reward(value=value, is_correct=is_right)


def main(model: str, tasks: str, out: str) -> None:
    settings: dict[str, Any] = {
        "model": {"path": model},  # a Hugging Face directory: Qwen2, Qwen3, Llama
        "tasks": tasks,  # columns question and answer, or the public RL schema
        "out": out,
        "num_steps": 2,
        "tasks_per_step": 2,
        "rollout": {"group_size": 4},
        "agent": {
            "protocol": {"tools": ["stock"], "arguments": {"stock": "item"}, "system_prompt": "<stock> counts fruit."},
            "limits": {"max_turn_tokens": 64},
        },
    }
    print(arpo.train_rl(arpo.RlRun(**settings), reward_fn=right_and_short, tools={"stock": stock}))


if __name__ == "__main__":
    main(*sys.argv[1:])
