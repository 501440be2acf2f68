"""What a prompt teaches the model to write, compared with what the protocol reads.

A data set often brings a system message that explains its own way to call tools (`<search> ... </search>` in ARPO's released
rows). Under a protocol with another way both stand in the prompt, and the model follows the wrong one.
"""

import re
from collections.abc import Sequence

from arpo.protocols.base import with_system_message
from arpo.protocols.config import PROMPTS, RESERVED_TAGS, ProtocolConfig, TagProtocolConfig
from arpo.types import Message

_CALLS = {
    "hermes": re.compile(r"<tool_call>\s*\{"),
    "qwen3_coder": re.compile(r"<function=\w*"),
    "llama3_json": re.compile(r'\{\s*"name"\s*:[^{}:,]*,\s*"parameters"\s*:(?!\s*\{\s*"(?:type|properties)")'),
    "ReAct": re.compile(r"^\s*Action Input\s*:", re.MULTILINE),
}
"""Format of calls -> what shows that a text teaches it. A tool's schema, which has `parameters` too, is no call."""
_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)>")
_SENTENCE = re.compile(r"\n|(?<=[.;!?])\s")
_ON_CALLS = re.compile(r"\b(?:call|invok|tool|quer|search|execut|run)", re.IGNORECASE)
_WELL_KNOWN = frozenset({
    "search", "python", "interpreter", "code_interpreter", "tool", "function_call", "browse", "calculator", "information",
    "result", "tool_response",
})  # fmt: skip
"""Tags of calls and results in public data."""
_OF_TEMPLATES = frozenset({"think", "answer", "tools", "tool_call", "tool_response"})
"""Under a chat template: thoughts, the answer, which graders read, and the template's tags; `_CALLS` tells calls apart."""
_PACKAGED = (*PROMPTS, "default", "")


def prompt_faults(messages: Sequence[Message], config: ProtocolConfig) -> tuple[str, ...]:
    """What contradicts the protocol in a prompt, each as a clause; empty: nothing does.

    The system message that the prompt is to have counts, its own or the configured text, and the messages of the user. Found
    are calls in another format, pairs of tags for calls or results that the protocol does not have, and, under `tags`, an own
    system message without the tag of a tool or of the answer. Packaged texts fit their protocol.

    Args:
        messages: Of a task or conversation, before the protocol adds its own.
        config: The protocol.

    Example:
        A system message with `<search> query </search>` under `hermes` gives "the system message teaches <search>, which
        protocol.type = 'hermes' does not read".
    """
    given = config.system_prompt if config.system_prompt not in _PACKAGED else ""
    faults: list[str] = []
    for message in with_system_message(messages, given, config.task_system_prompt):
        if message.role == "system":
            faults += [f"the system message teaches {taught}" for taught in _taught(message.content, config)]
            untold = _untold(message.content, config) if message in messages else ()
            if untold:
                faults.append(f"the system message does not explain {', '.join(untold)}")
        elif message.role == "user":
            faults += [f"the user's message teaches {taught}" for taught in _taught(message.content, config, only_known=True)]
    return tuple(dict.fromkeys(faults))


def _taught(text: str, config: ProtocolConfig, *, only_known: bool = False) -> list[str]:
    """Ways of calling in a text that the protocol does not read, each with the reason."""
    formats = [name for name, shown in _CALLS.items() if shown.search(text)]
    if not formats and "<tool_call>" in text and config.type not in ("hermes", "qwen3_coder"):
        formats = ["hermes"]
    type_key = f"protocol.type = {config.type!r}"
    others = [] if config.type in formats else formats
    taught = [f"calls in the format of {name}, which {type_key} does not read" for name in others]
    names = _pairs(text) & _WELL_KNOWN
    if not only_known:
        names |= {name for sentence in _SENTENCE.split(text) if _ON_CALLS.search(sentence) for name in _pairs(sentence)}
    is_tags = isinstance(config, TagProtocolConfig)
    names -= {*RESERVED_TAGS, *config.tools, "user", "tools", "tool_call"} if is_tags else _OF_TEMPLATES
    if names:
        reason = f"protocol.tools = {list(config.tools)} does not have" if is_tags else f"{type_key} does not read"
        taught.append(f"{', '.join(f'<{name}>' for name in sorted(names))}, which {reason}")
    return taught


def _pairs(text: str) -> set[str]:
    """Names of the tags that a text opens and closes."""
    tags = [(tag[1], tag[2]) for tag in _TAG.finditer(text)]
    return {name for closes, name in tags if not closes} & {name for closes, name in tags if closes}


def _untold(text: str, config: ProtocolConfig) -> list[str]:
    """The tags of calls and of the answer that a text does not show; a chat template shows its tools itself."""
    names = (*config.tools, "answer") if isinstance(config, TagProtocolConfig) else ()
    return [f"<{name}>" for name in names if f"<{name}>" not in text]
