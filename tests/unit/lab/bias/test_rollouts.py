from random import Random

import pytest

from arpo.lab.bias import rollouts
from arpo.lab.bias.chance import draw
from arpo.lab.bias.combinations import RULES, growth
from arpo.lab.bias.decision_tree import RESULT, DecisionTree
from arpo.lab.bias.rollouts import all_trees, score, table_agent
from arpo.lab.bias.table_agent import TASK, TOOL
from arpo.rollout.runner import RolloutRunner
from arpo.seeds import derive_seed
from arpo.tools.config import ExecutorConfig
from arpo.tools.executor import ToolExecutor
from arpo.tools.function import FunctionTool
from arpo.tree import tree_to_dict


def seeded_draw(probabilities, seed: int, position: int) -> int:
    return draw(probabilities, Random(derive_seed(seed, position)).random())


def real_executor() -> ToolExecutor:
    async def search(query: str) -> str:
        return RESULT

    return ToolExecutor({TOOL: FunctionTool(search)}, ExecutorConfig(max_calls=2), lambda text, n: (text, False))


def forget_seconds(record):
    """The record without the wall times of tool calls."""
    if isinstance(record, dict):
        return {k: forget_seconds(v) for k, v in record.items() if k != "seconds"}
    return [forget_seconds(v) for v in record] if isinstance(record, list) else record


@pytest.mark.parametrize("rule", RULES)
async def test_groups_without_an_event_loop_are_those_of_the_runner(rule: str):
    """With the same draws by seed and position the trees are equal, node for node; there: runner, event loop, executor."""
    tree = DecisionTree.of_study()
    way = growth(rule, group_size=6, num_initial=3, tops_up=True)
    runner = RolloutRunner(table_agent(tree, seeded_draw, real_executor()), way.config)
    for seed in range(12):
        (grown,) = [t async for t in runner.sample([TASK], seed=seed)]
        score(tree, grown)
        ours = rollouts.run_group(tree, way, seeded_draw, seed=seed)
        assert forget_seconds(tree_to_dict(ours)) == forget_seconds(tree_to_dict(grown))


@pytest.mark.parametrize("tops_up", [False, True])
def test_every_group_is_there_and_has_its_leaves(tops_up: bool):
    trees, probabilities = all_trees(
        DecisionTree.of_study(), growth("arpo, k = 1", group_size=3, num_initial=2, tops_up=tops_up)
    )
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-12)
    sizes = {len(t.leaves()) for t in trees}
    assert sizes == ({3} if tops_up else {2, 3})


def test_the_law_of_a_small_group_is_worked_out_by_hand():
    """M = 2, N = 1, arpo with k = 1: "as" (0.56) and "as!us" branch where entropy exceeds the prompt's, "bs" (0.3) does not."""
    trees, probabilities = all_trees(DecisionTree.of_study(), growth("arpo, k = 1", group_size=2, num_initial=1, tops_up=False))
    sizes = [0.0, 0.0, 0.0]
    for grown, probability in zip(trees, probabilities, strict=True):
        sizes[len(grown.leaves())] += probability
    # 0.7 * 0.8 = 0.56 reach the result of "as" and branch there; the budget is then used up. The others end alone.
    assert sizes == pytest.approx([0.0, 0.44, 0.56])


def test_siblings_in_another_order_are_the_same_group():
    trees, _ = all_trees(DecisionTree.of_study(), growth("none", group_size=2, num_initial=2, tops_up=True))
    assert len(trees) == 8 * 9 // 2  # pairs of 8 trajectories
