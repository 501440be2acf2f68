"""The engine, protocol, environment and limits of a path; every path of a runner shares them."""

from dataclasses import dataclass
from typing import Any

from arpo.inference.base import InferenceEngine
from arpo.protocols.base import Tokenizer, ToolProtocol
from arpo.rollout.config import LimitsConfig
from arpo.rollout.environment import Environment


@dataclass(slots=True, frozen=True, kw_only=True)
class Agent:
    """The policy in its environment: one code path for training, evaluation and demonstrations."""

    engine: InferenceEngine[Any]
    tokenizer: Tokenizer
    protocol: ToolProtocol
    environment: Environment
    """Answers the policy's turns."""
    limits: LimitsConfig
