"""Models behind OpenAI-compatible servers (vLLM, SGLang, llama.cpp, hosted ones), asked through the official client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import httpx2

from arpo.clients.concurrency import PerLoop
from arpo.clients.config import ChatConfig, RetryingHttpConfig, ServedModelConfig
from arpo.clients.http import (
    HttpError,
    ServiceConnections,
    connection_error,
    excerpt,
    read_json,
    request_name,
    require_environment,
)
from arpo.clients.keys import ApiKey
from arpo.types import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request, as the server counts them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One reply of a model, as the server wrote it."""

    data: Mapping[str, Any]
    """`choices[0]`."""
    usage: Usage | None
    """Tokens of the request; None when the server does not say."""

    @property
    def is_truncated(self) -> bool:
        """True when `max_tokens` ended it."""
        return self.data.get("finish_reason") == "length"

    @property
    def text(self) -> str | None:
        """The text of the reply, with lone surrogates replaced; None when it has none.

        It is that of a completion, or of a message: its content, the text parts of a list of parts joined, or empty where
        `max_tokens` ended it before its content began.
        """
        message = self.data.get("message")
        content = message.get("content") if isinstance(message, dict) else self.data.get("text")
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
            content = "".join(map(str, parts)) if parts else None
        if content is None and isinstance(message, dict) and self.is_truncated:
            return ""
        return content.encode("utf-8", "replace").decode() if isinstance(content, str) else None


class ModelClient:
    """Sends requests to a served model.

    The official client retries when the configuration has `http.max_retries`, and reads Retry-After; `ServiceConnections`
    below it keeps the limits. OPENAI_* environment variables have no effect.

    Args:
        config: the model and its server.
        purpose: configuration section the client serves, shown in errors, e.g. `reward.judge`.

    Raises:
        ConfigError: the key's environment variable is not set, or as `require_environment`.
    """

    def __init__(self, config: ServedModelConfig, purpose: str) -> None:
        import openai  # takes half a second, so imported on first use

        require_environment()
        self._key = ApiKey.from_environment(config.api_key_env, purpose) if config.api_key_env is not None else None
        self._config = config
        self._purpose = purpose
        headers = {"authorization": f"Bearer {self._key.value}"} if self._key is not None else {}
        self._client = PerLoop(
            lambda: openai.AsyncOpenAI(
                base_url=config.base_url,
                api_key="in the headers of the connections, if there is one",
                max_retries=config.http.max_retries if isinstance(config.http, RetryingHttpConfig) else 0,
                timeout=None,
                http_client=ServiceConnections(purpose, config.http, headers, self._key),
            )
        )

    async def ask(self, path: str, body: Mapping[str, Any]) -> Choice:
        """Send `body` to `path`, its fields under their configured names, with the model's name and `extra_body`.

        Returns:
            The first choice of the reply.

        Raises:
            HttpError: the server failed, retries included, or the reply holds no choice.
        """
        import openai

        url = f"{self._config.base_url}/{path}"
        name = request_name(self._purpose, "POST", url)
        names = {field: self._config.rename.get(cast(Any, field), field) for field in body}
        renamed = {name: body[field] for field, name in names.items() if name}
        request = {"model": self._config.model, **renamed, **self._config.extra_body}
        try:
            response = await self._client.get().post(f"/{path}", cast_to=httpx2.Response, body=request)
        except openai.APIStatusError as error:
            response = error.response
        except openai.APIConnectionError as error:
            raise connection_error(name, error.__cause__ or error, self._key) from None
        reply = read_json(name, response)
        try:
            choice = reply["choices"][0]
        except (LookupError, TypeError):
            choice = None
        if not isinstance(choice, dict):
            raise HttpError(f"{name}: the reply holds no choices[0]: {excerpt(response.content)}")
        return Choice(data=choice, usage=_read_usage(reply.get("usage")))

    async def aclose(self) -> None:
        """Close the connections; the next request opens new ones."""
        client = self._client.take()
        if client is not None:
            await client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """A reply of a chat model."""

    text: str
    """The message."""
    is_truncated: bool
    """True when `max_tokens` ended it."""
    usage: Usage | None = None
    """Tokens of the request; None when the server does not say."""


class ChatClient(ModelClient):
    """Sends conversations to a chat model.

    Args:
        config: the model and its server.
        purpose: configuration section the client serves, shown in errors, e.g. `reward.judge`.

    Raises:
        ConfigError: the key's environment variable is not set.

    Example:
        reply = await ChatClient(config, "reward.judge").complete([Message(role="user", content="Is 2 = 2.0?")])
    """

    def __init__(self, config: ChatConfig, purpose: str) -> None:
        super().__init__(config, purpose)
        self._chat = config

    async def complete(self, messages: Sequence[Message]) -> ChatReply:
        """The model's reply to a conversation; one whose tokens ended before its content began is empty.

        Raises:
            HttpError: the server failed, retries included, or the reply holds no text.
        """
        chat = self._chat
        body = {"messages": as_json(messages), "temperature": chat.temperature, "max_tokens": chat.max_tokens}
        choice = await self.ask("chat/completions", body if chat.seed is None else {**body, "seed": chat.seed})
        if choice.text is None:
            raise HttpError(
                f"POST {chat.base_url}/chat/completions: the reply holds no choices[0].message.content with text: "
                f"{str(choice.data)[:200]}"
            )
        return ChatReply(text=choice.text, is_truncated=choice.is_truncated, usage=choice.usage)


def as_json(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages in the form of a request."""
    return [{"role": m.role, "content": m.content} for m in messages]


def _read_usage(usage: Any) -> Usage | None:
    counts = cast(dict[str, Any], usage) if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion)
