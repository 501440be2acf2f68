"""The policy's tokenizer, which encodes text from outside separately from the protocol's markup.

It needs only `tokenizer.json` (the `tokenizers` library), neither torch nor a model class.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from tokenizers import Tokenizer as FastTokenizer

from arpo.errors import ModelError
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.model_files import read_json
from arpo.protocols.templates import ChatTemplates
from arpo.types import Message, StrPath

TEMPLATE_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
CUT_MARK = " [cut]"
"""End of a text that was cut to a number of tokens."""


class PolicyTokenizer:
    """A byte-level or byte-fallback BPE tokenizer, as Qwen, Llama 3, Mistral and most others have.

    Example:
        tokenizer = PolicyTokenizer.load(Path("Qwen2.5-7B-Instruct"))
        tokenizer.encode_markup("<|im_end|>")     # -> [151645], the control token
        tokenizer.encode_untrusted("<|im_end|>")  # -> [27, 91, 318, 6213, 91, 29], six ordinary tokens
    """

    def __init__(
        self,
        tokenizer: FastTokenizer,
        *,
        eos_ids: Iterable[int],
        templates: ChatTemplates | None = None,
    ) -> None:
        """Wrap a tokenizer; `load` finds the other arguments in a model directory.

        Args:
            tokenizer: The tokenizer of `tokenizer.json`; its padding and truncation are disabled.
            eos_ids: Ids that end a generation.
            templates: The chat templates; None selects the plain form of `encode_chat`.

        Raises:
            ModelError: the tokenizer's model is not BPE.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._plain = _without_added_vocabulary(tokenizer)
        self.templates = templates if templates is not None else ChatTemplates()
        """The chat templates; false when the model has none."""
        self.eos_ids = frozenset(eos_ids)
        """Ids of which any ends a completion."""
        texts = {text for text, index in _control_tokens(tokenizer).items() if index in self.eos_ids}
        self.eos_tokens: tuple[str, ...] = tuple(sorted(texts, key=lambda text: (-len(text), text)))
        """Texts of the added tokens among `eos_ids`, longest first."""
        own = [self.templates.turn_end(texts), self.templates.special_tokens.get("eos_token", "")]
        self.turn_end: str = next((text for text in own if text in texts), next(iter(self.eos_tokens), ""))
        """The one of `eos_tokens` that ends a turn in the template, else `eos_token`, else the longest; empty: none."""
        self.vocab_size: int = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        """One more than the largest id; a model needs at least as many embeddings."""

    @classmethod
    def load(cls, directory: StrPath) -> "PolicyTokenizer":
        """The tokenizer of a Hugging Face model directory.

        The ids that end a generation are `eos_token` of tokenizer_config.json and `eos_token_id` of generation_config.json,
        or of config.json when neither names one; and the tokens that end a turn of the assistant in the chat templates.

        Raises:
            ModelError: tokenizer.json is missing or unreadable, no end-of-sequence token is named, a chat template is none, or
                the tags of the tag protocol do not survive encoding and decoding.
        """
        directory = Path(directory)
        file = directory / "tokenizer.json"
        if not file.is_file():
            raise ModelError(
                f"{directory}: no tokenizer.json in this directory; arpo needs a fast tokenizer "
                "(AutoTokenizer.from_pretrained(...).save_pretrained(directory) writes one)"
            )
        try:
            tokenizer = FastTokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{file}: not a tokenizer the `tokenizers` library can read ({error})") from error
        settings = read_json(directory / "tokenizer_config.json")
        special_tokens = {key: text for key in TEMPLATE_TOKENS if (text := _token_text(settings.get(key)))}
        templates = ChatTemplates.find(directory, settings, special_tokens)
        eos_ids = _find_eos_ids(directory, tokenizer, settings) | templates.turn_ends(_control_tokens(tokenizer))
        if not eos_ids:
            raise ModelError(
                f"{directory}: no end-of-sequence token; set eos_token in tokenizer_config.json "
                "or eos_token_id in generation_config.json"
            )
        policy = cls(tokenizer, eos_ids=eos_ids, templates=templates)
        policy.check_round_trip(TagProtocolConfig().tags)
        return policy

    def encode_markup(self, text: str) -> list[int]:
        """Ids of the protocol's or the model's text: they may hold added tokens, never a beginning-of-sequence token."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_untrusted(self, text: str) -> list[int]:
        """Ids of text from outside, read as plain characters: they never hold special or other added tokens."""
        return self._plain.encode(text, add_special_tokens=False).ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included, without clean-up; a partial character shows as U+FFFD."""
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=False)

    def cut(self, text: str, max_tokens: int) -> tuple[str, bool]:
        """The text cut at a token boundary to at most `max_tokens` tokens of untrusted text, and True when it had to be cut.

        A cut text ends with `CUT_MARK`, which counts; without room for more, only the mark is left.
        """
        # This much text has more than max_tokens tokens, so the rest of a huge text need not be read.
        encoding = self._plain.encode(text[: (max_tokens + 1) * self._most_characters], add_special_tokens=False)
        if len(encoding.ids) <= max_tokens:
            return text, False
        # A token may be a part of a character; the start of the first removed token never splits one.
        for num_tokens in range(max_tokens - len(self.encode_untrusted(CUT_MARK)), 0, -1):
            short = text[: encoding.offsets[num_tokens][0]].rstrip() + CUT_MARK
            if len(self.encode_untrusted(short)) <= max_tokens:
                return short, True
        return CUT_MARK, True

    @cached_property
    def _most_characters(self) -> int:
        """More characters than any token covers: twice the longest token, as a normaliser may join characters."""
        return 2 * max(map(len, self._plain.get_vocab()))

    def encode_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] = MappingProxyType({}),
        markup: Iterable[str] = (),
    ) -> list[int]:
        """Ids of a prompt: the messages in the model's chat template, up to the policy's turn.

        Without a template the form is plain: the beginning-of-sequence token if there is one, then `System: ...`,
        `User: ...`, each followed by an empty line, and `Assistant:` at the end.

        A message that would bring a control token is encoded as plain characters: of the user or a tool, one with any added
        token; of the system or the assistant, one with a special token that is not in `markup`.

        Args:
            messages: The prompt.
            tools: Tools for the template, as in `ChatTemplates.render`.
            variables: Variables of the template.
            markup: The protocol's tags.

        Raises:
            ModelError: the template refuses these messages.
        """
        allowed = {index for text in markup if (index := self._tokenizer.token_to_id(text)) is not None}
        fence = "\ue000"  # a private character, which marks where plain characters belong
        while any(fence in message.content for message in messages):
            fence += "\ue000"
        plain: dict[str, str] = {}
        chat: list[dict[str, str]] = []
        for index, message in enumerate(messages):
            content = message.content
            if self._is_control(message, allowed):
                mark = f"{fence}{index}{fence}"
                plain[mark] = content.strip()
                content = content.replace(plain[mark], mark)
            chat.append({"role": message.role, "content": content})
        if self.templates:
            text = self.templates.render(chat, tools, variables)
        else:
            bos = self.templates.special_tokens.get("bos_token", "")
            text = bos + "".join(f"{m['role'].capitalize()}: {m['content']}\n\n" for m in chat) + "Assistant:"
        if not plain:
            return self.encode_markup(text)
        pieces = re.split("(" + "|".join(map(re.escape, plain)) + ")", text)
        ids = (self.encode_untrusted(plain[p]) if p in plain else self.encode_markup(p) for p in pieces)
        return [index for part in ids for index in part]

    def _is_control(self, message: Message, allowed: set[int]) -> bool:
        """True when a message holds control tokens that its speaker may not write."""
        ids = set(self.encode_markup(message.content)) & self._control_tokens[1]
        if message.role in ("system", "assistant"):
            added = self._tokenizer.get_added_tokens_decoder()
            return any(added[index].special for index in ids - allowed)
        return bool(ids)

    @cached_property
    def eos_texts(self) -> tuple[str, ...]:
        """The texts of `eos_ids`, longest first."""
        return tuple(sorted((self.decode([index]) for index in self.eos_ids), key=len, reverse=True))

    def defuse(self, text: str) -> str:
        """The text with a blank in the text of each added token, so that its markup encoding holds none.

        It is for text from outside that a chat template prints, such as a tool's description: `<|im_end|>` becomes
        `< |im_end|>`. Added tokens of blanks stay, as they control nothing.

        Raises:
            ModelError: the tokenizer's normalisation makes an added token all the same.
        """
        texts, ids = self._control_tokens
        while texts is not None and texts.search(text):
            text = texts.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text)
        if ids.intersection(self.encode_markup(text)):
            raise ModelError(f"tokenizer: the text {text!r:.200} from outside becomes a control token; remove its tool")
        return text

    @cached_property
    def _control_tokens(self) -> tuple[re.Pattern[str] | None, frozenset[int]]:
        added = _control_tokens(self._tokenizer)
        texts = sorted(added, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts))) if texts else None, frozenset(added.values())

    def check_round_trip(self, texts: Iterable[str]) -> None:
        """Check that each text, encoded between two others, decodes to itself.

        Raises:
            ModelError: a text decodes to another one; the message shows both.
        """
        before, after = self.encode_markup("a"), self.encode_markup("b")
        for text in texts:
            for encode in (self.encode_markup, self.encode_untrusted):
                decoded = self.decode([*before, *encode(text), *after])
                if decoded != f"a{text}b":
                    raise ModelError(
                        f"tokenizer: {text!r} between 'a' and 'b' decodes to {decoded!r}, so the model could not read or write "
                        "this tag; use a byte-level BPE tokenizer (as Qwen and Llama 3 have), or add the tag with "
                        "tokenizer.add_tokens([...]) and resize the model's embeddings"
                    )


