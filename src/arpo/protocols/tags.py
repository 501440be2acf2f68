r"""The tag protocol of the papers: reasoning, tool calls, results and the answer as tags in plain text.

One trajectory reads

    <think> ... </think> <search> Ada Moor born </search> <result>
    ...
    </result> <think> ... </think> <answer> \boxed{Kelford} </answer>

Each completion ends with a call or the answer, because sampling stops there; what stands between `<result>` and `</result>`
comes from the tool and is never sampled.

Format faults, as `Parse.faults` names them:

| fault | the completion holds |
|---|---|
| `unclosed_X` | `<X>` that is never closed, X being think, answer or a tool |
| `unopened_X` | `</X>` without its `<X>` |
| `nested_tag` | a tag inside a reasoning block, a call or an answer |
| `result_by_model` | `<result>` or `</result>`, which only the environment may write |
| `empty_think`, `empty_call`, `empty_answer` | a block with nothing in it |
| `answer_without_box` | an answer without `\boxed{...}` |
"""

import re
import textwrap
from importlib import resources

from arpo.errors import ConfigError
from arpo.protocols.config import RESERVED_TAGS, TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.stop import split_at_stop
from arpo.types import Message, Parse, Task, ToolCall, ToolResult

RESULT_OPENING = " <result>\n"
RESULT_CLOSING = "\n</result>"


class TagProtocol:
    """Tools as tags; see the module for the form and the faults. Stateless.

    Example:
        protocol = TagProtocol(tokenizer, TagProtocolConfig())
        protocol.parse("<think> look it up </think> <search> Ada Moor born </search>").tool_call
        # -> ToolCall(name="search", arguments={"query": "Ada Moor born"})
    """

    def __init__(self, tokenizer: PolicyTokenizer, config: TagProtocolConfig) -> None:
        """Check that the tokenizer can carry the tags.

        Raises:
            ModelError: a tag does not survive encoding and decoding.
            ConfigError: `system_prompt = "paper"` with a tool the packaged text does not explain.
        """
        self._tokenizer = tokenizer
        self._config = config
        self._system_prompt = _system_prompt(config)
        self._tag = re.compile("<(/?)(" + "|".join((*RESERVED_TAGS, *config.tools)) + ")>")
        self.stop_strings: tuple[str, ...] = tuple(f"</{name}>" for name in (*config.tools, "answer"))
        """A call or the answer ends a completion."""
        tokenizer.check_round_trip((*config.tags, RESULT_OPENING, RESULT_CLOSING))

    def encode_prompt(self, task: Task) -> list[int]:
        """Token ids of the chat up to where the policy begins; the system message is the task's own when it brings one."""
        messages = task.messages
        if self._system_prompt and messages[0].role != "system":
            messages = (Message(role="system", content=self._system_prompt), *messages)
        return self._tokenizer.encode_chat(messages)

    def parse(self, completion: str) -> Parse:
        """Read one completion: its call or answer, and its format faults.

        Text after the first stop string is ignored: the token that completed it may carry more. A call is one only when it
        stands outside a reasoning block and holds no tag.
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
            elif content:
                call = ToolCall(name=name, arguments={self._config.argument_of(name): content})
        return Parse(tool_call=call, answer=answer, num_think_blocks=thoughts, faults=tuple(faults))

    def encode_observation(self, result: ToolResult) -> list[int]:
        """Token ids of ` <result>`, the content, `</result>`; decoded, the content holds no protocol tag.

        A tag in the content is written with `&lt;`, so that the model reads it as text: `</result>` becomes `&lt;/result>`.
        """
        ids = self._tokenizer.encode_untrusted(self.escape(result.content))
        read = self._tokenizer.decode(ids)
        if self._tag.search(read):  # the tokenizer's normalisation made a tag, for example from full-width brackets
            ids = self._tokenizer.encode_untrusted(self.escape(read))
        encode = self._tokenizer.encode_markup
        return [*encode(RESULT_OPENING), *ids, *encode(RESULT_CLOSING)]

    def escape(self, text: str) -> str:
        """The text with every protocol tag in it turned into plain text."""
        return self._tag.sub(r"&lt;\1\2>", text)

    def _read_blocks(self, text: str) -> tuple[list[tuple[str, str]], list[str]]:
        """Closed blocks without tags in them, as (name, stripped content), and the faults in order of appearance."""
        blocks: list[tuple[str, str]] = []
        faults: list[str] = []
        opened: re.Match[str] | None = None
        holds_tag = False
        for tag in self._tag.finditer(text):
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
                faults.extend(_content_faults(name, content))
                opened = None
            else:
                faults.append("nested_tag")
                holds_tag = True
        if opened is not None:
            faults.append(f"unclosed_{opened[2]}")
        return blocks, faults


def _content_faults(name: str, content: str) -> list[str]:
    if not content:
        return [f"empty_{name if name in RESERVED_TAGS else 'call'}"]
    if name == "answer" and not re.search(r"\\boxed\s*\{", content):
        return ["answer_without_box"]
    return []


def _system_prompt(config: TagProtocolConfig) -> str:
    """The configured text; in the packaged one, the lines of tools that are not configured are left out."""
    if config.system_prompt != "paper":
        return config.system_prompt
    text = resources.files("arpo.protocols").joinpath("prompts/tags.txt").read_text(encoding="utf-8")
    lines = text.strip().splitlines()
    tool_of = {line: m[1] for line in lines if (m := re.match(r"- <(\w+)>", line))}
    if not config.tools or not set(config.tools) <= set(tool_of.values()):
        raise ConfigError(
            f"protocol.system_prompt = 'paper' explains the tools {sorted(tool_of.values())}, but protocol.tools = "
            f"{list(config.tools)}; give your own text, or an empty one when every task brings its system message"
        )
    return "\n".join(line for line in lines if line not in tool_of or tool_of[line] in config.tools)
