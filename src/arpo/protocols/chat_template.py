r"""Tool calls in the model's chat template: calls in the model's format, results as separate messages.

With Qwen's template a trajectory reads, after the prompt that shows the tools' schemas,

    <think> ... </think>
    <tool_call>
    {"name": "search", "arguments": {"query": "Ada Moor born"}}
    </tool_call><|im_end|>
    <|im_start|>user
    <tool_response>
    ...
    </tool_response><|im_end|>
    <|im_start|>assistant
    <think> ... </think> She was born in \boxed{Kelford}.<|im_end|>

A turn ends with a sampled end-of-sequence token. An observation is the template's text between that token and the policy's next
turn, around messages of the tools or of the user. A turn without a call is the answer, unless the environment goes on. Sampled
text is never rendered or encoded again.

Format faults in `Parse.faults`, besides those of `reasoning`, `call_formats` and `xml_calls`:

| fault | the completion |
|---|---|
| `cut_off` | was ended by a token limit: it makes no call and is not an answer |
| `empty_answer` | holds neither a call nor text outside its reasoning |
| `answer_without_box` | is an answer without `\boxed{...}` |
"""

import re
from collections.abc import Mapping, Sequence
from copy import copy
from importlib import resources
from types import MappingProxyType
from typing import Any, cast

from arpo.errors import ConfigError, DataError
from arpo.protocols.base import with_system_message
from arpo.protocols.config import ChatProtocolConfig, HermesProtocolConfig, Llama3ProtocolConfig, Qwen3CoderProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.escaping import encode_escaped
from arpo.protocols.formats import FORMATS
from arpo.protocols.reasoning import split_reasoning
from arpo.protocols.template_check import learn_turns
from arpo.types import Observation, Parse, Task, ToolCall


class ChatProtocol:
    """Tools through the chat template; the module describes the format and the faults. Stateless."""

    stop_strings: tuple[str, ...] = ()

    def __init__(
        self,
        tokenizer: PolicyTokenizer,
        config: HermesProtocolConfig | Llama3ProtocolConfig | Qwen3CoderProtocolConfig,
        schemas: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """Learn the template's text between turns, and check that the template can carry the protocol.

        Args:
            tokenizer: Tokenizer of the policy.
            config: Configuration of the protocol; its `type` selects the format of the calls.
            schemas: JSON schema of the arguments of each tool in `config.tools`, with the tool's description as its
                `description`. Control tokens in them are defused.

        Raises:
            ConfigError: the schema of a tool is missing.
            ModelError: the chat template is missing, does not show the tools, writes calls in another format, rewrites
                earlier turns, or ends a turn with a token that does not end a generation; or a marker of the format does not
                survive encoding and decoding.
        """
        missing = [name for name in config.tools if name not in schemas]
        if missing:
            raise ConfigError(
                f"protocol.tools names {missing[0]!r}, whose schema is unknown; add the tool's section below `tools`, "
                "or remove the name"
            )
        self._tokenizer = tokenizer
        self._config = config
        self._tools = [_as_function(name, schemas[name], tokenizer) for name in config.tools]
        self._format = FORMATS[config.type](self._tools)
        self._markers = re.compile("|".join(map(re.escape, self._format.markers)))
        self._system_prompt = _system_prompt(config)
        tokenizer.check_round_trip(self._format.markers)
        self._turns = learn_turns(tokenizer, config.type, self._tools, config.template_variables)
        self.turn_end = self._turns.end

    def encode_prompt(self, task: Task) -> list[int]:
        """Token ids of the chat, up to the policy's turn; `task_system_prompt` says whose system message it has."""
        messages = with_system_message(task.messages, self._system_prompt, self._config.task_system_prompt)
        return self._tokenizer.encode_chat(messages, self._tools, self._config.template_variables, self._format.markers)

    def parse(self, completion: str, *, is_truncated: bool = False) -> Parse:
        """Parse one completion: its calls, or its answer when it makes none, and its format faults."""
        thoughts, text, faults = split_reasoning(completion, self._format.literals(completion))
        if is_truncated:
            return Parse(num_think_blocks=thoughts, faults=(*faults, "cut_off"))
        reading = self._format.read(text)
        faults += reading.faults
        if reading.calls:
            return Parse(calls=tuple(reading.calls), num_think_blocks=thoughts, faults=tuple(faults))
        answer = reading.text.strip() or None
        if answer is None:
            faults.append("empty_answer")
        elif not re.search(r"\\boxed\s*\{", answer):
            faults.append("answer_without_box")
        return Parse(answer=answer, num_think_blocks=thoughts, faults=tuple(faults))

    def write_turn(self, text: str, reasoning: str, calls: Sequence[ToolCall]) -> str:
        """As `WritingProtocol.write_turn`."""
        names = [tool["function"]["name"] for tool in self._tools]
        unknown = [call.name for call in calls if call.name not in names]
        if unknown:
            raise DataError(f"tool_calls: {unknown[0]!r} is not among the tools of the prompt, {names}")
        thought = f"<think>\n{reasoning}\n</think>\n\n" if reasoning else ""
        return thought + "\n".join(part for part in (text.rstrip() if calls else text, self._format.write(calls)) if part)

    def offering(self, tools: Sequence[Mapping[str, Any]]) -> "ChatProtocol":
        """As `WritingProtocol.offering`."""
        offered = copy(self)
        offered._tools = [_defused(tool, self._tokenizer) for tool in tools]
        offered._format = FORMATS[self._config.type](offered._tools)
        if not self._tools:  # no template was checked for tools yet
            offered._turns = learn_turns(self._tokenizer, self._config.type, offered._tools, self._config.template_variables)
        return offered

    def encode_observation(self, *observations: Observation) -> list[int]:
        """Token ids of the template's text between two turns of the policy, with the observations in order.

        Each observation is a message of its role, `tool` or `user`. Its content holds no added token and no marker of the
        format: `</tool_response>` becomes `&lt;/tool_response>`.

        Raises:
            ModelError: the template cannot carry messages of these roles.
        """
        between = self._turns.between(tuple(observation.role for observation in observations))
        encode = self._tokenizer.encode_markup
        ids: list[int] = []
        for before, write, observation in zip(between.before, between.write, observations, strict=True):
            ids += encode(before)
            ids += encode_escaped(self._tokenizer, write(observation.content), self._markers)
        return ids + encode(between.after)


def _as_function(name: str, schema: Mapping[str, Any], tokenizer: PolicyTokenizer) -> dict[str, Any]:
    parameters = {key: value for key, value in schema.items() if key != "description"}
    function = {"name": name, "description": schema.get("description", ""), "parameters": parameters}
    return {"type": "function", "function": _defused(function, tokenizer)}


def _defused(value: Any, tokenizer: PolicyTokenizer) -> Any:
    """JSON data with every string defused."""
    if isinstance(value, str):
        return tokenizer.defuse(value)
    if isinstance(value, dict):
        items = cast(dict[str, Any], value).items()
        return {tokenizer.defuse(key): _defused(inner, tokenizer) for key, inner in items}
    if isinstance(value, list | tuple):
        return [_defused(inner, tokenizer) for inner in cast(list[Any], value)]
    return value


def _system_prompt(config: ChatProtocolConfig) -> str:
    if config.system_prompt != "default":
        return config.system_prompt
    return resources.files("arpo.protocols").joinpath("prompts/chat.txt").read_text(encoding="utf-8").strip()