def _without_added_vocabulary(tokenizer: FastTokenizer) -> FastTokenizer:
    """A copy of the tokenizer that produces no added token, neither by matching it nor by merging characters into it."""
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    model: dict[str, Any] = spec["model"]
    if model["type"] != "BPE":
        raise ModelError(
            f"tokenizer: its model is {model['type']}; arpo reads BPE tokenizers only (as Qwen, Llama and Mistral have)"
        )
    added = {token["content"] for token in spec["added_tokens"]}
    merges = cast(list[tuple[str, str]], model["merges"])
    model["merges"] = [[left, right] for left, right in merges if not added & {left, right, left + right}]
    model["vocab"] = {text: index for text, index in model["vocab"].items() if text not in added}
    if model["unk_token"] in added:
        model["unk_token"] = None
    spec["added_tokens"] = []
    spec["post_processor"] = None
    return FastTokenizer.from_str(json.dumps(spec))


def _control_tokens(tokenizer: FastTokenizer) -> dict[str, int]:
    """The added tokens and their ids, without those of blanks, which control nothing."""
    added = tokenizer.get_added_tokens_decoder().items()
    return {token.content: index for index, token in added if len(token.content.strip()) > 1}


def _find_eos_ids(directory: Path, tokenizer: FastTokenizer, settings: dict[str, Any]) -> set[int]:
    text = _token_text(settings.get("eos_token"))
    index = tokenizer.token_to_id(text) if text else None
    ids: set[int] = set() if index is None else {index}
    ids |= _read_ids(directory / "generation_config.json", tokenizer)
    return ids or _read_ids(directory / "config.json", tokenizer)


def _read_ids(file: Path, tokenizer: FastTokenizer) -> set[int]:
    """The ids under `eos_token_id`, one or a list; empty without any."""
    value = read_json(file).get("eos_token_id")
    ids = cast(list[Any], value if isinstance(value, list) else [] if value is None else [value])
    for index in ids:
        if type(index) is not int or index < 0 or tokenizer.id_to_token(index) is None:
            raise ModelError(
                f"{file}: eos_token_id = {value!r:.80} names {index!r:.40}, which is no id of tokenizer.json; correct it"
            )
    return set(ids)


def _token_text(token: Any) -> str:
    text = cast(dict[str, Any], token).get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""
