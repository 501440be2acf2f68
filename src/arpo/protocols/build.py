"""Builds the protocol of a configuration."""

from collections.abc import Mapping
from typing import Any

from arpo.errors import ConfigError, ModelError
from arpo.protocols.base import Tokenizer, WritingProtocol
from arpo.protocols.chat_template import ChatProtocol
from arpo.protocols.config import ProtocolConfig, TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.formats import FORMATS
from arpo.protocols.tags import TagProtocol

TYPES = ("tags", *FORMATS)
"""Every `protocol.type`."""


def build_protocol(config: ProtocolConfig, tokenizer: Tokenizer, schemas: Mapping[str, Mapping[str, Any]]) -> WritingProtocol:
    """The configured protocol for a tokenizer and the tools' schemas.

    Raises:
        ConfigError: the protocol needs a chat template and the tokenizer is not a policy's; or as its class.
        ModelError: as the protocol's class; the message also names the files of the chat template, and every protocol.
    """
    if not isinstance(tokenizer, PolicyTokenizer):
        _refuse_template_keys(config)
        if isinstance(config, TagProtocolConfig):
            return TagProtocol(tokenizer, config, schemas)
        raise ConfigError(
            f"agent.protocol.type = {config.type!r} needs the model's chat template, which is not available; set it to 'tags'"
        )
    if not tokenizer.templates:
        _refuse_template_keys(config)
    is_tags = isinstance(config, TagProtocolConfig)
    try:
        if tokenizer.templates:
            _refuse_unread_variables(config, tokenizer.templates.variables(with_tools=bool(config.tools) and not is_tags))
        return TagProtocol(tokenizer, config, schemas) if is_tags else ChatProtocol(tokenizer, config, schemas)
    except ModelError as error:
        files = sorted({str(file) for file in tokenizer.templates.files.values()}) or [str(tokenizer.templates.directory)]
        raise ModelError(
            f"{', '.join(files)} with protocol.type = {config.type!r}, one of {', '.join(TYPES)}: {error}"
        ) from error


_DATES = {"strftime_now", "date_string"}
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception"}
"""Variables of a template that no user sets."""


def _refuse_unread_variables(config: ProtocolConfig, read: frozenset[str]) -> None:
    unread = sorted(config.chat_template_kwargs.keys() - read)
    if unread:
        free = ", ".join(sorted(read - _GIVEN - _DATES - {f"{name}_token" for name in ("bos", "eos", "unk", "pad")}))
        raise ConfigError(
            f"agent.protocol.chat_template_kwargs: {unread[0]!r} has no effect, as the model's chat template does not read it; "
            f"it reads {free or 'no variable of yours'}"
        )
    if _is_set(config, "template_date") and not _DATES & read:
        raise ConfigError(
            f"agent.protocol.template_date = {config.template_date} has no effect: the model's chat template prints no date; "
            "leave it out"
        )


def _refuse_template_keys(config: ProtocolConfig) -> None:
    for key in ("chat_template_kwargs", "template_date"):
        if _is_set(config, key):
            raise ConfigError(
                f"agent.protocol.{key} = {getattr(config, key)} has no effect: the model directory has no chat template, or a "
                "server applies its own; leave it out"
            )


def _is_set(config: ProtocolConfig, key: str) -> bool:
    """Whether a key has another value than its default."""
    return getattr(config, key) != type(config).model_fields[key].get_default(call_default_factory=True)
