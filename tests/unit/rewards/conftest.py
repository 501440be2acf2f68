from collections.abc import Callable
from pathlib import Path

import pytest

from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.tree import NodeKind, RolloutTree, Trajectory
from arpo.types import Message, Observation, StopReason, Task, ToolResult

MakeTrajectory = Callable[..., Trajectory]


@pytest.fixture(scope="session")
def make_trajectory(qwen_directory: Path) -> MakeTrajectory:
    """A function that grows one path: texts are completions, tool results are observations."""
    tokenizer = PolicyTokenizer.load(qwen_directory)
    protocol = TagProtocol(tokenizer, TagProtocolConfig())

    def make(*turns: str | ToolResult, references: tuple[str, ...] = ("Kelford",)) -> Trajectory:
        task = Task(id="t-1", messages=(Message(role="user", content="who ?"),), references=references, source="test")
        tree = RolloutTree.from_prompt(task, protocol.encode_prompt(task))
        node = tree.root
        for turn in turns:
            if isinstance(turn, str):
                ids = tokenizer.encode_markup(turn)
                node = tree.append(
                    node, NodeKind.COMPLETION, ids, text=turn, parse=protocol.parse(turn), stop_reason=StopReason.STOP_STRING
                )
            else:
                ids = protocol.encode_observation(Observation(content=turn.content))
                node = tree.append(node, NodeKind.OBSERVATION, ids, text=tokenizer.decode(ids), results=(turn,))
        return tree.trajectory(node)

    return make
