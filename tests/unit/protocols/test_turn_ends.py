"""The end of a turn stops sampling and trains, in the forms of Qwen 2.5 (base and instruct), Qwen 3 and Llama 3."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from arpo.batching.packing import PackNode, pack_trees
from arpo.data.conversations import Conversation, encode_conversation
from arpo.errors import DataError, ModelError
from arpo.inference.stopping import StopFinder
from arpo.protocols.base import WritingProtocol
from arpo.protocols.build import build_protocol
from arpo.protocols.config import HermesProtocolConfig, Llama3ProtocolConfig, TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.types import Message, Observation, StopReason

from .conftest import LLAMA, QWEN, SCHEMAS


@dataclass(frozen=True)
class Form:
    """A model directory's tokenizer files, and what must come of them."""

    style: str
    template: str | None
    eos: str
    end: str
    """The token that ends a turn."""
    others: tuple[str, ...] = ()
    """Further tokens that end a generation."""
    pad: str | None = None
    generation: tuple[str, ...] = ()
    """`eos_token_id` of generation_config.json; empty: there is no such file."""


FORMS = {
    "qwen2.5 instruct": Form(
        "qwen2", QWEN, "<|im_end|>", "<|im_end|>", ("<|endoftext|>",), "<|endoftext|>", ("<|im_end|>", "<|endoftext|>")
    ),
    "qwen2.5 base": Form("qwen2", QWEN, "<|endoftext|>", "<|im_end|>", ("<|endoftext|>",), "<|endoftext|>"),
    "pad is the end": Form("qwen2", QWEN, "<|im_end|>", "<|im_end|>", (), "<|im_end|>"),
    "qwen3": Form("qwen3", QWEN, "<|im_end|>", "<|im_end|>", ("<|endoftext|>",), None, ("<|im_end|>", "<|endoftext|>")),
    "llama3": Form("llama3", LLAMA, "<|eot_id|>", "<|eot_id|>", ("<|end_of_text|>",), None, ("<|end_of_text|>", "<|eot_id|>")),
    "llama3, pad is the end": Form("llama3", LLAMA, "<|eot_id|>", "<|eot_id|>", (), "<|eot_id|>"),
    "no template": Form("llama3", None, "<|end_of_text|>", "<|end_of_text|>", ("<|eot_id|>",), None, ("<|eot_id|>",)),
}
CALLS = {
    "tags": "<think> a </think> <search> q </search>",
    "hermes": '<tool_call>\n{"name": "search", "arguments": {"query": "q"}}\n</tool_call>',
    "llama3_json": '{"name": "search", "parameters": {"query": "q"}}',
}
ANSWERS = {"tags": "<think> b </think> <answer> \\boxed{1} </answer>", "hermes": "\\boxed{1}", "llama3_json": "\\boxed{1}"}


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


