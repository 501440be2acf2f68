"""The demonstrator against the real index and the real sandbox: able to answer everything, imperfect by the habits set."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from arpo.errors import DataError
from arpo.models.config import TinyPolicyConfig
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.tools.python_sandbox import PythonSandbox
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.index import build_index
from arpo.tools.search.local import LocalSearch
from arpo.world.config import DemonstratorConfig, WorldConfig
from arpo.world.demonstration_texts import world_texts
from arpo.world.demonstrator import Demonstrator
from arpo.world.kinds import KINDS
from arpo.world.make import make_world
from arpo.world.plain import PLAIN
from arpo.world.tiny_policy import make_tokenizer

HONEST = DemonstratorConfig(vague_query=0, trust_almanac=0, give_up=0, stop_early=0, guess=0)
CONFIG = WorldConfig(num_persons=160, num_companies=80, num_cities=120, num_train=200, num_valid=50, num_test=150)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    make_world(CONFIG, out)
    build_index([out / "corpus.jsonl"], out / "index")
    return out


def read_rows(world: Path, split: str) -> list[dict[str, Any]]:
    return pq.read_table(world / f"{split}.parquet").to_pylist()


async def run_agent(
    demonstrator: Demonstrator, question: str, search: LocalSearch, sandbox: PythonSandbox
) -> tuple[str, int, str]:
    """Answer, number of calls and whole text; a loop in miniature around the real tools."""
    text, num_calls = f"<|user|>{question}<|assistant|>", 0
    while num_calls < 12:
        completion = demonstrator.next_turn(text)
        text += completion
        call = re.fullmatch(r"<think> [^<]+</think><(search|python|answer)> ([^<]+)</\1>", completion)
        assert call, completion
        name, content = call.groups()
        if name == "answer":
            boxed = re.fullmatch(r"\\boxed\{ (.+)\}", content)
            assert boxed
            return boxed[1], num_calls, text
        num_calls += 1
        result = await (search.run({"query": content}) if name == "search" else sandbox.run({"code": content}))
        text += f" <result>\n{result.content}\n</result>"
    raise AssertionError(f"no answer after {num_calls} calls:\n{text}")


async def accuracy(
    world: Path, sandbox: PythonSandbox, config: DemonstratorConfig, rows: list[dict[str, Any]], top_k: int = 2
) -> float:
    search = LocalSearch(LocalSearchConfig(index=world / "index", top_k=top_k))
    demonstrator = Demonstrator(0, config)
    answers = [(await run_agent(demonstrator, row["extra_info"]["question"], search, sandbox))[0] for row in rows]
    return sum(a == row["reward_model"]["ground_truth"] for a, row in zip(answers, rows, strict=True)) / len(rows)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
async def test_without_bad_choices_everything_is_answered_in_few_calls_more_than_needed(
    world: Path, sandbox: PythonSandbox, split: str
) -> None:
    search, demonstrator = LocalSearch(LocalSearchConfig(index=world / "index", top_k=2)), Demonstrator(0, HONEST)
    num_calls, num_needed = 0, 0
    for row in read_rows(world, split):
        answer, calls, text = await run_agent(demonstrator, row["extra_info"]["question"], search, sandbox)
        assert answer == row["reward_model"]["ground_truth"], text
        assert calls >= row["extra_info"]["num_calls"], text
        num_calls, num_needed = num_calls + calls, num_needed + row["extra_info"]["num_calls"]
    assert num_needed < num_calls < 1.6 * num_needed  # a query by the words of another wording finds nothing


async def test_each_bad_choice_spoils_the_kinds_it_concerns_and_no_others(world: Path, sandbox: PythonSandbox) -> None:
    rows = read_rows(world, "test")

    def of(is_wanted: Any) -> list[dict[str, Any]]:
        return [row for row in rows if is_wanted(KINDS[row["extra_info"]["kind"]])]

    one_link = of(lambda kind: kind.num_calls == 1)
    looked_up = of(lambda kind: kind.operation is None)
    computed = of(lambda kind: kind.operation is not None)
    several = of(lambda kind: sum(map(len, kind.chains)) > 1)

    async def accuracy_with(rows: list[dict[str, Any]], **choices: float) -> float:
        return await accuracy(world, sandbox, HONEST.model_copy(update=choices), rows)

    assert await accuracy_with(looked_up, guess=1.0) == 1
    assert await accuracy_with(computed, guess=1.0) < 0.1
    assert await accuracy_with(one_link, stop_early=1.0) == 1
    assert await accuracy_with(several, stop_early=1.0) < 0.1
    assert 0.4 < await accuracy_with(one_link, trust_almanac=1.0) < 0.95  # about one fact in three is stated wrongly
    assert 0.3 < await accuracy_with(one_link, give_up=1.0) < 0.95  # wherever the first query finds nothing
    assert await accuracy_with(rows, vague_query=1.0) == 1  # it costs calls alone
    assert await accuracy_with(one_link, vague_query=1.0, give_up=1.0) < await accuracy_with(one_link, give_up=1.0)


async def test_default_choices_leave_much_to_learn(world: Path, sandbox: PythonSandbox) -> None:
    assert 0.35 < await accuracy(world, sandbox, DemonstratorConfig(), read_rows(world, "test")) < 0.65


RESULT = "\n<result>\nPage 1: Almanac: Mira Tolvan, {}.\nPage 2: Mira Tolvan, Registry: birth year 1931, {}.\n</result>"
WHERE, REGION = "Where was Mira Tolvan born?", "Which region was Mira Tolvan born in?"
REGISTRY, ALMANAC = "Registry(:| says| states) Kelford", "Almanac(:| says| states) Dunmere"
NEITHER = ("employer Moor Mills", "employer Moor Foods")


def turn_after(question: str, almanac: str, registry: str, **choices: float) -> str:
    """The completion after the first result, whose two pages state what is given."""
    demonstrator = Demonstrator(0, HONEST.model_copy(update=choices))
    first = demonstrator.next_turn(question)
    assert re.fullmatch(r"<think> [a-z ]+ Mira Tolvan</think><search> Mira Tolvan( [a-z]+)*</search>", first)
    return demonstrator.next_turn(question + first + RESULT.format(almanac, registry))


@pytest.mark.parametrize(
    ("choices", "question", "pages", "expected"),
    [
        ({}, WHERE, ("born in Dunmere", "native of Kelford"), rf".*{REGISTRY} .*boxed. Kelford..*"),
        ({"trust_almanac": 1}, WHERE, ("born in Dunmere", "native of Kelford"), rf".*{ALMANAC} .*boxed. Dunmere..*"),
        ({}, WHERE, ("native of Dunmere", NEITHER[1]), rf".*{ALMANAC} (check|sure\?)</think><search> Mira Tolvan .*"),
        ({}, WHERE, NEITHER, r"<think> [a-z ]+</think><search> Mira Tolvan .*"),
        ({"give_up": 1}, WHERE, NEITHER, r".*boxed\{ unknown\}.*"),
        ({}, REGION, (NEITHER[0], "born in Kelford"), rf".*{REGISTRY} (next|then|go on)</think><search> Kelford .*"),
        ({"stop_early": 1}, REGION, (NEITHER[0], "born in Kelford"), rf".*{REGISTRY} (done|enough)</think><answer> .*"),
    ],
)
def test_a_thought_names_the_page_it_trusts_and_what_it_does_next(
    choices: dict[str, float], question: str, pages: tuple[str, str], expected: str
) -> None:
    assert re.fullmatch(expected, turn_after(question, *pages, **choices))


def test_no_query_is_asked_twice_for_the_same_fact() -> None:
    """A demonstrator that never gives up asks each of the four queries of an attribute, then says that it does not know."""
    demonstrator, text = Demonstrator(0, HONEST), "Where was Mira Tolvan born?"
    completions = list[str]()
    while not completions or "<answer>" not in completions[-1]:
        completions.append(demonstrator.next_turn(text))
        text += completions[-1] + RESULT.format("employer Moor Mills", "employer Moor Foods")
    queries = [completion.partition("<search>")[2] for completion in completions[:-1]]
    assert len(queries) == len(set(queries)) == len(PLAIN.queries["birthplace"]) == 4


def test_wordings_vary_at_every_turn() -> None:
    """Over a hundred questions the first word, the query and the word after a result take every wording that the style has."""
    questions = [f"Where was Mira {a}{b} born?" for a in ("Tol", "Var", "Ked", "Rim") for b in map(chr, range(97, 123))]
    firsts, queries, thoughts = set[str](), set[str](), set[str]()
    demonstrator = Demonstrator(0, HONEST)
    for question in questions:
        name = question.split()[2] + " " + question.split()[3]
        first = demonstrator.next_turn(question)
        opening, query = re.fullmatch(r"<think> (.*)</think><search> (.*)</search>", first).groups()  # pyright: ignore[reportOptionalMemberAccess]
        firsts.add(opening.replace(name, "{name}"))
        queries.add(query.replace(name, "{name}"))
        result = RESULT.format("employer Moor Mills", "born in Kelford").replace("Mira Tolvan", name)
        thoughts.add(demonstrator.next_turn(question + first + result).partition("Registry")[0])
    assert firsts == set(PLAIN.openings["one"])
    assert queries == set(PLAIN.queries["birthplace"])
    assert len(thoughts) == len(PLAIN.openings["clear"])


def test_completions_are_well_formed_for_the_tag_protocol(world: Path, tmp_path: Path) -> None:
    texts = list(world_texts(world))
    make_tokenizer(texts, vocab_size=600, max_positions=1024).save_pretrained(tmp_path)
    protocol = TagProtocol(PolicyTokenizer.load(tmp_path), TagProtocolConfig(system_prompt=""))
    completions = [text for text in texts if text.startswith("<think>")]
    assert len(completions) > CONFIG.num_train
    for completion in completions:
        assert completion.endswith(protocol.stop_strings)
        parse = protocol.parse(completion)
        assert not parse.faults, completion
        assert (parse.calls == ()) != (parse.answer is None)
        assert parse.num_think_blocks == 1


def test_choices_are_drawn_at_the_stated_rate() -> None:
    questions = [f"Where was Mira {a}{b} born?" for a in ("Tol", "Var", "Ked", "Rim") for b in map(chr, range(97, 123))]

    def choices(seed: int) -> list[bool]:
        demonstrator, trusting = Demonstrator(seed, HONEST.model_copy(update={"trust_almanac": 0.6})), list[bool]()
        for question in questions:
            result = RESULT.format("born in Dunmere", "born in Kelford").replace("Mira Tolvan", " ".join(question.split()[2:4]))
            trusting.append("Almanac" in demonstrator.next_turn(question + demonstrator.next_turn(question) + result))
        return trusting

    assert choices(0) == choices(0) != choices(1)
    assert 0.4 < sum(choices(0)) / len(questions) < 0.8  # 104 tasks at 0.6: standard deviation 0.05


def test_text_without_a_question_of_the_domain_is_refused() -> None:
    with pytest.raises(DataError, match="arpo world make"):
        Demonstrator(0, HONEST).next_turn("What is 2 + 2?")


def test_tokenizer_texts_name_no_held_out_entity(world: Path) -> None:
    titles = [
        {json.loads(line)["title"] for line in (world / name).read_text().splitlines()}
        for name in ("corpus.jsonl", "train_corpus.jsonl")
    ]
    text = "\n".join(world_texts(world))
    assert not [name for name in titles[0] - titles[1] if re.search(rf"\b{name}\b", text)]
    assert "<python>" in text
    assert text.count("</answer>") == CONFIG.num_train  # one trajectory for each task


def test_names_seen_and_held_out_are_tokenised_alike(tmp_path: Path) -> None:
    make_world(WorldConfig(), tmp_path)
    tokenizer = make_tokenizer(world_texts(tmp_path), TinyPolicyConfig().vocab_size, max_positions=1024)
    seen, everyone = (
        {json.loads(line)["title"] for line in (tmp_path / name).read_text().splitlines()}
        for name in ("train_corpus.jsonl", "corpus.jsonl")
    )
    for names in (seen, everyone - seen):
        two_tokens = [name for name in names if len(tokenizer.encode(f" {name}")) == 2]
        assert len(two_tokens) > 0.95 * len(names)
