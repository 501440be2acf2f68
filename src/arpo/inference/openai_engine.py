"""A model behind an OpenAI-compatible server as an engine, for evaluation only. Torch-free.

Two addresses, by `engine.api`:

- `completions`: the request holds the prefix as token ids, exactly those of the tree. The server returns sampled ids if it can
  (`return_token_ids`, as vLLM does); if it returns text alone, the engine encodes that text again, and counts it.
- `chat`: the request holds the prefix as messages: the prompt's, then every completion as `assistant` and every tool result as
  `user`. The reply is text, which `TextTokenizer` encodes.

Ids made from text can be read and graded, but never trained on, and a server reports neither log-probs nor entropies of the
tokens it sampled. So training and branching refuse this engine.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, NoReturn, cast

from arpo.clients.http import HttpError
from arpo.clients.openai import Choice, ModelClient, as_json
from arpo.errors import EngineError
from arpo.inference.base import WeightSource
from arpo.inference.config import OpenAIEngineConfig
from arpo.inference.stopping import StopFinder
from arpo.inference.token_prefix import TokenPrefix, TokenPrefixEngine
from arpo.inference.usage import ServerUsage
from arpo.protocols.base import Tokenizer
from arpo.protocols.stop import split_at_stop
from arpo.protocols.text_tokenizer import TextTokenizer
from arpo.types import Completion, Message, SamplingParams, StopReason

ENDS = ("stop", "length")
"""Accepted values of `finish_reason`; a reply that was filtered, or ended in another way, is none."""
MAX_STOPS = 4
"""Most stop strings of a request: hosted servers refuse more. Text behind another one is cut here."""
_SHOWN_CHARS = 300
_STOP_KEYS = ("stop_reason", "matched_stop")
"""Keys under which vLLM and SGLang report the stop string that ended a reply; null where none did."""


class OpenAIEngine(TokenPrefixEngine):
    """Continues prefixes by requests to a server. Completions have no log-probs and no entropies: both lists are empty.

    Seeds are sent modulo 2^31; the server decides whether the same seed gives the same reply. Temperature 0 asks for greedy
    decoding. A request that a token limit ended cannot be continued.

    Raises:
        ConfigError: the key's environment variable is not set.
    """

    entropy_estimators: tuple[str, ...] = ()
    """Empty: a server reports no entropies."""

    def __init__(self, config: OpenAIEngineConfig, tokenizer: Tokenizer) -> None:
        """An engine for the served model.

        Args:
            config: The server, the model and the address.
            tokenizer: The served model's tokenizer for `completions`; a `TextTokenizer` for `chat`.
        """
        super().__init__()
        self.usage: ServerUsage = ServerUsage()
        self._path = config.api_path
        self._eos_ids = tokenizer.eos_ids
        self._api = _Chat(tokenizer) if isinstance(tokenizer, TextTokenizer) else _Completions(tokenizer)
        self._client = ModelClient(config, "engine")

    async def generate(
        self, prefix: TokenPrefix, sampling: SamplingParams, *, seed: int, position: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Completion, TokenPrefix]:
        """One reply of the server.

        With `chat` the server counts `sampling.max_tokens` in its tokens, so more ids may come back.

        Raises:
            EngineError: the server failed in every retry, its reply is unusable, `position` is not 0, or the prefix was
                released.
        """
        prefix.require_held()
        if position:
            raise EngineError(
                f"engine.type = 'openai': position = {position}, but a server cannot continue within a completion"
            )
        body = {
            **self._api.prompt(prefix),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": 1.0,  # servers have other defaults
            "seed": seed % 2**31,
            **({"stop": list(stop[:MAX_STOPS])} if stop else {}),
        }
        try:
            choice = await self._client.ask(self._path, body)
        except HttpError as error:
            raise EngineError(str(error)) from error
        if choice.data.get("finish_reason") not in ENDS:
            raise EngineError(
                f"engine.base_url: the server ended a reply with finish_reason = {choice.data.get('finish_reason')!r}, not "
                f"with {' or '.join(ENDS)}: {str(choice.data)[:_SHOWN_CHARS]}"
            )
        token_ids, is_stopped, is_tokenized = self._api.read(choice, stop)
        self._count(choice, is_tokenized, prefix)
        is_ended = not choice.is_truncated or bool(self._eos_ids.intersection(token_ids))
        reason = StopReason.STOP_STRING if is_stopped else StopReason.EOS if is_ended else StopReason.LENGTH
        completion = Completion(token_ids=token_ids, logprobs=[], entropies=[], stop_reason=reason, policy_version=self.version)
        return completion, prefix.extend(token_ids, is_sampled=True)

    async def update_weights(self, source: WeightSource, version: int) -> NoReturn:
        """Refused: the weights are the server's.

        Raises:
            EngineError: always.
        """
        raise EngineError("engine.type = 'openai': a server's weights cannot be changed; it is for evaluation only")

    @contextmanager
    def participate(self) -> Iterator[None]:
        """Refused: the server forms its batches.

        Raises:
            EngineError: always.
        """
        raise EngineError("engine.type = 'openai': a server's batches cannot be fixed; set deterministic = false")
        yield

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _count(self, choice: Choice, is_tokenized: bool, prefix: TokenPrefix) -> None:
        self.usage.num_requests += 1
        self.usage.num_tokenized_again += is_tokenized
        if choice.usage is None:
            self.usage.num_uncounted += 1
            return
        self.usage.prompt_tokens += choice.usage.prompt_tokens
        self.usage.completion_tokens += choice.usage.completion_tokens
        if isinstance(self._api, _Completions) and choice.usage.prompt_tokens != prefix.num_tokens:
            raise EngineError(
                f"engine.api = 'completions': the server read {choice.usage.prompt_tokens} prompt tokens where "
                f"{prefix.num_tokens} were sent, so it changes token ids; use engine.api = 'chat'"
            )


class _Completions:
    """Token ids to `/completions`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._finder = StopFinder(tokenizer.decode)

    def prompt(self, prefix: TokenPrefix) -> dict[str, Any]:
        """The fields of the request that hold the prefix."""
        return {"prompt": list(prefix.token_ids), "return_token_ids": True}

    def read(self, choice: Choice, stop: Sequence[str]) -> tuple[list[int], bool, bool]:
        """Sampled ids; whether a stop string ended them; whether they were encoded from text."""
        ids = choice.data.get("token_ids")
        if _are_ids(ids):
            return *self._cut(cast(list[int], ids), stop), False
        text, is_stopped = _read_text(choice, stop)
        if not stop and not choice.is_truncated:
            raise EngineError(
                "engine.api = 'completions': the server returns text without token ids, and with this protocol a token ends a "
                "turn; use a server that answers return_token_ids (vLLM does), or agent.protocol.type = 'tags'"
            )
        return self._tokenizer.encode_markup(text), is_stopped, True

    def _cut(self, ids: list[int], stop: Sequence[str]) -> tuple[list[int], bool]:
        """The ids up to the one that completes a stop string or ends a turn, and whether a stop string is complete.

        A server may sample a few more, and may know fewer tokens that end a turn.
        """
        stops = tuple(stop)
        for end, token in enumerate(ids, start=1):
            if token in self._tokenizer.eos_ids:
                return ids[:end], False
            if self._finder.may_end(token, stops) and self._finder.is_completed(self._finder.tail(ids[:end], stops), stops):
                return ids[:end], True
        return ids, False


