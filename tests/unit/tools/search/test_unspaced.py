"""Search in scripts without blanks: found by parts of a clause; English hits are as they were."""

import json
import logging
from pathlib import Path

import pytest
import tantivy

from arpo.tools.scripts import query_grams, write_grams
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.index import build_index, make_analyzer
from arpo.tools.search.local import LocalIndex

DOCUMENTS = {
    "zh": ("珠穆朗玛峰", "珠穆朗玛峰是世界最高峰，海拔八千八百四十八米。"),
    "zh2": ("长江", "长江是中国最长的河流，流经十一个省。"),
    "ja": ("富士山", "日本で最も高い山は富士山である。東京ﾀﾜｰではない。"),
    "ko": ("에베레스트", "에베레스트산은세계에서 가장 높은 산이다."),
    "th": ("ไทย", "ประเทศไทยมีเมืองหลวงชื่อกรุงเทพมหานคร"),
    "lo": ("ລາວ", "ນະຄອນຫຼວງວຽງຈັນແມ່ນເມືອງຫຼວງ"),
    "km": ("កម្ពុជា", "រាជធានីភ្នំពេញគឺជាទីក្រុងធំជាងគេ"),
    "my": ("မြန်မာ", "မြန်မာနိုင်ငံ၏မြို့တော်မှာနေပြည်တော်ဖြစ်သည်"),
    "en": ("Everest", "The highest mountain of the world is Mount Everest, 8848 m."),
    "en2": ("Nile", "The longest river of the world."),
}


def build(folder: Path, names: list[str]) -> Path:
    rows = [{"id": name, "title": DOCUMENTS[name][0], "text": DOCUMENTS[name][1]} for name in names]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_index([folder / "corpus.jsonl"], folder / "index")
    return folder / "index"


def test_grams_by_hand():
    assert write_grams("K2, 高い山! ไทย") == ["高", "高い", "い", "い山", "山", "ไ", "ไท", "ท", "ทย", "ย"]
    assert query_grams("高い山 高い 峰 K2") == ["高い", "い山", "峰"]
    assert (write_grams("Ünal Ёж שלום"), query_grams("8848 m")) == ([], [])


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("世界最高峰", "zh"), ("珠穆朗玛峰海拔", "zh"),
        ("珠穆朗玛峰的高度是多少？", "zh"), ("峰", "zh"), ("中国最长的河流", "zh2"),
        ("最も高い山", "ja"), ("富士山", "ja"), ("タワー", "ja"), ("에베레스트산", "ko"), ("세계", "ko"), ("ประเทศไทย", "th"),
        ("เมืองหลวงของไทย", "th"), ("ເມືອງຫຼວງ", "lo"), ("ទីក្រុង", "km"), ("မြို့တော်", "my"), ("highest mountain", "en"),
        ("Everest 海拔", "en"),
    ],
)  # fmt: skip
def test_a_part_of_a_clause_is_found(query: str, name: str, tmp_path: Path):
    index = LocalIndex(LocalSearchConfig(index=build(tmp_path, list(DOCUMENTS))))
    assert name in [hit.id for hit in index.find_now(query, 2)]


def test_english_scores_do_not_know_of_the_grams(tmp_path: Path):
    """They are those of an index of the texts alone, to the bit and in order."""
    index = LocalIndex(LocalSearchConfig(index=build(tmp_path, list(DOCUMENTS)), title_weight=0))
    analyzer = make_analyzer()
    plain = tantivy.Index(tantivy.SchemaBuilder().add_text_field("text", stored=True, tokenizer_name="a").build())
    plain.register_tokenizer("a", analyzer)
    writer = plain.writer(num_threads=1)
    for _, text in DOCUMENTS.values():
        writer.add_document(tantivy.Document(text=text))
    writer.commit()
    plain.reload()
    for query in ("longest river", "the highest world", "8848 m"):
        terms = [tantivy.Query.term_query(plain.schema, "text", term, "freq") for term in analyzer.analyze(query)]
        found = plain.searcher().search(tantivy.Query.boolean_query([(tantivy.Occur.Should, t) for t in terms])).hits
        assert [hit.score for hit in index.find_now(query, 9)] == [score for score, _ in found]
        assert found


def test_an_index_of_the_former_version_is_read_and_says_what_it_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = tmp_path / "index"
    folder.mkdir()
    schema = tantivy.SchemaBuilder()
    for name in ("title", "text"):
        schema.add_text_field(name, stored=True, tokenizer_name="arpo")
    for name in ("id", "url"):
        schema.add_bytes_field(name, stored=True, indexed=False)
    index = tantivy.Index(schema.add_unsigned_field("ordinal", stored=True).build(), path=str(folder))
    index.register_tokenizer("arpo", make_analyzer())
    writer = index.writer(num_threads=1)
    for number, name in enumerate(("zh", "en")):
        document = tantivy.Document(title=DOCUMENTS[name][0], text=DOCUMENTS[name][1])
        document.add_bytes("id", name.encode())
        document.add_bytes("url", b"")
        document.add_unsigned("ordinal", number)
        writer.add_document(document)
    writer.commit()
    (folder / "arpo_index.json").write_text(json.dumps({"format": 2, "content_hash": "x", "num_documents": 2}))
    former = LocalIndex(LocalSearchConfig(index=folder))
    with caplog.at_level(logging.WARNING):
        assert [hit.id for hit in former.find_now("highest mountain", 2)] == ["en"]
        assert not caplog.text
        assert former.find_now("世界最高峰", 2) == []
        assert [hit.id for hit in former.find_now("珠穆朗玛峰", 2)] == ["zh"]
    assert caplog.text.count("a former arpo built this index") == 1
