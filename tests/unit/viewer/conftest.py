"""A run directory as training writes one, from made-up figures and trees."""

import json
import math
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from arpo.tracking import Tracker, TrackingConfig
from arpo.tree import Node, NodeCredit, NodeKind, RolloutTree, write_trees
from arpo.types import Message, Parse, Reward, StopReason, Task, ToolCall, ToolResult

PEOPLE = ["Ada Moor", "Tomas Velden", "Ruth Callow", "Ivo Brandt", "Mina Sorel", "Emil Haas"]
TOWNS = ["Kelford", "Ostrava Hill", "Marrow Bay", "Lindqvist", "Dunmere", "Ashby Cross"]
THOUGHTS = ["I need the birthplace first.", "Now look up the town.", "The page gives a year, so subtract.", "That settles it."]


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "quickstart")


def make_run(path: Path, num_steps: int = 40) -> Path:
    rng = random.Random(3)
    tokenizer = make_tokenizer(path / "checkpoints" / "step_000040" / "model")
    with Tracker(path, TrackingConfig()) as tracker:
        for step in range(1, num_steps + 1):
            tracker.log(step, step_metrics(rng, step, num_steps))
            if step % 5 == 0:
                skill = 1 - math.exp(-3 * step / num_steps)
                tracker.log(step, {"valid/accuracy": 0.46 + 0.33 * skill + rng.gauss(0, 0.012), "valid/num_tasks": 256})
    for step in range(5, num_steps + 1, 5):
        trees = [make_tree(rng, tokenizer, f"train-{step}-{i}", step / num_steps) for i in range(6)]
        write_trees(path / "rollouts" / f"step_{step:06d}.jsonl.zst", trees)
    (path / "summary.json").write_text(json.dumps(SUMMARY))
    return path


SUMMARY = {
    "accuracy_before": 0.453, "accuracy_after": 0.781, "demonstrator_accuracy": 0.912, "pass_at_k_before": 0.702,
    "pass_at_k_after": 0.887, "k": 8, "tool_calls_per_task_before": 2.61, "tool_calls_per_task_after": 2.18,
    "f1_before": 0.51, "f1_after": 0.81, "format_valid_rate_before": 0.93, "format_valid_rate_after": 0.99,
    "entropy_after_tool": 0.52, "entropy_elsewhere": 0.21, "branch_rate": 0.31, "branch_share": 0.37, "leaves_per_group": 8.0,
    "tokens_sampled": 1_204_331, "tokens_trained_unique": 2_310_442, "tokens_trained_total": 4_102_930,
    "seconds": {"sft": 62.1, "rollout": 98.4, "update": 41.0, "sync": 1.2, "validate": 22.5, "total": 231.0},
    "peak_memory_mb": 1420, "seed": 7, "versions": {"arpo": "0.1.0", "torch": "2.13.0"},
}  # fmt: skip


def step_metrics(rng: random.Random, step: int, num_steps: int) -> dict[str, float]:
    skill = 1 - math.exp(-3 * step / num_steps)
    opportunities = rng.randint(150, 190)
    branches = round(opportunities * (0.36 - 0.12 * skill + rng.gauss(0, 0.02)))
    issued = rng.randint(270, 310) - round(40 * skill)
    unique = rng.randint(33_000, 38_000)
    return {
        "rollout/reward_mean": 0.3 + 0.55 * skill + rng.gauss(0, 0.05),
        "rollout/accuracy": 0.4 + 0.37 * skill + rng.gauss(0, 0.05),
        "rollout/entropy_after_tool": 0.62 - 0.2 * skill + rng.gauss(0, 0.02),
        "rollout/entropy_elsewhere": 0.24 - 0.06 * skill + rng.gauss(0, 0.01),
        "rollout/num_opportunities": opportunities, "rollout/num_branches": branches,
        "rollout/branch_rate": branches / opportunities, "rollout/num_initial": 64, "rollout/num_topups": 64 - branches,
        "rollout/tool_calls_issued": issued, "rollout/tool_calls_executed": round(issued * 0.34),
        "rollout/tokens_unique": unique, "rollout/tokens_trajectory": round(unique * 1.78), "rollout/mixed_group_rate": 0.7,
        "train/loss": -0.01 + rng.gauss(0, 0.004), "train/grad_norm": 0.4 + abs(rng.gauss(0, 0.1)),
        "train/entropy": 0.31 - 0.09 * skill, "train/mismatch_kl": abs(rng.gauss(0, 2e-6)), "train/clip_fraction_low": 0.004,
        "train/clip_fraction_high": 0.006, "train/tokens_unique": unique, "train/tokens_total": round(unique * 1.78),
        "time/step_s": 4.1, "time/rollout_s": 2.4, "time/update_s": 1.0,
    }  # fmt: skip


