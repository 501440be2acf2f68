"""The formats of calls that a chat template may write, by `agent.protocol.type`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arpo.protocols.call_formats import CallFormat, HermesFormat, Llama3Format
from arpo.protocols.xml_calls import Qwen3CoderFormat

FORMATS: dict[str, Callable[[Sequence[Mapping[str, Any]]], CallFormat]] = {
    "hermes": lambda _: HermesFormat(),
    "llama3_json": lambda _: Llama3Format(),
    "qwen3_coder": Qwen3CoderFormat,
}
"""`agent.protocol.type` -> the format for tools, as functions of a chat template."""
