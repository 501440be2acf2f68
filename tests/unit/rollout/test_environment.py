"""Environments of one's own: they answer turns without calls, speak as the user, end when they like and give rewards."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo.errors import EnvError, ToolError
from arpo.inference.scripted import ScriptedEngine
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rewards.build import build_reward
from arpo.rewards.config import RewardConfig
from arpo.rewards.scoring import score_tree
from arpo.rollout.agent import Agent
from arpo.rollout.config import LimitsConfig, RandomRuleConfig, RolloutConfig
from arpo.rollout.environment import Environment, Session
from arpo.rollout.path import turn_completions
from arpo.tree import Node, NodeKind, RolloutTree, Trajectory
from arpo.tree.serialize import tree_from_dict, tree_to_dict
from arpo.types import Message, Observation, Parse, Reward, Step, Task, Turn

from .test_group import RULES, Babbler, fitted, grow, task_named, timeless

LETTERS = {
    "": [("a", 3), ("b", 3), ("c", 3), ("d", 1)],
    "a": [("<|end|>", 3), ("a", 1)],
    "b": [("<|end|>", 3), ("b", 1)],
    "c": [("<|end|>", 3), ("c", 1)],
    "d": [("<|end|>", 1)],
}
"""What a policy writes that guesses letters."""
LIMITS = LimitsConfig(max_turn_tokens=6, max_trajectory_tokens=400)


class LetterGame:
    """Thinks of a letter, which the seed decides; the policy's turns are guesses, read as their last letter.

    A wrong guess costs 0.1 and is answered by the user with all guesses so far; the right one earns 1 and ends the game with
    words of the user; the last one that is allowed ends it without any.
    """

    def __init__(
        self,
        max_guesses: int = 4,
        *,
        knows_bound: bool = True,
        latency: Callable[[], float] = lambda: 0.0,
        rewards: bool = True,
    ):
        self.max_guesses = max_guesses
        self.max_observations = max_guesses if knows_bound else None
        self.latency = latency
        self.rewards = rewards
        self.num_open = 0
        self.num_games = 0

    async def open(self, task: Task, seed: int) -> "LetterGameSession":
        await asyncio.sleep(self.latency())
        self.num_games += 1
        return LetterGameSession(self, "abcd"[seed % 4], [])

    def drain_metrics(self) -> dict[str, float]:
        games, self.num_games = self.num_games, 0
        return {"environment/games": games}

    async def aclose(self) -> None:
        pass


class LetterGameSession:
    messages = (Message(role="user", content="a b c d ? <|end|>"),)

    def __init__(self, game: LetterGame, letter: str, guesses: list[str]):
        self.game, self.letter, self.guesses = game, letter, guesses
        game.num_open += 1

    async def step(self, turn: Turn) -> Step:
        await asyncio.sleep(self.game.latency())
        assert turn.index == len(self.guesses)
        self.guesses.append(turn.text[-1:])
        step = self.answer()
        return step if self.game.rewards else replace(step, reward=None)

    def answer(self) -> Step:
        if self.guesses[-1] == self.letter:
            said = Observation(role="user", content="yes")
            return Step(observations=(said,), is_done=True, reward=1.0, metrics={"wins": 1.0})
        if len(self.guesses) == self.game.max_guesses:
            return Step(is_done=True, reward=-0.1)
        return Step(observations=(Observation(role="user", content="no " + " ".join(self.guesses)),), reward=-0.1)

    def fork(self) -> "LetterGameSession":
        return LetterGameSession(self.game, self.letter, list(self.guesses))

    async def aclose(self) -> None:
        self.game.num_open -= 1


@pytest.fixture(scope="session")
def guessing(make_world, tokenizer: PolicyTokenizer):
    """A function that makes an agent that guesses at random in an environment."""
    return lambda environment: replace(
        make_world().agent, engine=Babbler(tokenizer, LETTERS), environment=environment, limits=LIMITS
    )


def turns_of(trajectory: Trajectory) -> list[tuple[Node, Node | None]]:
    """The completion that ends each turn of a trajectory, and the observation behind it."""
    pairs = zip(trajectory.nodes, [*trajectory.nodes[1:], None], strict=True)
    return [(node, after) for node, after in pairs if node.parse is not None and (after is None or not after.is_sampled)]


def text_of_turn(tree: RolloutTree, node: Node) -> str:
    return "".join(part.text for part in turn_completions(tree, node))


async def check_game(tree: RolloutTree, game: LetterGame, secret: str) -> None:
    """Each trajectory is a game of its own: played again alone, its turns get the same answers and rewards."""
    for trajectory in tree.trajectories():
        session = LetterGameSession(game, secret, [])
        for node, after in turns_of(trajectory):
            turn = Turn(text=text_of_turn(tree, node), parse=node.parse or Parse(), index=node.turn)
            step = await session.step(turn)
            assert (node.step_reward, node.step_metrics) == (step.reward, step.metrics)
            said = tuple(Message(role=o.role, content=o.content) for o in step.observations)
            assert (after.messages if after is not None else ()) == said
            assert after is None or after.text == f" <user>\n{said[0].content}\n</user>"
            last = after or node
            assert last.is_done == step.is_done == (last is trajectory.leaf)
        await session.aclose()


def secret_of(tree: RolloutTree) -> str:
    """The letter that some trajectory of the tree found, or the one nobody did."""
    found = [t.nodes[-2] for t in tree.trajectories() if t.leaf.kind is NodeKind.OBSERVATION]
    right = {text_of_turn(tree, node)[-1:] for node in found}
    assert len(right) <= 1, "all games of a task begin alike"
    return right.pop() if right else "?"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rule=st.sampled_from(RULES),
    group_size=st.integers(2, 9),
    max_guesses=st.integers(1, 4),
    knows_bound=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_a_game_grows_into_trees_of_exactly_m_leaves(
    guessing, rule: Any, group_size: int, max_guesses: int, knows_bound: bool, seed: int
) -> None:
    config = RolloutConfig(group_size=group_size, rule=fitted(rule, group_size), entropy_window=2)
    game = LetterGame(max_guesses, knows_bound=knows_bound)
    agent = guessing(game)

    async def run() -> None:
        for tree in await grow(agent, [task_named(f"{i}") for i in range(3)], config, seed):
            assert len(tree.leaves()) == group_size
            assert tree_from_dict(tree_to_dict(tree)) == tree
            assert tree.root.text.count("a b c d ?") == 1
            assert tree.task.messages[-1] == Message(role="user", content="a b c d ? < |end|>")
            await check_game(tree, game, secret_of(tree))
        assert game.num_open == 0, "every session is closed"

    asyncio.run(run())


async def test_games_fork_at_what_the_user_says_and_end_with_it(guessing) -> None:
    """All that the property above speaks of does occur."""
    config = RolloutConfig(group_size=8, rule=RandomRuleConfig(rate=0.7), entropy_window=2)
    agent = guessing(LetterGame())
    trees = await grow(agent, [task_named(f"{i}") for i in range(8)], config)
    forks = [t.nodes[n.parent or 0] for t in trees for n in t.nodes if n.is_branch]
    assert forks
    assert all(node.messages[0].content.startswith("no ") for node in forks)
    assert all(n.entropy_delta is not None for n in forks)
    leaves = [leaf for tree in trees for leaf in tree.leaves()]
    assert {leaf.kind for leaf in leaves} == {NodeKind.COMPLETION, NodeKind.OBSERVATION}
    assert len({secret_of(tree) for tree in trees}) > 2, "the seed is the task's"
    assert agent.environment.drain_metrics() == {"environment/games": sum(len(t.children[0]) for t in trees)}


@pytest.mark.parametrize("knows_bound", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.type)
async def test_latency_changes_no_game(guessing, random_latency, rule: Any, knows_bound: bool) -> None:
    config = RolloutConfig(group_size=6, rule=rule, entropy_window=2)
    tasks = [task_named(f"{i}") for i in range(4)]
    latencies = (lambda: 0.0, *map(random_latency, (1, 2)))
    first, *others = [
        timeless(await grow(guessing(LetterGame(knows_bound=knows_bound, latency=latency)), tasks, config))
        for latency in latencies
    ]
    assert first == others[0] == others[1]


def scripted(make_world, tokenizer: PolicyTokenizer, script: Callable[[str], str], environment: Environment) -> Agent:
    return replace(make_world().agent, engine=ScriptedEngine(script, tokenizer), environment=environment, limits=LIMITS)


SMALL = RolloutConfig(group_size=4, num_initial_trajectories=1, rule=RandomRuleConfig(rate=1.0), entropy_window=1)


@pytest.mark.parametrize(("silent", "forks_at"), [(1, [2]), (0, [])])
async def test_a_policy_that_says_nothing_keeps_no_branch_waiting(
    make_world, tokenizer: PolicyTokenizer, silent: int, forks_at: list[int]
) -> None:
    """Nothing is measured where a turn is empty: the group branches behind the next one, and nowhere without a baseline."""

    def script(text: str) -> str:
        return "" if text.count("<user>") == silent else "x"

    agent = scripted(make_world, tokenizer, script, LetterGame(3, knows_bound=False))
    (tree,) = await grow(agent, [task_named("0")], SMALL)
    assert len(tree.leaves()) == 4
    assert [tree.nodes[n.parent or 0].turn for n in tree.nodes if n.is_branch] == forks_at


async def test_tools_and_the_user_speak_in_one_observation(make_world, tokenizer: PolicyTokenizer) -> None:
    """An environment around the executor: it passes calls on, adds how many turns are left, and answers answers itself."""

    class Exam:
        max_observations = 2

        def __init__(self, tools: Environment):
            self.tools = tools
            self.drain_metrics, self.aclose = tools.drain_metrics, tools.aclose

        async def open(self, task: Task, seed: int) -> "Sitting":
            return Sitting(await self.tools.open(task, seed))

    class Sitting:
        messages = ()

        def __init__(self, tools: Session):
            self.tools = tools

        async def step(self, turn: Turn) -> Step:
            if turn.index == 2:
                return Step(is_done=True, reward=0.25)
            left = Observation(role="user", content=f"{1 - turn.index} left")
            step = await self.tools.step(turn)
            return replace(step, observations=(*step.observations, left), is_done=False)

        def fork(self) -> "Sitting":
            return Sitting(self.tools.fork())

        async def aclose(self) -> None:
            await self.tools.aclose()

    world = make_world()

    def script(text: str) -> str:
        return "<answer>a</answer>" if "1 left" in text else "<search>ab</search>"

    agent = scripted(make_world, tokenizer, script, Exam(world.executor))
    (tree,) = await grow(agent, [task_named("0")], replace_rate(SMALL, 0.0))
    _, called, both, answered, spoken, last = tree.trajectories()[0].nodes
    assert [call.name for call in (called.parse or Parse()).calls] == ["search"]
    assert ([r.content for r in both.results], both.messages) == (["ba"], (Message(role="user", content="1 left"),))
    assert both.text == " <result>\nba\n</result> <user>\n1 left\n</user>"
    assert (answered.parse or Parse()).answer == "a"
    assert (spoken.results, spoken.messages) == ((), (Message(role="user", content="0 left"),))
    assert (called.step_reward, answered.step_reward, last.step_reward, last.is_done) == (None, None, 0.25, True)
    assert agent.environment.drain_metrics()["rollout/tool_calls_issued"] == 4


def replace_rate(config: RolloutConfig, rate: float) -> RolloutConfig:
    return config.model_copy(update={"rule": RandomRuleConfig(rate=rate)})


async def test_an_environment_that_begins_otherwise_the_second_time_is_an_error(guessing) -> None:
    class Moody(LetterGame):
        async def open(self, task: Task, seed: int) -> LetterGameSession:
            session = await super().open(task, seed)
            session.messages = (Message(role="user", content=f"game {self.num_games}"),)
            return session

    with pytest.raises(EnvError, match=r"task '0': its environment began with .*game 2.*same messages"):
        await grow(guessing(Moody()), [task_named("0")], replace_rate(SMALL, 0.0))


async def test_an_environment_that_answers_more_turns_than_it_said_is_an_error(make_world, tokenizer: PolicyTokenizer) -> None:
    game = LetterGame(4)
    game.max_observations = 2
    agent = scripted(make_world, tokenizer, lambda text: "x", game)
    with pytest.raises(EnvError, match=r"task '0': its environment answered turn 3 of a path, but its max_observations = 2"):
        await grow(agent, [task_named("0")], SMALL)
    assert game.num_open == 0


async def test_a_state_that_cannot_be_forked_ends_the_growth_and_is_never_shared(guessing) -> None:
    class Unforkable(LetterGame):
        async def open(self, task: Task, seed: int) -> LetterGameSession:
            session = await super().open(task, seed)

            def fork() -> LetterGameSession:
                raise ToolError("the game cannot be copied")

            session.fork = fork
            return session

    with pytest.raises(ToolError, match="cannot be copied"):
        await grow(guessing(Unforkable()), [task_named("0")], SMALL)
    none = RolloutConfig(group_size=4, rule={"type": "none"})  # pyright: ignore[reportArgumentType]
    (tree,) = await grow(guessing(Unforkable()), [task_named("0")], none)
    assert len(tree.leaves()) == 4


def scored(tree: RolloutTree) -> list[Reward]:
    score_tree(tree, build_reward(RewardConfig(rule="environment")))
    return [leaf.reward for leaf in tree.leaves() if leaf.reward is not None]


async def play(
    make_world, tokenizer: PolicyTokenizer, script: Callable[[str], str], game: LetterGame, room: int = 400
) -> RolloutTree:
    limits = LimitsConfig(max_turn_tokens=6, max_trajectory_tokens=room)
    agent = replace(scripted(make_world, tokenizer, script, game), limits=limits)
    (tree,) = await grow(agent, [task_named("0")], replace_rate(SMALL, 0.0))
    return tree


def guesses(order: Sequence[str]) -> Callable[[str], str]:
    return lambda text: order[text.count("<user>")]


async def test_the_reward_is_the_sum_of_the_steps(make_world, tokenizer: PolicyTokenizer) -> None:
    """The letter is found by trying: as the n-th guess it earns 1 - 0.1 (n - 1)."""
    tree = await play(make_world, tokenizer, guesses("abcd"), LetterGame())
    num_wrong = len(tree.trajectories()[0].completions) - 1
    rewards = scored(tree)
    assert [r.value for r in rewards] == [pytest.approx(1.0 - 0.1 * num_wrong)] * 4
    assert all(r.components["wins"] == 1.0 for r in rewards)
    assert not any(r.is_correct for r in rewards), "no boxed answer matches a reference"
    tree.task = replace(tree.task, references=())
    assert [r.is_correct for r in scored(tree)] == [None] * 4, "nothing to compare with"
    lost = scored(await play(make_world, tokenizer, lambda text: "x", LetterGame()))
    assert [r.value for r in lost] == [pytest.approx(-0.4)] * 4
    assert all("wins" not in r.components for r in lost)


async def test_an_episode_that_ended_without_a_reward_is_an_error_and_one_that_was_cut_is_not(
    make_world, tokenizer: PolicyTokenizer
) -> None:
    tree = await play(make_world, tokenizer, lambda text: "x", LetterGame(rewards=False))
    with pytest.raises(EnvError, match="task '0': its environment ended the episode without giving a reward"):
        scored(tree)
    room = len(tree.root.token_ids) + 3  # for a guess, but for no answer to it
    cut = await play(make_world, tokenizer, lambda text: "x", LetterGame(rewards=False), room)
    assert [r.value for r in scored(cut)] == [0.0] * 4
    assert not any(leaf.is_done for leaf in cut.leaves())
