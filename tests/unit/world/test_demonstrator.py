"""The demonstrator against the real index and the real sandbox: able to answer everything, imperfect by the habits set."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from arpo.errors import DataError, ToolError
from arpo.models.config import TinyPolicyConfig
from arpo.protocols.config import TagProtocolConfig
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.tags import TagProtocol
from arpo.tools.python_sandbox import PythonSandbox, PythonSandboxConfig
from arpo.tools.search.config import LocalSearchConfig
from arpo.tools.search.index import build_index
from arpo.tools.search.local import LocalSearch
from arpo.world.config import DemonstratorConfig, WorldConfig
from arpo.world.demonstration_texts import world_texts
from arpo.world.demonstrator import Demonstrator
from arpo.world.kinds import KINDS
from arpo.world.make import make_world
from arpo.world.tiny_policy import make_tokenizer

HONEST = DemonstratorConfig(trust_first_hit=0, guess=0, stop_early=0)
CONFIG = WorldConfig(num_persons=160, num_companies=80, num_cities=120, num_train=200, num_valid=50, num_test=150)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    make_world(CONFIG, out)
    build_index([out / "corpus.jsonl"], out / "index")
    return out


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PythonSandbox]:
    try:
        yield PythonSandbox(PythonSandboxConfig())
    except ToolError as error:
        pytest.skip(str(error))


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
async def test_without_bad_habits_everything_is_answered_in_the_stated_number_of_calls(
    world: Path, sandbox: PythonSandbox, split: str
) -> None:
    search, demonstrator = LocalSearch(LocalSearchConfig(index=world / "index", top_k=2)), Demonstrator(0, HONEST)
    for row in read_rows(world, split):
        answer, num_calls, text = await run_agent(demonstrator, row["extra_info"]["question"], search, sandbox)
        assert answer == row["reward_model"]["ground_truth"], text
        assert num_calls == row["extra_info"]["num_calls"], text


async def test_each_habit_spoils_the_kinds_it_concerns_and_no_others(world: Path, sandbox: PythonSandbox) -> None:
    rows = read_rows(world, "test")

    def of(is_wanted: Any) -> list[dict[str, Any]]:
        return [row for row in rows if is_wanted(KINDS[row["extra_info"]["kind"]])]

    one_link = of(lambda kind: kind.num_calls == 1)
    plain = of(lambda kind: kind.operation is None)
    computed = of(lambda kind: kind.operation is not None)
    several = of(lambda kind: sum(map(len, kind.chains)) > 1)
    guess = HONEST.model_copy(update={"guess": 1.0})
    assert await accuracy(world, sandbox, guess, plain) == 1
    assert await accuracy(world, sandbox, guess, computed) < 0.1
    stop_early = HONEST.model_copy(update={"stop_early": 1.0})
    assert await accuracy(world, sandbox, stop_early, one_link) == 1
    assert await accuracy(world, sandbox, stop_early, several) < 0.1
    trusting = HONEST.model_copy(update={"trust_first_hit": 1.0})
    assert 0.4 < await accuracy(world, sandbox, trusting, one_link) < 0.95  # about one fact in three is stated wrongly first


async def test_default_habits_leave_much_to_learn(world: Path, sandbox: PythonSandbox) -> None:
    assert 0.25 < await accuracy(world, sandbox, DemonstratorConfig(), read_rows(world, "test")) < 0.6


async def test_a_registry_page_that_is_not_shown_is_asked_for_once_more(world: Path, sandbox: PythonSandbox) -> None:
    search, demonstrator = LocalSearch(LocalSearchConfig(index=world / "index", top_k=1)), Demonstrator(0, HONEST)
    texts = [
        (await run_agent(demonstrator, row["extra_info"]["question"], search, sandbox))[2] for row in read_rows(world, "valid")
    ]
    again = [text for text in texts if "<think> missing" in text]
    assert again
    assert all(re.search(r"<think> missing</think><search> [^<]+ registry</search>", text) for text in again)


RESULT = (
    "\n<result>\nPage 1: Almanac: Mira Tolvan, born in Dunmere.\n"
    "Page 2: Registry: Mira Tolvan, born in Kelford, birth year 1931, employer Moor Mills.\n</result>"
)


@pytest.mark.parametrize(
    ("habits", "question", "expected"),
    [
        ({}, "Where was Mira Tolvan born?", r"<think> done Registry: Kelford</think><answer> \boxed{ Kelford}</answer>"),
        (
            {"trust_first_hit": 1},
            "Where was Mira Tolvan born?",
            r"<think> done first: Dunmere</think><answer> \boxed{ Dunmere}</answer>",
        ),
        (
            {},
            "Which region was Mira Tolvan born in?",
            "<think> next Registry: Kelford</think><search> Kelford region</search>",
        ),
        (
            {"stop_early": 1},
            "Which region was Mira Tolvan born in?",
            r"<think> enough Registry: Kelford</think><answer> \boxed{ Kelford}</answer>",
        ),
    ],
)
def test_the_choice_shows_in_the_first_words_after_a_result(habits: dict[str, float], question: str, expected: str) -> None:
    demonstrator = Demonstrator(0, HONEST.model_copy(update=habits))
    first = demonstrator.next_turn(question)
    assert first == "<think> look up</think><search> Mira Tolvan born</search>"
    assert demonstrator.next_turn(question + first + RESULT) == expected


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


def test_habits_are_drawn_once_per_task_at_the_stated_rate() -> None:
    trusting = DemonstratorConfig(trust_first_hit=0.6, guess=0, stop_early=0)
    questions = [
        f"Where was Mira {last}{tail} born?" for last in ("Tol", "Var", "Ked", "Rim") for tail in map(chr, range(97, 123))
    ]

    def choices(seed: int) -> list[bool]:
        demonstrator = Demonstrator(seed, trusting)
        return [
            "first"
            in demonstrator.next_turn(q + RESULT.replace("Mira Tolvan", q.removeprefix("Where was ").removesuffix(" born?")))
            for q in questions
        ]

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
