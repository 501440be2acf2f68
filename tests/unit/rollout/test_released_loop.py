"""Groups of the released rules grow as the public code's loop grows rows, fills included."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from statistics import fmean

import pytest

from arpo.inference.scripted import ScriptedEngine
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rollout.agent import Agent
from arpo.rollout.config import AepoReleasedRuleConfig, ArpoReleasedRuleConfig, RolloutConfig
from arpo.seeds import derive_seed
from arpo.tree import NodeKind

from .test_group import LONG, grow, task_named

N, M = 8, 16


def penalised(gained: int) -> float:
    """The probability 0.5 / (1 - 0.2 l) of a refused draw, 1 from l = 3 on."""
    return min(1.0, 0.5 / max(1e-9, 1 - 0.2 * gained))


def public_loop(
    num_calls: int, draws: Callable[[int], Random], penalty: Callable[[int], float] = lambda gained: 0.5
) -> tuple[int, int, int]:
    """Branches, fills and calls of one prompt whose trajectories call `num_calls` times, where entropy has no weight.

    The loop of the public code, in rounds: each active row writes a turn, the calls run, each row that called may be copied
    while rows are missing, and a prompt without active rows gets one fresh row. A row is the number of its calls. `penalty`
    maps the rounds in a row in which the prompt gained a row to the probability that a draw is refused.
    """
    active, num_rows = [0] * N, N
    branches = fills = calls = gained = 0
    turn = 0
    while active:
        turn += 1
        active = [row + 1 for row in active if row < num_calls]
        calls += len(active)
        before, copies, random = num_rows, list[int](), draws(turn)
        for row in active:
            if num_rows < M and random.random() < 1 - penalty(gained):
                copies.append(row)
                num_rows += 1
        branches += len(copies)
        active += copies
        if not active and num_rows < M:
            active, num_rows, fills = [0], num_rows + 1, fills + 1
        gained = gained + 1 if num_rows > before else 0
    return branches, fills, calls


@pytest.fixture(scope="session")
def calling(make_world, tokenizer: PolicyTokenizer) -> Callable[[int], Agent]:
    """A function that makes an agent that calls a tool that many times, then answers."""

    def make(num_calls: int) -> Agent:
        def script(text: str) -> str:
            return "<answer>a</answer>" if text.count("<result>") == num_calls else "<search>a</search>"

        return replace(make_world(max_calls=5, limits=LONG).agent, engine=ScriptedEngine(script, tokenizer))

    return make


def test_the_public_loop_itself() -> None:
    """Of one call each, eight places and a fair coin: 5.11 branches, 2.89 fills, 10.89 calls, over 20,000 prompts."""
    streams = [Random(seed) for seed in range(20_000)]
    runs = [public_loop(1, lambda turn, stream=stream: stream) for stream in streams]
    branches, fills, calls = (fmean(run[i] for run in runs) for i in range(3))
    assert (branches, fills, calls) == pytest.approx((5.11, 2.89, 10.89), abs=0.03)


@pytest.mark.parametrize("num_calls", [1, 2, 3])
@pytest.mark.parametrize(
    ("rule", "penalty"),
    [
        (ArpoReleasedRuleConfig(entropy_weight=0.0), lambda gained: 0.5),
        (
            AepoReleasedRuleConfig(entropy_weight=0.0, penalty_slope=0.2),
            penalised,
        ),
    ],
    ids=lambda x: getattr(x, "type", ""),
)
async def test_a_group_grows_as_the_public_loop(calling, rule, penalty, num_calls: int) -> None:
    """Draw by draw, on 60 tasks: as many branches, fills and calls, and fills that branch among them."""
    config = RolloutConfig(group_size=M, num_initial_trajectories=N, rule=rule, entropy_window=1)
    tasks = [task_named(f"{i}") for i in range(60)]
    branching_fills = 0
    for tree in await grow(calling(num_calls), tasks, config):
        results = [n for n in tree.nodes if n.kind is NodeKind.OBSERVATION]
        found = (sum(n.is_branch for n in tree.nodes), len(tree.children[0]) - N, len(results))
        draws = lambda turn, name=tree.task.id: Random(derive_seed(0, name, "branch", turn))  # noqa: E731
        assert found == public_loop(num_calls, draws, penalty)
        below = [n for n in results if tree.path(n)[1].id in tree.children[0][N:]]
        branching_fills += sum(len(tree.children[n.id]) > 1 for n in below)
    assert branching_fills > 5 or num_calls > 1
