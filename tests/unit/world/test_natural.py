"""The natural style: prose that the reader reads whole, in many wordings, apart from the plain style."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.rewards.answer_text import extract_boxed
from arpo.tools.python_sandbox import PythonSandbox
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.index import build_index
from arpo.tools.search.local import LocalSearch
from arpo.world import natural_names
from arpo.world.config import DemonstratorConfig, WorldConfig
from arpo.world.corpus import Document, make_documents
from arpo.world.demonstrator import Demonstrator
from arpo.world.facts import World, make_world_facts
from arpo.world.kinds import ATTRIBUTES, KINDS
from arpo.world.make import make_world
from arpo.world.natural import NATURAL
from arpo.world.questions import make_questions
from arpo.world.style import Reader, Style
from arpo.world.styles import STYLES
from arpo.world.variety import demonstrate, measure_variety

CONFIG = WorldConfig(
    style="natural", num_persons=300, num_companies=80, num_cities=120, num_train=400, num_valid=40, num_test=150
)
PERFECT = DemonstratorConfig(vague_query=0, trust_almanac=0, give_up=0, stop_early=0, guess=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("natural")
    make_world(CONFIG, out)
    build_index([out / "corpus.jsonl"], out / "index")
    return out


@pytest.fixture(scope="module", params=[0, 1])
def written(request: pytest.FixtureRequest) -> tuple[World, list[Document]]:
    """A whole world of the default size, by seed."""
    config = WorldConfig(style="natural", seed=request.param)
    world = make_world_facts(config, NATURAL)
    return world, make_documents(world, NATURAL, config)


def test_every_page_has_7_to_50_words_and_is_shown_whole(written: tuple[World, list[Document]]) -> None:
    _, documents = written
    lengths = [len(document.text.split()) for document in documents]
    assert min(lengths) >= 7
    assert max(lengths) <= 50
    assert all(document.text.startswith(document.title) for document in documents)  # so that a search writes no title before it
    most = LocalSearchConfig(index=Path("unused")).max_snippet_chars
    assert max(len(f"{document.title}: {document.text}") for document in documents) <= most


def test_every_statement_of_every_page_is_read_and_nothing_else(written: tuple[World, list[Document]]) -> None:
    """A registry page states one fact of its entity, an almanac page a wrong one, a chronicle page none."""
    world, documents = written
    reader, registry, num_wrong = Reader(NATURAL), dict[tuple[str, str], str](), 0
    for document in documents:
        # A search writes the title before a text that does not begin with it.
        page, same = reader.pages(f"Page 1: {document.text}\nPage 2: {document.title}: {document.text}")
        assert page == same
        assert (page.name, document.id) == (document.title, f"{page.source}-{document.id.split('-')[1]}")
        right = world.facts_of(world.entities[page.name])
        read = {name: value for name in ATTRIBUTES if (value := reader.value(page, name)) is not None}
        assert len(read) == (page.source != "chronicle"), document.text
        for attribute, value in read.items():
            assert (right[attribute] == value) == (page.source == "registry"), document.text
            num_wrong += page.source == "almanac"
            if page.source == "registry":
                registry[page.name, attribute] = value
    assert registry == world.facts
    assert num_wrong == round(0.35 * len(world.facts))


def test_remarks_name_what_is_not_asked(written: tuple[World, list[Document]]) -> None:
    """Half of the registry pages name years, cities or persons other than the entity and its facts; a third name several."""
    world, documents = written
    others = [0, 0]
    for document in documents[:1000]:
        own = {document.title, *world.facts_of(world.entities[document.title]).values()}
        named = set(re.findall(r"\d{4,6}|[A-Z][a-z]+ [A-Z][a-z]+|[A-Z][a-z]{5,}", document.text))
        num_others = len({n for n in named if n in world.entities or n.isdigit()} - own)
        others = [count + (num_others >= least) for count, least in zip(others, (1, 2), strict=True)]
    assert others[0] > 500
    assert others[1] > 330


def test_a_name_is_one_kind_of_thing(written: tuple[World, list[Document]]) -> None:
    """No city bears the name of a person; no two parts are joined by a doubled letter."""
    parts = {n: getattr(natural_names, n).split() for n in ("_FIRSTS", "_LASTS", "_CITY_STEMS", "_CITY_ENDINGS")}
    cities = {stem + ending for stem in parts["_CITY_STEMS"] for ending in parts["_CITY_ENDINGS"]}
    assert not cities & {*parts["_FIRSTS"], *parts["_LASTS"]}
    assert not {stem[-1] for stem in parts["_CITY_STEMS"]} & {ending[0] for ending in parts["_CITY_ENDINGS"]}
    assert all(len(words) == len(set(words)) for words in parts.values())
    world, _ = written
    assert len(world.entities) == len({name.lower() for name in world.entities}) == 2244


def test_held_out_names_are_new_combinations_of_parts_that_training_shows(folder: Path) -> None:
    titles = [
        {json.loads(line)["title"] for line in (folder / name).read_text().splitlines()}
        for name in ("corpus.jsonl", "train_corpus.jsonl")
    ]
    held_out = titles[0] - titles[1]
    documents = (folder / "train_corpus.jsonl").read_text()
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    texts = [
        documents,
        *(row["extra_info"]["question"] + " " + row["reward_model"]["ground_truth"] for row in rows),
        *(text for _, *demonstration in demonstrate(folder) for text in demonstration[::2]),
    ]
    shown = {name for text in texts for name in re.findall(r"(?=\b([A-Z]\w+ [A-Z]\w+|[A-Z]\w+)\b)", text)}
    assert len(held_out) == 125  # a quarter of 500
    assert not held_out & shown
    words, stems, endings = set(re.findall(r"\w+", documents)), set[str](), set[str]()
    for ending in natural_names._CITY_ENDINGS.split():
        stems |= {word.removesuffix(ending) for word in words if word.endswith(ending)}
        endings |= {ending for word in words if word.endswith(ending)}
    for name in held_out:
        is_city = " " not in name
        assert any(name == stem + end for stem in stems for end in endings) if is_city else set(name.split()) <= words, name


def test_questions_have_many_wordings_that_are_read_as_what_they_ask() -> None:
    config = WorldConfig(style="natural")
    questions = make_questions(make_world_facts(config, NATURAL), NATURAL, config)
    reader = Reader(NATURAL)
    for question in (q for split in questions.values() for q in split):
        ((kind, match),) = reader.questions(f"<|im_start|>user\n{question.text}<|im_end|>")
        assert (kind, match.groups()) == (question.kind, question.entities)
    assert set(NATURAL.questions) == set(KINDS)
    assert min(len(set(wordings)) for wordings in NATURAL.questions.values()) >= 5
    assert len({w for wordings in NATURAL.questions.values() for w in wordings}) == sum(map(len, NATURAL.questions.values()))


def test_no_style_reads_the_questions_of_another() -> None:
    config = WorldConfig(num_train=2000)
    for name, style in STYLES.items():
        others = [Reader(other) for other_name, other in STYLES.items() if other_name != name]
        for split in make_questions(make_world_facts(config, style), style, config).values():
            for question in split:
                assert not [found for other in others for found in other.questions(question.text)], question.text


def test_nothing_but_the_question_is_read_as_a_question(folder: Path) -> None:
    """Otherwise a thought, a query or a page would change what the demonstrator answers."""
    readers = [Reader(style) for style in STYLES.values()]
    for question, *texts in demonstrate(folder):
        text = "\n".join([question, *texts])
        assert sum(1 for reader in readers for _ in reader.questions(text)) == 1, text


def test_texts_are_varied(folder: Path) -> None:
    variety = measure_variety(folder)
    assert variety.num_wordings >= 5
    assert variety.num_question_beginnings >= 35
    assert variety.num_thought_beginnings >= 75
    assert variety.num_first_thought_beginnings >= 25
    assert variety.num_different_thoughts > 0.5 * variety.num_thoughts
    for wordings in (*NATURAL.openings.values(), NATURAL.findings, *NATURAL.plans.values(), *NATURAL.queries.values()):
        assert len(wordings) >= 3


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_thought_names_the_source_before_what_follows_from_it(style: Style) -> None:
    """So that the source is the choice, and the value and the next step follow from it."""
    for wording in style.findings:
        assert wording.index("{source}") < min(wording.index("{value}"), wording.index("{plan}"))


def test_a_thought_about_a_page_names_its_source_and_value_and_nothing_of_the_other_page() -> None:
    """Two demonstrators that differ in one choice differ in the source, the value and nothing else of the thought."""
    right, wrong = (Demonstrator(0, PERFECT.model_copy(update={"trust_almanac": trust})) for trust in (0, 1))
    for first in natural_names._FIRSTS.split():
        question = f"In which city was {first} Cooper born?"
        pages = (
            f"Page 1: {first} Cooper in the Popular Almanac. Cooper is a native of Fernside.\n"
            f"Page 2: {first} Cooper, National Registry. {first} Cooper was born in Oakford."
        )
        prefix = question + right.next_turn(question) + f" <result>\n{pages}\n</result>"
        assert "Oakford" in right.next_turn(prefix)
        assert "registry" in right.next_turn(prefix)
        assert wrong.next_turn(prefix).replace("almanac", "registry").replace("Fernside", "Oakford") == right.next_turn(prefix)


async def test_a_perfect_demonstrator_answers_everything_in_few_calls(folder: Path, sandbox: PythonSandbox) -> None:
    """With the real index and sandbox; a page that a query misses costs a call more."""
    search, demonstrator = LocalSearch(LocalSearchConfig(index=folder / "index", top_k=3)), Demonstrator(0, PERFECT)
    more = 0
    rows = pq.read_table(folder / "test.parquet").to_pylist()
    for row in rows:
        text, num_calls = f"<|im_start|>user\n{row['extra_info']['question']}<|im_end|>", 0
        while True:
            completion = demonstrator.next_turn(text)
            call = re.fullmatch(r"<think> ([^<]+)</think><(search|python|answer)> ([^<]+)</\2>", completion)
            assert call, completion
            text += completion
            if call[2] == "answer":
                break
            num_calls += 1
            is_search = call[2] == "search"
            result = await (search.run({"query": call[3]}) if is_search else sandbox.run({"code": call[3]}))
            text += f" <result>\n{result.content}\n</result>"
        assert extract_boxed(call[3]) == row["reward_model"]["ground_truth"], text
        assert num_calls >= row["extra_info"]["num_calls"], text
        more += num_calls - row["extra_info"]["num_calls"]
    # A page is worded in one of two or three ways, so that a query with other words may miss it.
    assert 0 < more <= 0.6 * sum(row["extra_info"]["num_calls"] for row in rows)


def test_completions_are_well_formed_for_the_tag_protocol(folder: Path, qwen_directory: Path) -> None:
    protocol = TagProtocol(PolicyTokenizer.load(qwen_directory), TagProtocolConfig(system_prompt=""))
    for _, *texts in demonstrate(folder):
        for completion in texts[::2]:
            parse = protocol.parse(completion)
            assert completion.endswith(protocol.stop_strings)
            assert not parse.faults, completion
            assert (parse.calls == ()) != (parse.answer is None)
