"""Groups of trajectories for programs with another training loop."""

from collections.abc import Sequence
from typing import Any

from arpo.config import parse_config
from arpo.inference.base import InferenceEngine
from arpo.protocols.base import Tokenizer, ToolProtocol
from arpo.rollout.agent import Agent
from arpo.rollout.config import ArpoRuleConfig, BranchRuleConfig, LimitsConfig, RolloutConfig
from arpo.rollout.environment import Environment
from arpo.rollout.runner import RolloutRunner
from arpo.tree import RolloutTree
from arpo.types import Task


async def sample_groups(
    engine: InferenceEngine[Any],
    environment: Environment,
    tasks: Sequence[Task],
    rule: BranchRuleConfig | None = None,
    *,
    tokenizer: Tokenizer,
    protocol: ToolProtocol,
    limits: LimitsConfig | None = None,
    seed: int = 0,
    **options: Any,
) -> list[RolloutTree]:
    """One tree of exactly `group_size` leaves per task, in the order of the tasks; not scored yet.

    Args:
        engine: Samples completions.
        environment: Answers the turns of the policy, e.g. a `ToolExecutor`.
        tasks: What to answer; a task may occur only once.
        rule: Where trees branch; None: ARPO's rule with its published constants.
        tokenizer: The policy's tokenizer.
        protocol: How the policy writes calls and reads results.
        limits: Token limits of a trajectory; None: the defaults.
        seed: Names the random streams; equal seeds, tasks and weights give equal trees.
        options: Further keys of `RolloutConfig`, such as `group_size=8` and `temperature=0.7`.

    Raises:
        ConfigError: the options contradict each other, or the engine has no such entropies.
        DataError: two tasks have one id, or a prompt leaves no room for a completion.
        EngineError: the engine failed twice on a tree.

    Example:
        trees = await sample_groups(engine, tools, tasks, tokenizer=tokenizer, protocol=protocol, group_size=8)
        [len(tree.leaves()) for tree in trees]  # -> [8, 8, ...]
    """
    agent = Agent(
        engine=engine, tokenizer=tokenizer, protocol=protocol, environment=environment, limits=limits or LimitsConfig()
    )
    config = parse_config(RolloutConfig, {"rule": rule or ArpoRuleConfig(), **options}, "sample_groups")
    trees = {tree.task.id: tree async for tree in RolloutRunner(agent, config).sample(tasks, seed=seed)}
    return [trees[task.id] for task in tasks]
