"""arpo: reinforcement learning for tool-using LLM agents that branches where the model is unsure.

The names below are the whole path from Python: describe a run, start it, read what it wrote; and the parts of a step for a loop
of your own (`examples/minimal.py`). Each is imported from its module on first use, so that `import arpo` needs no torch.

Example:
    import arpo

    run = arpo.RlRun(out="runs/mine", model={"path": "my-model"}, tasks="tasks.parquet", agent={"tools": {"python": {}}, ...})
    arpo.train_rl(run, reward_fn=my_reward)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from arpo.batching.policy_batch import make_policy_batches as make_policy_batches
    from arpo.batching.rows import leaf_rows as leaf_rows
    from arpo.config import load_config as load_config
    from arpo.data.tasks import read_tasks as read_tasks
    from arpo.errors import ArpoError as ArpoError
    from arpo.evaluation.config import EvalRun as EvalRun
    from arpo.evaluation.config import RolloutRun as RolloutRun
    from arpo.evaluation.rollouts import sample_rollouts as sample_rollouts
    from arpo.evaluation.run import evaluate as evaluate
    from arpo.rollout.groups import sample_groups as sample_groups
    from arpo.tools.function import FunctionTool as FunctionTool
    from arpo.tools.function import tool as tool
    from arpo.tracking.progress import SilentProgress as SilentProgress
    from arpo.training.config import RlRun as RlRun
    from arpo.training.config import SftRun as SftRun
    from arpo.training.credit import assign_credit as assign_credit
    from arpo.training.learner import Learner as Learner
    from arpo.training.objective import policy_objective as policy_objective
    from arpo.training.on_step import StepReport as StepReport
    from arpo.training.rl import train_rl as train_rl
    from arpo.training.sft import train_sft as train_sft
    from arpo.tree import RolloutTree as RolloutTree
    from arpo.tree import Trajectory as Trajectory
    from arpo.tree import read_trees as read_trees
    from arpo.types import Message as Message
    from arpo.types import Reward as Reward
    from arpo.types import Task as Task

_MODULES = {
    "train_rl": "arpo.training.rl",
    "train_sft": "arpo.training.sft",
    "evaluate": "arpo.evaluation.run",
    "sample_rollouts": "arpo.evaluation.rollouts",
    "RlRun": "arpo.training.config",
    "SftRun": "arpo.training.config",
    "EvalRun": "arpo.evaluation.config",
    "RolloutRun": "arpo.evaluation.config",
    "load_config": "arpo.config",
    "SilentProgress": "arpo.tracking.progress",
    "FunctionTool": "arpo.tools.function",
    "tool": "arpo.tools.function",
    "Message": "arpo.types",
    "Task": "arpo.types",
    "Reward": "arpo.types",
    "StepReport": "arpo.training.on_step",
    "RolloutTree": "arpo.tree",
    "Trajectory": "arpo.tree",
    "read_trees": "arpo.tree",
    "read_tasks": "arpo.data.tasks",
    "ArpoError": "arpo.errors",
    "sample_groups": "arpo.rollout.groups",
    "assign_credit": "arpo.training.credit",
    "make_policy_batches": "arpo.batching.policy_batch",
    "policy_objective": "arpo.training.objective",
    "Learner": "arpo.training.learner",
    "leaf_rows": "arpo.batching.rows",
}

__all__ = ["__version__", *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A public name, from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module 'arpo' has no attribute {name!r}; its names are {', '.join(_MODULES)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
