"""Learns the text of a chat template between turns by rendering marked conversations, and checks the template.

A policy sees its sampled tokens and the template's text between them, never a conversation rendered anew. The two are equal
only if the template never rewrites earlier turns, which `learn_turns` checks.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arpo.errors import ModelError
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.formats import FORMATS
from arpo.protocols.reasoning import split_reasoning
from arpo.types import Speaker

_EMPTY_REASONING = r"<think>\s*</think>\s*"
_EMPTY_REASONING_AT_END = re.compile(_EMPTY_REASONING + r"\Z")
_EMPTY_REASONING_BEFORE_CALL = re.compile(_EMPTY_REASONING + r"(?=CALL\d)")
_PROBES = ("plain", '  two  lines\nand "quotes" \\ é \t', '{"a": [1, 2]}')
_WAYS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "trimmed": str.strip,
    "as the inside of a JSON string": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
}
_ADVICE = "use the template the model was trained with tools in, or protocol.type = 'tags'"


@dataclass(slots=True, frozen=True, kw_only=True)
class Between:
    """The text of a chat template between two turns of the policy, around messages."""

    roles: tuple[Speaker, ...]
    """Roles of the messages."""
    before: tuple[str, ...]
    """Text before each message, the first from the end of the turn on: a line break, `<|im_start|>user`, `<tool_response>`."""
    write: tuple[Callable[[str], str], ...]
    """How the template writes each message's text: as it is, trimmed, or as the inside of a JSON string."""
    after: str
    """Text from the last message to the policy's turn."""

    def text(self, *messages: str) -> str:
        """The whole text, with messages of the roles."""
        parts = zip(self.before, self.write, messages, strict=True)
        return "".join(before + write(message) for before, write, message in parts) + self.after


class _Conversation:
    """Renders a fixed question and turns after it."""

    def __init__(self, tokenizer: PolicyTokenizer, tools: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> None:
        self._tokenizer, self._tools, self._arguments = tokenizer, tools, arguments
        self.start = self.render()

    def render(self, *turns: Mapping[str, Any]) -> str:
        """The text up to the policy's next turn."""
        return self._tokenizer.templates.render([_message("user", "Question"), *turns], self._tools, self._arguments)

    def after_start(self, *turns: Mapping[str, Any]) -> str:
        """The text of the turns, without empty reasoning blocks before turns of the policy.

        Some templates write such a block only before the policy's next turn, others only before past turns.

        Raises:
            ModelError: the template rewrites the text before the turns.
        """
        text = self.render(*turns)
        start = _EMPTY_REASONING_AT_END.sub("", self.start)
        if not text.startswith(start):
            raise ModelError(
                f"chat template: it rewrites a prompt once turns follow: {start[-80:]!r} is not in "
                f"{text[: len(start) + 40][-120:]!r}; {_ADVICE}"
            )
        return _EMPTY_REASONING_BEFORE_CALL.sub("", text[len(start) :])


class Turns:
    """The text between turns, learned from the template on first use; `learn_turns` makes it."""

    def __init__(self, conversation: _Conversation, end: str) -> None:
        self.end = end
        """The sampled token that ends a turn of the policy: `<|im_end|>`."""
        self._conversation = conversation
        self._known: dict[tuple[Speaker, ...], Between] = {}

    def between(self, roles: tuple[Speaker, ...]) -> Between:
        """The text between two turns of the policy around messages of these roles.

        Raises:
            ModelError: the template refuses such messages, changes their text, or rewrites earlier turns.
        """
        if roles not in self._known:
            between = Between(**self._pieces(roles), write=tuple(map(self._way_to_write, roles)))
            self.require_stable(between, between)
            self._known[roles] = between
        return self._known[roles]

    def require_stable(self, *rounds: Between) -> None:
        """Raise ModelError unless the pieces give the text of a whole conversation with these messages between its turns."""
        texts = [[f"{role} {index}" for index, role in enumerate(between.roles)] for between in rounds]
        if not self._predicts(rounds, texts):
            raise ModelError(f"chat template: it rewrites earlier turns once later ones follow; {_ADVICE}")

    def _pieces(self, roles: tuple[Speaker, ...]) -> dict[str, Any]:
        messages = [_message(role, f"RESULT{i}") for i, role in enumerate(roles)]
        after = _cut(self._conversation.after_start(_message("assistant", "CALL0"), *messages), "CALL0" + self.end)[1]
        before: list[str] = []
        for message in messages:
            piece, after = _cut(after, message["content"])
            before.append(piece)
        return {"roles": roles, "before": tuple(before), "after": after}

    def _way_to_write(self, role: Speaker) -> Callable[[str], str]:
        pieces = self._pieces((role,))
        for write in _WAYS.values():
            between = Between(**pieces, write=(write,))
            if all(self._predicts([between], [[probe]]) for probe in _PROBES):
                return write
        what = "results" if role == "tool" else "what a user says"
        raise ModelError(f"chat template: it writes {what} neither {', nor '.join(_WAYS)}; {_ADVICE}")

    def _predicts(self, rounds: Sequence[Between], texts: Sequence[Sequence[str]]) -> bool:
        """True when the pieces give the text of the whole conversation."""
        messages: list[dict[str, Any]] = []
        expected = ""
        for index, (between, contents) in enumerate(zip(rounds, texts, strict=True)):
            messages += [_message("assistant", f"CALL{index}"), *map(_message, between.roles, contents)]
            expected += f"CALL{index}{self.end}{between.text(*contents)}"
        return self._conversation.after_start(*messages) == _EMPTY_REASONING_BEFORE_CALL.sub("", expected)


def learn_turns(
    tokenizer: PolicyTokenizer, kind: str, tools: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]
) -> Turns:
    """The text of the tokenizer's chat template between turns; the text around tool results is checked at once.

    Args:
        tokenizer: Tokenizer with the template.
        kind: Key of `FORMATS`: how the protocol reads calls.
        tools: Tools for the template.
        arguments: Variables of the template.

    Raises:
        ModelError: as `ChatProtocol`.
    """
    conversation = _Conversation(tokenizer, tools, arguments)
    turns = Turns(conversation, _end_of_turn(conversation.after_start(_message("assistant", "CALL0")), tokenizer))
    for tool in tools:
        name = tool["function"]["name"]
        if name not in conversation.start:
            raise ModelError(f"chat template: it does not show the tool {name!r} in the prompt; {_ADVICE}")
    if tools:
        _check_reasoning(conversation)
        _check_calls(conversation, kind, tools, turns.end)
        turns.require_stable(turns.between(("tool",)), turns.between(("tool",) * 3), turns.between(("tool",)))
    return turns


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _cut(text: str, mark: str) -> tuple[str, str]:
    before, separator, after = text.partition(mark)
    if not separator:
        raise ModelError(f"chat template: {mark!r}, written into a turn, does not come back in {text!r}; {_ADVICE}")
    return before, after


