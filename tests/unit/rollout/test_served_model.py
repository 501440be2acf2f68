"""The agent loop with its model behind a real HTTP server: the trees are those of the model itself."""

import json
from dataclasses import replace
from typing import Any

import pytest

from arpo.clients.config import RetryingHttpConfig
from arpo.errors import ConfigError
from arpo.inference.config import OpenAIEngineConfig
from arpo.inference.openai_engine import OpenAIEngine
from arpo.rollout.config import NoBranchingConfig, RandomRuleConfig, RolloutConfig
from arpo.rollout.runner import RolloutRunner
from arpo.tree import Node, RolloutTree
from arpo.tree.serialize import tree_from_dict, tree_to_dict
from arpo.types import Parse, SamplingParams, StopReason

GREEDY = RolloutConfig(group_size=1, rule=NoBranchingConfig(), temperature=0.0, deterministic=False)


def serving(world, replies, manner: str):
    """Answers `/v1/completions` by the world's own engine, with ids or as text alone, as servers do."""

    async def handle(request, writer) -> None:
        body = request.json()
        prefix = await world.engine.prefill(None, body["prompt"])
        sampling = SamplingParams(temperature=body["temperature"], max_tokens=body["max_tokens"])
        completion, longer = await world.engine.generate(prefix, sampling, seed=body["seed"], stop=body["stop"])
        for held in (prefix, longer):
            held.release()
        text = world.tokenizer.decode([t for t in completion.token_ids if t not in world.tokenizer.eos_ids])
        told = next((s for s in body["stop"] if s in text), None)
        choice: dict[str, Any] = {"text": text[: text.index(told)] if told else text, "finish_reason": "stop"}
        if completion.stop_reason is StopReason.LENGTH:
            choice["finish_reason"] = "length"
        if manner == "ids":
            choice["token_ids"] = completion.token_ids
        if manner == "told":
            choice["stop_reason"] = told
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(completion.token_ids)}
        await replies.reply(200, {"choices": [choice], "usage": usage})(request, writer)

    return handle


def shown(node: Node, hides: bool) -> tuple[Any, ...]:
    """What grading and reports see; a server that leaves the stop string out `hides` a closing tag nothing opened."""
    parse = node.parse or Parse()
    text = node.text.removesuffix("</search>") if hides else node.text
    faults = () if hides else (parse.faults, node.stop_reason)
    return node.kind, text, parse.calls, parse.answer, faults, [result.content for result in node.results]


async def grow(agent, tasks) -> dict[str, RolloutTree]:
    return {tree.task.id: tree async for tree in RolloutRunner(agent, GREEDY).sample(tasks, seed=1)}


@pytest.mark.parametrize("manner", ["ids", "told", "text"])
async def test_greedy_trees_equal_those_of_the_model_in_the_process(make_world, serve, replies, many_tasks, manner: str):
    world = make_world()
    expected = await grow(world.agent, many_tasks)
    assert sum(len(n.results) for tree in expected.values() for n in tree.nodes) >= len(many_tasks), "tools are called"

    server = await serve(serving(world, replies, manner))
    config = OpenAIEngineConfig(base_url=f"{server.url}/v1", model="m", http=RetryingHttpConfig(max_retries=0))
    asked = OpenAIEngine(config, world.tokenizer)
    served = await grow(replace(world.agent, engine=asked), many_tasks)
    assert served.keys() == expected.keys()
    for task_id, tree in served.items():
        own = expected[task_id]
        for node, other in zip(tree.nodes, own.nodes, strict=True):
            hides = manner == "text" and "unopened_search" in (other.parse or Parse()).faults
            assert shown(node, hides) == shown(other, hides)
        if manner == "ids":
            assert [n.token_ids for n in tree.nodes] == [n.token_ids for n in own.nodes]
        assert tree_from_dict(json.loads(json.dumps(tree_to_dict(tree)))).nodes == tree.nodes
    completions = [n for tree in served.values() for n in tree.nodes if n.is_sampled]
    assert asked.usage.num_requests == len(completions) == len(server.received), "one request a completion"
    assert asked.usage.num_tokenized_again == (0 if manner == "ids" else len(completions))
    assert asked.usage.completion_tokens == sum(len(n.token_ids) for t in expected.values() for n in t.nodes if n.is_sampled)
    await asked.aclose()
    world.assert_empty()


def test_no_rule_can_branch_on_a_served_model(make_world):
    world = make_world()
    agent = replace(world.agent, engine=OpenAIEngine(OpenAIEngineConfig(base_url="http://h/v1", model="m"), world.tokenizer))
    with pytest.raises(ConfigError, match=r"rollout\.rule\.type = 'random': this engine reports neither entropies"):
        RolloutRunner(agent, RolloutConfig(rule=RandomRuleConfig(), entropy_estimator="surprisal", deterministic=False))
