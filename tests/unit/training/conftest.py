"""A tiny model directory and a hand-made tree."""

from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.protocols.encoding import PolicyTokenizer
from arpo.tree import Node, NodeKind, RolloutTree
from arpo.types import Message, Parse, Reward, StopReason, Task, ToolCall, ToolResult


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory, make_tokenizer_directory) -> Path:
    """A random Qwen3 of two layers."""
    directory = make_tokenizer_directory(tmp_path_factory.mktemp("policy"), "qwen3")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=PolicyTokenizer.load(directory).vocab_size, hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=128,
        tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture
def make_tree():
    """prompt [2 tokens] -> a [3] -> observation [4] -> b [2] and, forked, c [6]; prompt -> d [1]. Leaves b, c, d."""

    def make(rewards: tuple[float, float, float] = (1.0, 0.0, 0.5), name: str = "t", first_id: int = 20) -> RolloutTree:
        task = Task(id=name, messages=(Message(role="user", content="q"),), references=("2",), source="test")
        tree = RolloutTree.from_prompt(task, [first_id, first_id + 1])
        tree.settings = {"num_initial": 1}
        ids = iter(range(first_id + 2, first_id + 40))

        def sample(parent: Node, num_tokens: int, **fields: object) -> Node:
            numbers = {"logprobs": [-1.0] * num_tokens, "entropies": [0.5 + 0.1 * i for i in range(num_tokens)]}
            return tree.append(parent, NodeKind.COMPLETION, [next(ids) for _ in range(num_tokens)], **(numbers | fields))

        call = Parse(calls=(ToolCall(name="python", arguments={"code": "1+1"}),), num_think_blocks=1)
        answer = Parse(answer="\\boxed{2}", num_think_blocks=1)
        a = sample(tree.root, 3, stop_reason=StopReason.STOP_STRING, parse=call)
        observation = tree.append(
            a,
            NodeKind.OBSERVATION,
            [next(ids) for _ in range(4)],
            results=(ToolResult(content="2"),),
            entropy_delta=0.25,
            branch_score=0.55,
        )
        b = sample(observation, 2, stop_reason=StopReason.STOP_STRING, parse=answer, is_done=True)
        d = sample(tree.root, 1, stop_reason=StopReason.LENGTH, parse=Parse(faults=("unclosed_think",)))
        c = sample(observation, 6, stop_reason=StopReason.STOP_STRING, parse=answer, is_branch=True, is_done=True)
        for leaf, reward in zip((b, c, d), rewards, strict=True):
            components = {"exact_match": float(reward == 1), "f1": max(reward, 0.0), "format": float(leaf is not d)}
            leaf.reward = Reward(value=reward, is_correct=reward == 1, components=components)
        return tree.renumbered(lambda node: (node.token_ids[0],))

    return make
