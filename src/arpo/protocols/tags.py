r"""The tag protocol of the papers: reasoning, tool calls, results and the answer as tags in plain text.

A trajectory reads

    <think> ... </think> <search> Ada Moor born </search> <result>
    ...
    </result> <think> ... </think> <answer> \boxed{Kelford} </answer>

Sampling stops at a call or the answer. The text between `<result>` and `</result>` comes from the tool and is never sampled,
like the user's text between `<user>` and `</user>`.

Format faults in `Parse.faults`:

| fault | the completion holds |
|---|---|
| `unclosed_X` | `<X>` that is never closed, X being think, answer or a tool |
| `unopened_X` | `</X>` without its `<X>` |
| `nested_tag` | a tag inside a reasoning block, a call or an answer |
| `result_by_model` | `<result>` or `</result>`, which only the environment may write |
| `empty_think`, `empty_call`, `empty_answer` | a block with nothing in it |
| `answer_without_box` | an answer without `\boxed{...}` |
| `malformed_call` | a call whose arguments must be a JSON object and are not |

The text inside a tool's tag is its one argument, and may not hold a tag of the protocol. A tool that requires several arguments
takes `<fetch> {"url": "...", "page": 2} </fetch>`, a tool without arguments an empty tag. Tags in the JSON are characters, but
those that end sampling, whose `<` must be written `\u003c`. `TagProtocolConfig.arguments` can select another argument.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any

from arpo.errors import ConfigError, DataError, ModelError
from arpo.protocols.base import Tokenizer, with_system_message
from arpo.protocols.config import PROMPTS, RESERVED_TAGS, TagProtocolConfig
from arpo.protocols.escaping import encode_escaped, escape
from arpo.protocols.literals import json_literals, tags_outside
from arpo.protocols.stop import split_at_stop
from arpo.protocols.tag_arguments import TagArguments
from arpo.types import Message, Observation, Parse, Task, ToolCall

RESULT_OPENING = " <result>\n"
RESULT_CLOSING = "\n</result>"
USER_OPENING = " <user>\n"
USER_CLOSING = "\n</user>"


class TagProtocol:
    """Tools as tags; the module describes the format and the faults. Stateless.

    Example:
        protocol = TagProtocol(tokenizer, TagProtocolConfig())
        protocol.parse("<think> look it up </think> <search> Ada Moor born </search>").calls
        # -> ToolCall(name="search", arguments={"query": "Ada Moor born"})
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: TagProtocolConfig,
        schemas: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """Check that the tokenizer can carry the tags.

        Args:
            tokenizer: Tokenizer of the policy.
            config: Configuration of the tags.
            schemas: JSON schema of the arguments of each tool, with the tool's description as its `description`. They decide
                the text inside a tool's tag, and explain in a packaged system message the tools it does not know.

        Raises:
            ModelError: a tag does not survive encoding and decoding; the chat template refuses or loses a question.
            ConfigError: neither the packaged `system_prompt` nor a schema explains a tool; a tool's schema lacks the argument
                that `arguments` names.
        """
        self._tokenizer = tokenizer
        self._config = config
        self._arguments = {name: TagArguments.of(name, config, schemas.get(name)) for name in config.tools}
        names = "|".join((*RESERVED_TAGS, *config.tools))
        self._tag = re.compile(f"<(/?)({names})>")
        with_json = "|".join(name for name, arguments in self._arguments.items() if arguments.takes_json)
        self._before_json = re.compile(rf"<(?:{with_json})>(?=\s*\{{)" if with_json else "(?!)")
        self._tag_or_user = re.compile(f"</?(?:{names}|user)>")
        self.stop_strings: tuple[str, ...] = tuple(f"</{name}>" for name in (*config.tools, "answer"))
        """Closing tags of the calls and the answer, which end a completion."""
        self.turn_end = tokenizer.turn_end
        """Ends a turn without a call and without an answer, as the policy would."""
        tokenizer.check_round_trip((*config.tags, RESULT_OPENING, RESULT_CLOSING))
        self._system_prompt = self._explain(config)
        self._check_prompt()

    def encode_prompt(self, task: Task) -> list[int]:
        """Token ids of the chat, up to the policy's turn; `task_system_prompt` says whose system message it has."""
        messages = with_system_message(task.messages, self._system_prompt, self._config.task_system_prompt)
        return self._tokenizer.encode_chat(messages, (), self._config.template_variables, self._config.tags)

    def parse(self, completion: str, *, is_truncated: bool = False) -> Parse:
        """Parse one completion: its call or answer, and its format faults.

        Text after the first stop string is ignored: its last token may carry more. A call counts only outside a reasoning
        block and without a tag in it. `is_truncated` has no effect: a call or an answer ends with its tag.
        """
        text, _ = split_at_stop(completion, self.stop_strings)
        blocks, faults = self._read_blocks(text)
        call = answer = None
        thoughts = 0
        for name, content in blocks:
            if name == "think":
                thoughts += 1
            elif name == "answer":
                answer = content
            elif (call := self._arguments[name].read(content)) is not None and call.fault:
                faults.append("malformed_call")
        return Parse(calls=(call,) if call is not None else (), answer=answer, num_think_blocks=thoughts, faults=tuple(faults))

    def write_turn(self, text: str, reasoning: str, calls: Sequence[ToolCall]) -> str:
        """As `WritingProtocol.write_turn`."""
        unknown = [call.name for call in calls if call.name not in self._arguments]
        if unknown:
            raise DataError(f"tool_calls: {unknown[0]!r} is not among protocol.tools = {list(self._arguments)}")
        thought = f"<think> {reasoning} </think>" if reasoning else ""
        written = (self._arguments[call.name].write(call.arguments) for call in calls)
        return " ".join(part for part in (thought, text.strip(), *written) if part)

    def offering(self, tools: Sequence[Mapping[str, Any]]) -> "TagProtocol":
        """As `WritingProtocol.offering`: itself, as its system message explains its own tools."""
        names = sorted(tool["function"]["name"] for tool in tools)
        if names != sorted(self._arguments):
            raise DataError(
                f"tools: the row offers {names}, but protocol.tools = {sorted(self._arguments)}, which the prompt explains"
            )
        return self

    def encode_observation(self, *observations: Observation) -> list[int]:
        """Token ids of ` <result>`, the content, `</result>` for each result, or of ` <user>` and `</user>` for the user.

        The content holds no protocol tag: `</result>` becomes `&lt;/result>`, which the model reads as text.
        """
        ids: list[int] = []
        for observation in observations:
            is_user = observation.role == "user"
            opening, closing = (USER_OPENING, USER_CLOSING) if is_user else (RESULT_OPENING, RESULT_CLOSING)
            ids += self._tokenizer.encode_markup(opening)
            ids += encode_escaped(self._tokenizer, observation.content, self._tag_or_user if is_user else self._tag)
            ids += self._tokenizer.encode_markup(closing)
        return ids

    def _check_prompt(self) -> None:
        """Raise ModelError when the chat template refuses a question or leaves it out."""
        asked = Task(id="", messages=(Message(role="user", content="question0"),), references=(), source="")
        prompt = self._tokenizer.decode(self.encode_prompt(asked))
        if "question0" not in prompt:
            raise ModelError(
                f"chat template: it leaves a question out of the prompt {prompt[-200:]!r}; save one that takes the content of "
                "messages as text as chat_template.jinja in the model's directory"
            )

    def _explain(self, config: TagProtocolConfig) -> str:
        """The configured system message; in a packaged one, a line per configured tool."""
        prompt = config.system_prompt
        if prompt not in PROMPTS or config.task_system_prompt == "drop":
            return prompt
        text = resources.files("arpo.protocols").joinpath(f"prompts/{prompt}.txt").read_text(encoding="utf-8")
        lines = text.strip().splitlines()
        known = {m[1]: line for line in lines if (m := re.match(r"- <(\w+)>", line))}
        missing = [name for name in config.tools if name not in known and not self._arguments[name].has_schema]
        if missing or bool(config.tools) != bool(known):
            raise ConfigError(
                f"protocol.system_prompt = {prompt!r} explains the tools {sorted(known)}, but protocol.tools = "
                f"{list(config.tools)}; give your own text, or an empty one when every task has a system message"
            )
        if not known:
            return "\n".join(lines)
        explanations = [known[name] for name in known if name in config.tools]
        explanations += [self._plain(self._arguments[name].explanation) for name in config.tools if name not in known]
        first = min(lines.index(line) for line in known.values())
        rest = [line for line in lines if line not in known.values()]
        return "\n".join([*rest[:first], *explanations, *rest[first:]])

    def _plain(self, line: str) -> str:
        """A tool's line, without tags and control tokens in the text after its own tags."""
        tags, colon, words = line.partition(": ")
        return tags + colon + self._tokenizer.defuse(escape(words, self._tag))

    def _read_blocks(self, text: str) -> tuple[list[tuple[str, str]], list[str]]:
        """Closed blocks without tags in them, as (name, stripped content), and the faults in order of appearance."""
        blocks: list[tuple[str, str]] = []
        faults: list[str] = []
        opened: re.Match[str] | None = None
        holds_tag = False
        for tag in tags_outside(text, self._tag, json_literals(text, self._before_json)):
            closes, name = bool(tag[1]), tag[2]
            if name == "result":
                faults.append("result_by_model")
                holds_tag = True
            elif opened is None:
                if closes:
                    faults.append(f"unopened_{name}")
                else:
                    opened, holds_tag = tag, False
            elif closes and name == opened[2]:
                content = textwrap.dedent(text[opened.end() : tag.start()]).strip()
                if not holds_tag or name == "think":
                    blocks.append((name, content))
                faults.extend(self._content_faults(name, content))
                opened = None
            else:
                faults.append("nested_tag")
                holds_tag = True
        if opened is not None:
            faults.append(f"unclosed_{opened[2]}")
        return blocks, faults

    def _content_faults(self, name: str, content: str) -> list[str]:
        if not content:
            is_meant = name in self._arguments and self._arguments[name].is_empty
            return [] if is_meant else [f"empty_{name if name in RESERVED_TAGS else 'call'}"]
        if name == "answer" and not re.search(r"\\boxed\s*\{", content):
            return ["answer_without_box"]
        return []