def _end_of_turn(turn: str, tokenizer: PolicyTokenizer) -> str:
    """The end-of-sequence token after a turn of the policy."""
    after = _cut(turn, "CALL0")[1]
    end = next((text for text in tokenizer.eos_texts if after.startswith(text)), None)
    if end is None:
        raise ModelError(
            f"chat template: a turn of the assistant ends with {after[:20]!r}, but a generation ends with "
            f"{', '.join(map(repr, tokenizer.eos_texts))}; name the template's token in eos_token (tokenizer_config.json) or "
            "eos_token_id (generation_config.json)"
        )
    return end


def _check_reasoning(conversation: _Conversation) -> None:
    """Raise ModelError when the template drops the reasoning of earlier turns once results of tools follow."""
    thoughts = [f"THOUGHT{i}" for i in range(3)]
    turns = [
        _message(*message)
        for thought in thoughts
        for message in (("assistant", f"<think>\n{thought}\n</think>\n\nCALL"), ("tool", "RESULT"))
    ]
    text = conversation.render(*turns)
    if not all(thought in text for thought in thoughts):
        raise ModelError(
            "chat template: it drops the reasoning (<think> ... </think>) of earlier turns once results of tools follow, but "
            "the policy goes on from all it wrote; save a template that keeps it as chat_template.jinja in the model's "
            "directory, or use agent.protocol.type = 'tags', whose whole trajectory is one turn"
        )


def _check_calls(conversation: _Conversation, kind: str, tools: Sequence[Mapping[str, Any]], end: str) -> None:
    """Raise ModelError unless the format reads the calls that the template writes."""
    name, arguments = tools[0]["function"]["name"], {"text": 'a "b"'}
    call = {"type": "function", "id": "call00001", "function": {"name": name, "arguments": arguments}}
    turn = conversation.after_start({**_message("assistant", ""), "tool_calls": [call]}).partition(end)[0]
    text = split_reasoning(turn)[1]
    readings = {key: make(tools).read(text).calls for key, make in FORMATS.items()}
    fitting = [
        key for key, calls in readings.items() if [(c.name, c.arguments, c.fault) for c in calls] == [(name, arguments, "")]
    ]
    if kind not in fitting:
        written = f"chat template: it writes a call of {name!r} with the arguments {arguments} as {turn!r}, which is"
        if fitting:
            raise ModelError(f"{written} not the format of {kind!r} but that of {fitting[0]!r}; set protocol.type to that")
        tried = ", ".join(FORMATS)
        raise ModelError(f"{written} the format of none of {tried}; {_ADVICE}")
