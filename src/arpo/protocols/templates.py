"""The chat templates of a model directory: found by name, chosen by use and rendered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from jinja2 import meta, nodes
from transformers.utils import chat_template_utils

from arpo.errors import ModelError
from arpo.protocols.model_files import read_json

_compile: Any = chat_template_utils._compile_jinja_template  # pyright: ignore  # it alone takes a `strftime_now` of our own
_END_OF_CALLS = "<|eom_id|>"
"""Ends a turn of Llama 3 that calls a tool, which its templates write after calls of built-in tools only."""


@dataclass(slots=True, frozen=True)
class ChatTemplates:
    """The templates of a model; false when it has none."""

    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    """Jinja sources by name: `default`, and `tool_use` for conversations with tools where there is one."""
    special_tokens: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables of every template, e.g. `{"bos_token": "<|begin_of_text|>"}`."""
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Files of the sources, by their names."""
    directory: Path = Path()
    """The model directory."""

    @classmethod
    def find(cls, directory: Path, settings: Mapping[str, Any], special_tokens: Mapping[str, str]) -> "ChatTemplates":
        """The templates of a model directory.

        They stand in chat_template.jinja and additional_chat_templates/NAME.jinja, else under `chat_template` of
        tokenizer_config.json (`settings`), else of chat_template.json.

        Raises:
            ModelError: a file is unreadable or holds something else than templates.
        """
        sources: dict[str, str] = {}
        origin: dict[str, Path] = {}
        for name, template in (
            ("chat_template.json", read_json(directory / "chat_template.json").get("chat_template")),
            ("tokenizer_config.json", settings.get("chat_template")),
        ):
            sources = _by_name(template, directory / name) or sources
            origin |= dict.fromkeys(sources, directory / name) if template is not None else {}
        files = {"default": directory / "chat_template.jinja"}
        files |= {file.stem: file for file in sorted((directory / "additional_chat_templates").glob("*.jinja"))}
        files = {name: file for name, file in files.items() if file.is_file()}
        sources |= {name: _read_text(file) for name, file in files.items()}
        return cls(sources, special_tokens, {name: (origin | files)[name] for name in sources}, directory)

    def __bool__(self) -> bool:
        return bool(self.sources)

    def source(self, *, with_tools: bool) -> str:
        """The template for a conversation: `tool_use` with tools where there is one, else `default`.

        Raises:
            ModelError: there is no such template.
        """
        name = "tool_use" if with_tools and "tool_use" in self.sources else "default"
        if name in self.sources:
            return self.sources[name]
        if not self.sources:
            raise ModelError(
                "chat template: the tokenizer has none (chat_template.jinja, or chat_template in tokenizer_config.json); "
                "use agent.protocol.type = 'tags', which needs none"
            )
        raise ModelError(
            f"chat template: the model has templates named {', '.join(map(repr, sorted(self.sources)))}, none of them for a "
            f"conversation {'with' if with_tools else 'without'} tools in the template ({'tool_use or ' * with_tools}default); "
            "save the one to use as chat_template.jinja in the model's directory"
        )

    def variables(self, *, with_tools: bool) -> frozenset[str]:
        """Names of the variables that the template for a conversation reads: `messages`, `enable_thinking`, ...

        A variable that the template always sets itself first is none of them.

        Raises:
            ModelError: there is no such template, or it is no Jinja.
        """
        source = self.source(with_tools=with_tools)
        try:
            environment = _compile(source).environment
            tree = environment.parse(source)
        except Exception as error:  # a template is a program of the model's
            raise ModelError(f"chat template: it is no Jinja template ({str(error).partition(chr(10))[0]})") from error
        dates = {name.name for name in tree.find_all(nodes.Name) if name.name == "strftime_now"}  # transformers defines it
        return frozenset(meta.find_undeclared_variables(tree) | dates)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """The text for messages and tools, up to the policy's turn.

        A `<think>` at the very end is removed, as the protocol lets the policy open its reasoning block.

        Args:
            messages: Messages with `role`, `content` and further keys that the template reads.
            tools: Tools as `{"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}`.
            variables: Further variables of the template.

        Raises:
            ModelError: there is no template, or it refuses these messages.
        """
        text = self._render(self.source(with_tools=bool(tools)), messages, tools, variables, add_generation_prompt=True)
        return text.rstrip().removesuffix("<think>") if text.rstrip().endswith("<think>") else text

    def turn_ends(self, added_tokens: Mapping[str, int]) -> set[int]:
        """Ids of the added tokens that end a turn of the assistant in a template: the model was trained to write them."""
        ends: set[int] = set()
        for source in self.sources.values():
            if _END_OF_CALLS in source and _END_OF_CALLS in added_tokens:
                ends.add(added_tokens[_END_OF_CALLS])
            end = self._end_in(source, added_tokens)
            ends |= {added_tokens[end]} if end else set()
        return ends

    def turn_end(self, tokens: Iterable[str]) -> str:
        """The one of `tokens` that ends a turn of the assistant in the template without tools; empty: none does."""
        return self._end_in(self.sources["default"], tokens) if "default" in self.sources else ""

    def _end_in(self, source: str, tokens: Iterable[str]) -> str:
        chat = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer0"}]
        try:
            text = self._render(source, chat, (), {}, add_generation_prompt=False)
        except ModelError:
            return ""  # a template for other conversations
        after = text.partition("Answer0")[2].lstrip()
        return max((token for token in tokens if after.startswith(token)), key=len, default="")

    def _render(
        self,
        source: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
        *,
        add_generation_prompt: bool,
    ) -> str:
        context = {**self.special_tokens, **variables, "add_generation_prompt": add_generation_prompt, "documents": None}
        try:
            return _compile(source).render(
                messages=[dict(message) for message in messages], tools=[dict(tool) for tool in tools] or None, **context
            )
        except Exception as error:  # a template is a program of the model's
            roles = [message["role"] for message in messages]
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ModelError(f"chat template: it refuses messages with the roles {roles} ({reason})") from error


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{file}: not a text in UTF-8 ({error.reason}); take the file of the checkpoint") from error


def _by_name(template: Any, file: Path) -> dict[str, str]:
    """Sources by name of a template, of a list of `{"name": ..., "template": ...}` or of an object of templates."""
    if template is None:
        return {}
    named: Any = {"default": template} if isinstance(template, str) else template
    try:
        named = cast(Any, named if isinstance(named, dict) else {entry["name"]: entry["template"] for entry in named})
    except (TypeError, KeyError):
        named = {"": None}
    if not all(isinstance(text, str) for text in cast(dict[str, Any], named).values()):
        raise ModelError(
            f'{file}: chat_template = {str(template)[:80]!r} is neither a text nor a list of {{"name": ..., "template": ...}}'
        )
    return cast(dict[str, str], named)