class _Chat:
    """Messages to `/chat/completions`."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer

    def prompt(self, prefix: TokenPrefix) -> dict[str, Any]:
        """The fields of the request that hold the prefix."""
        turns = groupby(zip(prefix.is_sampled, prefix.token_ids, strict=True), key=itemgetter(0))
        (_, question), *rest = [(is_sampled, [token for _, token in tokens]) for is_sampled, tokens in turns]
        messages = self._tokenizer.decode_chat(question)
        for is_sampled, ids in rest:
            messages.append(Message(role="assistant" if is_sampled else "user", content=self._tokenizer.decode(ids).strip()))
        return {"messages": as_json(messages)}

    def read(self, choice: Choice, stop: Sequence[str]) -> tuple[list[int], bool, bool]:
        """As `_Completions.read`."""
        text, is_stopped = _read_text(choice, stop)
        return self._tokenizer.encode_markup(text), is_stopped, True


def _read_text(choice: Choice, stop: Sequence[str]) -> tuple[str, bool]:
    """A reply's text up to and including its stop string, and whether there is one.

    Most servers omit the stop string, and not all report it: then it is the one that closes the last open tag. Without an open
    tag the reply counts as ended by the model, so a closing tag without an opening one goes unnoticed as a fault.
    """
    data = choice.data
    if choice.text is None:
        raise EngineError(f"engine.base_url: the reply's choices[0] holds no text: {str(data)[:_SHOWN_CHARS]}")
    text, _ = split_at_stop(choice.text, stop)
    if any(s in text for s in stop):
        return text, True
    if data.get("finish_reason") != "stop":
        return text, False
    reported = [data[key] for key in _STOP_KEYS if key in data]
    missing = next((s for s in stop if s in reported), "") if reported else _open_tag(text, stop)
    return text + missing, bool(missing)


def _open_tag(text: str, stop: Sequence[str]) -> str:
    """The stop string `</x>` of the last `<x>` opened in `text`; empty when no tag is open.

    Example:
        _open_tag("<think> a </think> <search> b ", ["</search>", "</answer>"])  # -> "</search>"
    """
    opened = {s: text.rfind("<" + s[2:]) for s in stop if s.startswith("</")}
    last = max(opened, key=lambda s: opened[s], default="")
    return last if last and opened[last] >= 0 else ""


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(index, int) and index >= 0 for index in cast(list[Any], value))
