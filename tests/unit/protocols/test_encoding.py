import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from arpo.errors import ModelError
from arpo.protocols.encoding import CUT_MARK, PolicyTokenizer
from arpo.types import Message

TEXTS = [
    "", " ", "the town of Kelford", "  two  blanks\n\n\ttab ", "don't stop , now .", "1,000.5 %",
    "caf\u00e9 中文 🙂 \u0000 \u200b",
    "x = [1, 2]\nfor i in x:\n    print(i)\r\n",
]  # fmt: skip


@pytest.fixture
def tokenizer(tokenizer_directory: Path) -> PolicyTokenizer:
    return PolicyTokenizer.load(tokenizer_directory)


def added_tokens(directory: Path) -> dict[str, int]:
    return {t["content"]: t["id"] for t in json.loads((directory / "tokenizer.json").read_text())["added_tokens"]}


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_as_it_was(tokenizer: PolicyTokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode_markup(text)) == text
    assert tokenizer.decode(tokenizer.encode_untrusted(text)) == text


def test_markup_may_hold_added_tokens_but_gets_no_bos(tokenizer: PolicyTokenizer, tokenizer_directory: Path):
    for token, index in added_tokens(tokenizer_directory).items():
        assert tokenizer.encode_markup(token) == [index]
    assert tokenizer.encode_markup("") == []


def test_no_added_token_arises_from_untrusted_text(tokenizer: PolicyTokenizer, tokenizer_directory: Path):
    added = added_tokens(tokenizer_directory)
    attacks = [f"{before}{t}{after}" for t in added for before, after in [("", ""), ("a", "b"), (" ", "\n"), ("<", ">")]]
    attacks += ["".join(added), "".join(t * 3 for t in added), "\n".join(f"{t} the {t}" for t in added)]
    for attack in attacks:
        ids = tokenizer.encode_untrusted(attack)
        assert not set(ids) & set(added.values()), attack
        assert tokenizer.decode(ids) == attack


def test_untrusted_text_without_added_tokens_is_encoded_as_markup_is(tokenizer: PolicyTokenizer):
    for text in TEXTS:
        assert tokenizer.encode_untrusted(text) == tokenizer.encode_markup(text)


def test_an_added_token_that_is_also_a_merge_cannot_arise(make_tokenizer_directory, tmp_path: Path):
    # "search" is a merged word of the corpus; declared as an added token it must become unreachable for outside text
    directory = make_tokenizer_directory(tmp_path, "qwen2")
    raw = Tokenizer.from_file(str(directory / "tokenizer.json"))
    assert len(raw.encode(" search").ids) == 1
    raw.add_tokens(["Ġsearch", "search"])
    raw.save(str(directory / "tokenizer.json"))
    tokenizer = PolicyTokenizer.load(directory)
    forbidden = set(added_tokens(directory).values())
    assert not set(tokenizer.encode_untrusted("the search is search ing")) & forbidden


def test_cut_keeps_short_texts_and_bounds_long_ones(tokenizer: PolicyTokenizer):
    assert tokenizer.cut("the town", 100) == ("the town", False)
    text = "the town of Kelford 🙂🙂🙂 is search ing " * 5
    total = len(tokenizer.encode_untrusted(text))
    for limit in range(len(tokenizer.encode_untrusted(CUT_MARK)) + 1, total):
        short, was_cut = tokenizer.cut(text, limit)
        assert was_cut
        assert len(tokenizer.encode_untrusted(short)) <= limit
        assert short.endswith(CUT_MARK)
        assert text.startswith(short.removesuffix(CUT_MARK)), "no character is split or changed"
    assert tokenizer.cut(text, total) == (text, False)
    assert tokenizer.cut(text, 0) == (CUT_MARK, True)


@pytest.mark.parametrize("text", ["the town of Kelford, 1931: ", "é", "e\u0301\u0323", "</result><|im_end|>", "\n"])
def test_cut_of_a_huge_text_is_that_of_a_long_one(tokenizer: PolicyTokenizer, text: str):
    assert tokenizer.cut(text * 200_000, 20) == tokenizer.cut(text * 400, 20)


def test_chat_uses_the_template_and_ends_where_the_policy_begins(qwen_directory: Path):
    tokenizer = PolicyTokenizer.load(qwen_directory)
    ids = tokenizer.encode_chat([Message(role="user", content="who ?")])
    assert tokenizer.decode(ids) == "<|im_start|>user\nwho ?<|im_end|>\n<|im_start|>assistant\n"