def make_tokenizer(directory: Path) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(vocab_size=700, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    texts = [*THOUGHTS, *PEOPLE, *TOWNS, "<think> </think> <search> </search> <python> </python> <answer> \\boxed{ } </answer>"]
    tokenizer.train_from_iterator(texts * 3, trainer)
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return tokenizer


def make_tree(rng: random.Random, tokenizer: Tokenizer, name: str, skill: float) -> RolloutTree:
    """Four initial trajectories of one to three calls; every third tool result is forked."""
    person, town, wrong = rng.choice(PEOPLE), rng.choice(TOWNS), rng.choice(TOWNS)
    question = f"How many years before the bridge of {person}'s birthplace was finished was {person} born?"
    task = Task(id=name, messages=(Message(role="user", content=question),), references=(town,), source="world")
    tree = RolloutTree.from_prompt(task, tokenizer.encode(question).ids, question)
    tree.settings = {"rule": "random", "entropy_window": 4}
    right_rate = 0.35 + 0.5 * skill

    def complete(parent: Node, tool: str | None, **fields: object) -> Node:
        thought = f"<think> {rng.choice(THOUGHTS)} </think> "
        if tool:
            argument = f"{person} {rng.choice(['born', 'birthplace', 'bridge'])}" if tool == "search" else "print(1912 - 1874)"
            text, parse = (
                f"{thought}<{tool}> {argument} </{tool}>",
                Parse(calls=(ToolCall(name=tool, arguments={"query": argument}),)),
            )
        else:
            answer = town if rng.random() < right_rate else wrong
            text, parse = f"{thought}<answer> \\boxed{{{answer}}} </answer>", Parse(answer=answer)
        ids = tokenizer.encode(text).ids
        rise = {"search": 0.9, "python": 0.45}.get(tool or "", 0.6) * (1 - 0.4 * skill) if parent.turn else 0.25
        entropies = [abs(rng.gauss(0.12 + rise * math.exp(-i / 4), 0.15)) for i in range(len(ids))]
        return tree.append(
            parent, NodeKind.COMPLETION, ids, text=text, parse=parse, entropies=entropies, logprobs=[-h for h in entropies],
            stop_reason=StopReason.STOP_STRING, **fields,
        )  # fmt: skip

    def grow(parent: Node, turns: int, is_branch: bool = False) -> None:
        tool = rng.choice(["search", "search", "python"]) if turns else None
        node = complete(parent, tool, is_branch=is_branch)
        if tool is None:
            value = 1.1 if node.parse and node.parse.answer == town else 0.1 * rng.randint(0, 1)
            node.reward = Reward(value=value, is_correct=value > 1)
            return
        content = f"{person} was born in {town} & grew up there." if tool == "search" else "38\n"
        status = "error" if tool == "python" and rng.random() < 0.15 else "success"
        result = ToolResult(content=content, status=status, cached=rng.random() < 0.6, seconds=0.01)
        seen = tree.append(node, NodeKind.OBSERVATION, tokenizer.encode(content).ids, text=content, results=(result,))
        seen.entropy_delta, seen.branch_score = rng.gauss(0.05, 0.06), rng.random()
        grow(seen, turns - 1)
        seen.branches_requested = int(rng.random() < 0.34)
        if seen.branches_requested:
            grow(seen, turns - 1, is_branch=True)

    for _ in range(4):
        grow(tree.root, rng.randint(1, 3))
    credit(tree)
    return tree


def credit(tree: RolloutTree) -> None:
    leaves = tree.leaves()
    rewards = [leaf.reward.value for leaf in leaves if leaf.reward]
    mean = sum(rewards) / len(leaves)
    below: list[list[float]] = [[] for _ in tree.nodes]
    for leaf, reward in zip(leaves, rewards, strict=True):
        for node in tree.path(leaf):
            below[node.id].append(reward - mean)
    tree.credit = NodeCredit(weights=[len(b) / len(leaves) for b in below], advantages=[sum(b) / len(b) for b in below])