@pytest.fixture(scope="module")
def tokenizer(form: Form, make_tokenizer_directory: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory):
    directory = make_tokenizer_directory(tmp_path_factory.mktemp("form"), form.style)
    ids = {token["content"]: token["id"] for token in json.loads((directory / "tokenizer.json").read_text())["added_tokens"]}
    settings = {
        "eos_token": form.eos,
        "pad_token": form.pad,
        "bos_token": "<|begin_of_text|>" if form.style == "llama3" else None,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    if form.template is not None:
        (directory / "chat_template.jinja").write_text(form.template)
    if form.generation:
        config = {"eos_token_id": [ids[text] for text in form.generation], "pad_token_id": ids.get(form.pad or "")}
        (directory / "generation_config.json").write_text(json.dumps(config))
    return PolicyTokenizer.load(directory)


def protocols_of(form: Form, tokenizer: PolicyTokenizer) -> dict[str, WritingProtocol]:
    own = HermesProtocolConfig() if form.template is QWEN else Llama3ProtocolConfig()
    configs = [TagProtocolConfig(), *([own] if form.template else [])]
    return {config.type: build_protocol(config, tokenizer, SCHEMAS) for config in configs}


def conversation(*turns: str) -> Conversation:
    """The question, then the turns of the assistant with a result between each two."""
    messages = [Message(role="assistant", content=turns[0])]
    for turn in turns[1:]:
        messages += [Message(role="tool", content="r"), Message(role="assistant", content=turn)]
    return Conversation((Message(role="user", content="q"),), tuple(messages))


def runs(ids: list[int], mask: list[bool]) -> list[tuple[bool, list[int]]]:
    """The ids in runs that train and that do not."""
    pairs = groupby(zip(mask, ids, strict=True), key=lambda pair: pair[0])
    return [(trains, [index for _, index in group]) for trains, group in pairs]


def test_every_end_stops_sampling(form: Form, tokenizer: PolicyTokenizer):
    assert {tokenizer.decode([index]) for index in tokenizer.eos_ids} == {form.end, *form.others}
    assert tokenizer.turn_end == form.end
    finder = StopFinder(tokenizer.decode, tokenizer.eos_ids)
    for index in tokenizer.eos_ids:
        assert finder.reason((), [5, index], (), 9) is StopReason.EOS


def test_a_training_conversation_ends_its_turns_as_a_rollout_does(form: Form, tokenizer: PolicyTokenizer):
    """Sampled: the text and the end. Between the turns: what a rollout puts there, the line break after the end included."""
    for kind, protocol in protocols_of(form, tokenizer).items():
        end = "" if kind == "tags" else form.end
        ids, mask = encode_conversation(conversation(CALLS[kind], ANSWERS[kind]), protocol, tokenizer)
        _, call, between, answer = runs(ids, mask)
        assert call == (True, tokenizer.encode_markup(CALLS[kind] + end))
        assert between == (False, protocol.encode_observation(Observation(content="r")))
        assert answer == (True, tokenizer.encode_markup(ANSWERS[kind] + end))
        assert mask[-1]
        if kind != "tags":
            assert ids[-1] in tokenizer.eos_ids
            assert tokenizer.decode(between[1]).startswith(
                "\n<|im_start|>user\n" if kind == "hermes" else "<|start_header_id|>"
            )
        packed = pack_trees([[PackNode(None, ids, mask)]])
        assert packed.targets.tolist() == call[1] + answer[1], "every end is a target, whatever token pads"


def test_a_turn_that_no_stop_string_ends_is_ended_by_the_token(form: Form, tokenizer: PolicyTokenizer):
    for protocol in protocols_of(form, tokenizer).values():
        ids, mask = encode_conversation(conversation("It is 1."), protocol, tokenizer)
        assert runs(ids, mask)[-1] == (True, tokenizer.encode_markup(f"It is 1.{form.end}"))


def test_an_end_in_the_data_counts_once_and_nothing_follows_it(form: Form, tokenizer: PolicyTokenizer):
    for kind, protocol in protocols_of(form, tokenizer).items():
        for answer in (ANSWERS[kind], "It is 1."):
            expected = encode_conversation(conversation(CALLS[kind], answer), protocol, tokenizer)
            for end in (form.end, *form.others):
                for tail in ("", "\n"):
                    written = conversation(CALLS[kind] + end + tail, answer + end + tail)
                    assert encode_conversation(written, protocol, tokenizer) == expected
                with pytest.raises(DataError, match=r"goes on after .*, where sampling stops"):
                    encode_conversation(conversation(f"It {end} is 1."), protocol, tokenizer)


@pytest.mark.parametrize("value", ["<|im_end|>", 99999, -1, True, 1.5, [2, None], [[2]], {"id": 2}])
def test_an_end_that_is_no_id_is_refused(make_tokenizer_directory: Callable[..., Path], tmp_path: Path, value: Any):
    directory = make_tokenizer_directory(tmp_path, "qwen2")
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ModelError, match=r"generation_config.json: eos_token_id = .* which is no id of tokenizer.json"):
        PolicyTokenizer.load(directory)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_a_file_that_holds_no_object_is_refused(
    make_tokenizer_directory: Callable[..., Path], tmp_path: Path, name: str, text: str
):
    directory = make_tokenizer_directory(tmp_path, "qwen2")
    (directory / name).write_text(text)
    with pytest.raises(ModelError, match=f"{name}: it holds .*, not a JSON object"):
        PolicyTokenizer.load(directory)