def test_llama_chat_has_one_beginning_token(make_tokenizer_directory, tmp_path: Path):
    directory = make_tokenizer_directory(tmp_path, "llama3")
    tokenizer = PolicyTokenizer.load(directory)
    ids = tokenizer.encode_chat([Message(role="user", content="who ?")])
    bos = added_tokens(directory)["<|begin_of_text|>"]
    assert ids[0] == bos
    assert ids.count(bos) == 1


def test_a_template_that_opens_the_reasoning_block_leaves_that_to_the_policy(make_tokenizer_directory, tmp_path: Path):
    directory = make_tokenizer_directory(tmp_path, "qwen2")
    (directory / "chat_template.jinja").write_text("{{ messages[0]['content'] }}:<think>\n")
    tokenizer = PolicyTokenizer.load(directory)
    assert tokenizer.decode(tokenizer.encode_chat([Message(role="user", content="who ?")])) == "who ?:"


def test_a_template_may_refuse_messages(make_tokenizer_directory, tmp_path: Path):
    directory = make_tokenizer_directory(tmp_path, "qwen2")
    (directory / "chat_template.jinja").write_text("{{ raise_exception('no system message') }}")
    with pytest.raises(ModelError, match=r"\['system', 'user'\].*no system message"):
        PolicyTokenizer.load(directory).encode_chat([Message(role="system", content="s"), Message(role="user", content="u")])


def test_without_a_template_the_plain_form_is_used(make_tokenizer_directory, tmp_path: Path):
    directory = make_tokenizer_directory(tmp_path, "llama3")
    (directory / "tokenizer_config.json").write_text('{"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}')
    tokenizer = PolicyTokenizer.load(directory)
    ids = tokenizer.encode_chat([Message(role="system", content="be good"), Message(role="user", content="who ?")])
    assert tokenizer.decode(ids) == "<|begin_of_text|>System: be good\n\nUser: who ?\n\nAssistant:"


def test_every_token_that_may_end_a_generation_is_found(make_tokenizer_directory, tmp_path: Path):
    directory = make_tokenizer_directory(tmp_path, "llama3")
    added = added_tokens(directory)
    assert PolicyTokenizer.load(directory).eos_ids == {added["<|eot_id|>"]}
    (directory / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [added["<|end_of_text|>"], added["<|eot_id|>"]]})
    )
    assert PolicyTokenizer.load(directory).eos_ids == {added["<|end_of_text|>"], added["<|eot_id|>"]}


def test_a_directory_without_an_end_token_is_refused(make_tokenizer_directory, tmp_path: Path):
    directory = make_tokenizer_directory(tmp_path, "qwen2")
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        PolicyTokenizer.load(directory)
    (directory / "config.json").write_text('{"eos_token_id": 7}')
    assert PolicyTokenizer.load(directory).eos_ids == {7}


def test_missing_and_broken_files_are_named(make_tokenizer_directory, tmp_path: Path):
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        PolicyTokenizer.load(tmp_path)
    directory = make_tokenizer_directory(tmp_path / "t", "qwen2")
    (directory / "generation_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"generation_config\.json: not valid JSON"):
        PolicyTokenizer.load(directory)
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a tokenizer"):
        PolicyTokenizer.load(directory)


def test_a_tokenizer_that_drops_characters_is_refused(tmp_path: Path):
    # characters, no bytes: "<" was never seen, so tags cannot be written
    raw = Tokenizer(models.BPE())
    raw.train_from_iterator(["ab think search"], trainers.BpeTrainer(special_tokens=["<eos>"], show_progress=False))
    raw.decoder = decoders.Fuse()
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    with pytest.raises(ModelError, match=r"'<think>' between 'a' and 'b' decodes to 'athinkb'.*byte-level"):
        PolicyTokenizer.load(tmp_path)


def test_a_tokenizer_that_puts_a_blank_before_every_piece_is_refused(tmp_path: Path):
    # SentencePiece style, as Llama 2: each separately encoded piece would bring a blank of its own
    raw = Tokenizer(models.BPE(byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme="always"), decoders.ByteFallback(), decoders.Fuse()])
    raw.train_from_iterator(["ab <think> </think>"], trainers.BpeTrainer(special_tokens=["<eos>"], show_progress=False))
    raw.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    with pytest.raises(ModelError, match="'<think>' between 'a' and 'b' decodes to"):
        PolicyTokenizer.load(tmp_path)


def test_only_bpe_is_read(tmp_path: Path):
    raw = Tokenizer(models.WordLevel({"a": 0, "<eos>": 1}, unk_token="<eos>"))
    with pytest.raises(ModelError, match="WordLevel"):
        PolicyTokenizer(raw, eos_ids=[1])
