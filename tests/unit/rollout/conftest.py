"""A policy that calls tools now and then: the real engine, tokenizer, protocol and executor around a tiny model."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.inference.transformers_engine import TransformersEngine
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.rollout.agent import Agent
from arpo.rollout.config import LimitsConfig
from arpo.tools.config import ExecutorConfig
from arpo.tools.executor import ToolExecutor
from arpo.tools.function import FunctionTool
from arpo.types import Message, Task
from arpo.world.tiny_policy import make_tokenizer

# After each of these tokens, how much the policy likes the others; a little attention noise on top makes entropies differ.
LIKES = {
    "<|assistant|>": {"<search>": 2.5, "<answer>": 0.0, "a": 0.0},
    "</result>": {"<search>": 1.5, "<answer>": 1.0, "a": 0.0},
    "<search>": {"a": 1.0, "b": 0.0, "c": 1.0},
    "<answer>": {"a": 0.0, "b": 2.0},
    "a": {"</search>": 2.0, "<search>": -1.0, "</answer>": -1.0, "b": 0.0, "c": 0.5},
    "b": {"</search>": 0.5, "<answer>": -1.5, "</answer>": 1.5, "a": 0.5, "<|end|>": -1.0},
    "c": {"</search>": 2.0, "a": 0.5, "b": 0.5},
}


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PolicyTokenizer:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(["a b c question 1 2 3"], 300, 512).save_pretrained(directory)
    return PolicyTokenizer.load(directory)


def make_policy(tokenizer: PolicyTokenizer) -> Qwen3ForCausalLM:
    """A two-layer model whose embeddings of the liked tokens are orthogonal, so that the head reads off the last one."""
    config = Qwen3Config(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=32, initializer_range=0.08, tie_word_embeddings=False, max_position_embeddings=512,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config).eval()
    basis = torch.linalg.qr(torch.randn(32, 32)).Q
    head = torch.zeros(tokenizer.vocab_size, 32)
    with torch.no_grad():
        for row, (token, likes) in enumerate(LIKES.items()):
            (index,) = tokenizer.encode_markup(token)
            model.get_input_embeddings().weight[index] = basis[row] * 32**0.5
            scores = torch.full((tokenizer.vocab_size,), -15.0)
            for liked, score in likes.items():
                scores[tokenizer.encode_markup(liked)] = score
            head += torch.outer(scores, basis[row]) / 32**0.5
        model.get_output_embeddings().weight.copy_(head)
    return model


class World:
    """An agent whose tools (one, `search`, unless told) answer, after an arbitrary pause, with the query turned round."""

    def __init__(
        self,
        tokenizer: PolicyTokenizer,
        *,
        latency: Callable[[], float] = lambda: 0.0,
        max_calls: int = 3,
        max_calls_per_tool: dict[str, int] | None = None,
        tools: tuple[str, ...] = ("search",),
        limits: LimitsConfig | None = None,
        tool: Callable[[str], str] | None = None,
    ):
        self.queries: list[str] = []

        async def search(query: str) -> str:
            self.queries.append(query)
            await asyncio.sleep(latency())
            return tool(query) if tool is not None else query[::-1]

        self.tokenizer = tokenizer
        self.model = make_policy(tokenizer)
        self.engine = TransformersEngine(self.model, decode=tokenizer.decode, eos_ids=tokenizer.eos_ids)
        by_name = {name: FunctionTool(search, name) for name in tools}
        self.tool = by_name[tools[0]]
        config = ExecutorConfig(max_calls=max_calls, max_calls_per_tool=max_calls_per_tool or {})
        self.executor = ToolExecutor(by_name, config, tokenizer.cut)
        self.agent = Agent(
            engine=self.engine,
            tokenizer=tokenizer,
            protocol=TagProtocol(
                tokenizer,
                TagProtocolConfig(tools=tools, system_prompt=""),
                {name: tool.schema for name, tool in by_name.items()},
            ),
            environment=self.executor,
            limits=limits or LimitsConfig(max_turn_tokens=12, max_trajectory_tokens=90),
        )

    def assert_empty(self) -> None:
        """Nothing of any rollout is left in the engine."""
        self.engine.cache.check_integrity()
        assert self.engine.cache.num_used_slots == 0
        assert (self.engine._num_participants, self.engine._num_busy) == (0, 0)


@pytest.fixture(scope="session")
def make_world(tokenizer: PolicyTokenizer):
    return lambda **options: World(tokenizer, **options)


def make_tasks(n: int) -> list[Task]:
    return [
        Task(id=f"t{i}", messages=(Message(role="user", content=f"question {i}"),), references=("a",), source="test")
        for i in range(n)
    ]


@pytest.fixture
def tasks() -> list[Task]:
    return make_tasks(3)


@pytest.fixture
def many_tasks() -> list[Task]:
    return make_tasks(8)


@pytest.fixture
def random_latency():
    """A function that makes a latency of up to 3 ms from a seed."""
    return lambda seed: partial(Random(seed).choice, [0.0, 0.0, 0.001, 0.003])
