"""What `arpo model show` says: the network, the tokenizer and its template, and what arpo can do with them."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from arpo.errors import ArpoError
from arpo.protocols.build import build_protocol
from arpo.protocols.config import ProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer

if TYPE_CHECKING:
    from arpo.models.description import ModelDescription

_SEARCH = {
    "type": "function",
    "function": {
        "name": "search", "description": "Searches.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}  # fmt: skip


def describe(directory: Path, *, has_weights: bool = True) -> dict[str, Any]:
    """Everything about a model directory, ready for JSON.

    Raises:
        ModelError: the configuration or the tokenizer cannot be read.
    """
    from arpo.models.description import describe_model

    model = describe_model(directory, has_weights=has_weights)
    tokenizer = PolicyTokenizer.load(directory)
    protocols = protocol_faults(tokenizer)
    return {
        "directory": str(directory),
        **asdict(model),
        "tokens": model.vocabulary_rows - model.rows_without_token,
        "end_tokens": {tokenizer.decode([index]): index for index in sorted(tokenizer.eos_ids)},
        "has_template": bool(tokenizer.templates),
        "protocols": protocols,
        "abilities": _abilities(model, protocols),
    }


def protocol_faults(tokenizer: PolicyTokenizer) -> dict[str, str]:
    """Protocol -> why it does not fit the tokenizer and its template, in one sentence; empty: it fits."""
    return {kind.model_fields["type"].default: _fault(kind, tokenizer) for kind in get_args(get_args(ProtocolConfig)[0])}


def _fault(kind: Any, tokenizer: PolicyTokenizer) -> str:
    try:
        build_protocol(kind(tools=("search",)), tokenizer, {"search": _SEARCH})
    except ArpoError as error:
        return str(error)
    return ""


def _abilities(model: "ModelDescription", protocols: dict[str, str]) -> dict[str, str]:
    """What arpo does -> `yes`, or why not."""
    plain, one_by_one = "yes", "yes, its sequences one by one"
    if model.head_obstacle is not None:
        plain = one_by_one = f"no: it changes its logits ({model.head_obstacle})"
    if model.quantisation is not None:
        plain = one_by_one = f"no: its weights are quantised ({model.quantisation})"
    packed = plain if model.obstacle is None else f"no: it has {model.obstacle}"
    fitting = [name for name, fault in protocols.items() if not fault]
    return {
        "tree training": packed,
        "in-process engine": plain if model.obstacle is None else one_by_one,
        "flat training": plain,
        "protocols": ", ".join(fitting) or "no: none fits its template",
    }
