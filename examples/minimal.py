"""ARPO from top to bottom, without a trainer: python examples/minimal.py MODEL.

Each step samples one tree per task that branches where the model became unsure, scores its leaves, gives credit to its nodes,
and moves the policy by a loss that computes every shared token once. `arpo train` does the same, with files around it.
"""

import asyncio
import sys
from pathlib import Path

import torch

import arpo
from arpo.batching.config import BatchingConfig
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.loading import load_policy
from arpo.models.policy import PolicyModel
from arpo.models.weights import ModelWeights
from arpo.protocols.build import build_protocol
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rewards.base import RewardFn
from arpo.rewards.scoring import score_tree
from arpo.rollout.config import ArpoRuleConfig, LimitsConfig
from arpo.seeds import derive_seed
from arpo.tools.config import ExecutorConfig
from arpo.tools.executor import ToolExecutor
from arpo.training.algorithm_config import MismatchConfig, OutcomeAdvantageConfig, PpoClipLossConfig

STOCK = {"apples": "12", "pears": "7", "plums": "30"}
SYSTEM = "Ask with <stock> item </stock> how many there are, then write <answer> the number </answer>."


def stock(item: str) -> str:
    """How many of an item are in store."""
    return STOCK.get(item.strip(), "no such item")


def make_task(item: str) -> arpo.Task:
    """A question with its answer."""
    message = arpo.Message(role="user", content=f"How many {item}?")
    return arpo.Task(id=item, messages=(message,), references=(STOCK[item],), source="stock")


def reward(trajectory: arpo.Trajectory) -> arpo.Reward:
    """1 for the right answer, 0.1 for any answer, 0 for none."""
    parse = trajectory.leaf.parse
    answer = parse.answer if parse is not None else None
    is_correct = answer is not None and answer.strip() in trajectory.task.references
    return arpo.Reward(value=1.0 if is_correct else 0.1 * (answer is not None), is_correct=is_correct)


async def train(
    model: Path,
    steps: list[list[arpo.Task]],
    reward_fn: RewardFn,
    *,
    group_size: int = 8,
    learning_rate: float = 1e-5,
    seed: int = 0,
) -> PolicyModel:
    """Train on the tasks of each step; return the policy."""
    # the policy: one network, which the engine samples from and the optimizer moves
    tokenizer = PolicyTokenizer.load(model)
    policy = PolicyModel(load_policy(model))
    engine = TransformersEngine(policy.network, decode=tokenizer.decode, eos_ids=tokenizer.eos_ids)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0, fused=True)

    # the environment: a tool, how the model calls it, and what a trajectory may spend
    limits = LimitsConfig(max_turn_tokens=64, max_trajectory_tokens=512)
    tools = {"stock": arpo.FunctionTool(stock)}
    environment = ToolExecutor(tools, ExecutorConfig(max_calls=3), tokenizer.cut)
    settings = TagProtocolConfig(tools=("stock",), system_prompt=SYSTEM)
    protocol = build_protocol(settings, tokenizer, {"stock": tools["stock"].schema})

    # the algorithm: where trees branch, how rewards become advantages, what is minimised
    rule = ArpoRuleConfig(alpha=0.5, beta=0.2, tau=0.5)
    advantage = OutcomeAdvantageConfig(baseline="group_mean", scale="group_std", attribution="soft")
    loss = PpoClipLossConfig(clip_low=0.2, clip_high=0.2, aggregation="sequence_mean")

    for step, tasks in enumerate(steps):
        # 1. sample one tree per task: group_size leaves, half of them from the prompt, the others where entropy rose
        trees = await arpo.sample_groups(
            engine, environment, tasks, rule, tokenizer=tokenizer, protocol=protocol, limits=limits,
            group_size=group_size, seed=derive_seed(seed, "rollout", step),
        )  # fmt: skip

        # 2. score every leaf
        for tree in trees:
            score_tree(tree, reward_fn)

        # 3. credit: a leaf's reward, compared with its group, for every node on its path
        credits = arpo.assign_credit(trees, advantage, loss)

        # 4. batches in which each token occurs once; a group of equal rewards teaches nothing
        used = [i for i, credit in enumerate(credits) if not credit.is_zero]
        batches = arpo.make_policy_batches([trees[i] for i in used], [credits[i] for i in used], BatchingConfig())

        # 5. the loss, one denominator for all batches, and one update
        denominator = sum(credit.denominator for credit in credits) or 1.0
        for batch in batches:
            logprobs, entropies = policy(batch.packed)
            objective = arpo.policy_objective(logprobs, entropies, None, None, batch, loss, MismatchConfig(level="none"))
            (objective.total / denominator).backward()
        if batches:
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        # 6. the engine samples from the new weights
        await engine.update_weights(ModelWeights(policy.network), version=step + 1)

        rewards = [leaf.reward.value for tree in trees for leaf in tree.leaves() if leaf.reward is not None]
        forks = sum(node.is_branch for tree in trees for node in tree.nodes)
        print(f"step {step + 1}: reward {sum(rewards) / len(rewards):.3f}, {forks} branches, {len(used)} groups with signal")

    await engine.aclose()
    await environment.aclose()
    return policy


if __name__ == "__main__":
    asyncio.run(train(Path(sys.argv[1]), [[make_task(item) for item in STOCK]] * 3, reward))
