r"""Tool calls as the model's own chat template has them: the calls as JSON, the results as messages of their own.

With the template of Qwen one trajectory reads, behind the prompt that shows the tools' schemas,

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

A turn ends with an end-of-sequence token, which is sampled; an observation is what the template writes between that token and
the policy's next; where the environment speaks as the user, it is a message of the user. A turn without a call is the answer,
unless the environment goes on. What was sampled is never rendered or encoded again.

Format faults, as `Parse.faults` names them, besides those of `reasoning` and `call_formats`:

| fault | the completion |
|---|---|
| `cut_off` | was ended by a token limit: it makes no call and is no answer |
| `empty_answer` | holds neither a call nor text outside its reasoning |
| `answer_without_box` | is an answer without `\boxed{...}` |
"""

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any, cast

from arpo.errors import ConfigError
from arpo.protocols.call_formats import CallFormat, HermesFormat, Llama3Format
from arpo.protocols.config import ChatProtocolConfig, HermesProtocolConfig, Llama3ProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.escaping import encode_escaped
from arpo.protocols.reasoning import split_reasoning
from arpo.protocols.template_check import learn_turns
from arpo.types import Message, Observation, Parse, Task

FORMATS: dict[str, CallFormat] = {"hermes": HermesFormat(), "llama3_json": Llama3Format()}


class ChatProtocol:
    """Tools through the chat template; see the module for the form and the faults. Stateless."""

    stop_strings: tuple[str, ...] = ()

    def __init__(
        self,
        tokenizer: PolicyTokenizer,
        config: HermesProtocolConfig | Llama3ProtocolConfig,
        schemas: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """Learn from the template how turns are told apart, and make sure that it can carry the protocol.

        Args:
            tokenizer: The policy's.
            config: The protocol's; its `type` decides the format of the calls.
            schemas: JSON schema of the arguments of every tool in `config.tools`, its `description` that of the tool. What
                control tokens they write is defused.

        Raises:
            ConfigError: the schema of a tool is missing.
            ModelError: the chat template is missing or does not show the tools, writes calls in another format, rewrites
                earlier turns, or ends a turn with a token that does not end a generation; or a marker of the format does not
                survive encoding and decoding.
        """
        missing = [name for name in config.tools if name not in schemas]
        if missing:
            raise ConfigError(
                f"protocol.tools names {missing[0]!r}, whose schema is not known; give the tool its section below `tools`, "
                "or leave it out"
            )
        self._tokenizer = tokenizer
        self._config = config
        self._format = FORMATS[config.type]
        self._tools = [_as_function(name, schemas[name], tokenizer) for name in config.tools]
        self._markers = re.compile("|".join(map(re.escape, self._format.markers)))
        self._system_prompt = _system_prompt(config)
        tokenizer.check_round_trip(self._format.markers)
        self._turns = learn_turns(tokenizer, self._format, self._tools, config.template_arguments)
        self.turn_end = self._turns.end

    def encode_prompt(self, task: Task) -> list[int]:
        """Token ids of the chat up to where the policy begins; the system message is the task's own when it brings one."""
        messages = task.messages
        if self._system_prompt and messages[0].role != "system":
            messages = (Message(role="system", content=self._system_prompt), *messages)
        chat = [{"role": m.role, "content": m.content} for m in messages]
        return self._tokenizer.encode_markup(self._tokenizer.render_chat(chat, self._tools, self._config.template_arguments))

    def parse(self, completion: str, *, is_truncated: bool = False) -> Parse:
        """Read one completion: its calls, or its answer when it makes none, and its format faults."""
        thoughts, text, faults = split_reasoning(completion)
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

    def encode_observation(self, *observations: Observation) -> list[int]:
        """Token ids of what the template writes between the end of a turn and the policy's next, observations in order.

        Each is a message of its role, `tool` or `user`. No id of its content is an added token, and no marker of the format can
        be read in it: `</tool_response>` becomes `&lt;/tool_response>`.

        Raises:
            ModelError: the template cannot carry messages of these roles.
        """
        between = self._turns.between(tuple(said.role for said in observations))
        encode = self._tokenizer.encode_markup
        ids: list[int] = []
        for before, write, said in zip(between.before, between.write, observations, strict=True):
            ids += encode(before)
            ids += encode_escaped(self._tokenizer, write(said.content), self._markers)
        return ids + encode(between.after)


def _as_function(name: str, schema: Mapping[str, Any], tokenizer: PolicyTokenizer) -> dict[str, Any]:
    parameters = {key: value for key, value in schema.items() if key != "description"}
    function = {"name": name, "description": schema.get("description", ""), "parameters": parameters}
    return {"type": "function", "function": _defused(function, tokenizer)}


def _defused(value: Any, tokenizer: PolicyTokenizer) -> Any:
    """JSON data with every text in it defused."""
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
