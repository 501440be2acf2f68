"""The page of an evaluation, in a real browser."""

import gzip
import json
import random
import re
from base64 import b64decode
from pathlib import Path

import pytest

from arpo.tree import NodeKind, RolloutTree
from arpo.types import Message, Parse, Reward, Task
from arpo.viewer.evaluation import Estimate, EvaluationPage, MetricRow, ShownQuestion, write_evaluation

from .browser import load, needs_browser
from .conftest import make_tokenizer, make_tree

ATTACK = '</script><script>document.title="owned"</script><img src="http://example.invalid/x.png" onerror="document.title=1">'
SHARES = [1.0, 0.0, 0.5, None]


def question(name: str, share: float | None, **changes: object) -> ShownQuestion:
    plain = {
        "id": name, "question": f"Where is {name}?", "references": ["Kelford"], "answer": "Kelford", "extraction": "boxed",
        "reason": "right answer", "share": share, "num_right": int(2 * (share or 0)), "num_answers": 2, "num_tool_calls": 1.0,
        "num_tokens": 20.0, "groups": {"level": name[-1]},
    }  # fmt: skip
    return ShownQuestion(**(plain | changes))  # pyright: ignore[reportArgumentType]


def page_of(questions: list[ShownQuestion]) -> EvaluationPage:
    score = Estimate(name="score", text="0.5", interval="0.2 to 0.8", bar=(0.2, 0.5, 0.8))
    return EvaluationPage(
        title="calm", lead="4 questions", tiles=[score], modes=["greedy"], groups={"level": [score]}, group_metric="score",
        metrics=[MetricRow(name=name, meaning="right", cells=[cell]) for name, cell in (("score", score), ("f1", None))],
        notes=["A note."], questions=questions, settings={"policy": "p"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 questions, of which all but the last have a tree of several trajectories."""
    folder = tmp_path_factory.mktemp("page")
    tokenizer = make_tokenizer(folder / "tokenizer")
    questions = [question(f"q{i}", SHARES[i % 4]) for i in range(40)]
    trees = [(q.id, "sampled", make_tree(random.Random(q.id), tokenizer, q.id, 0.5)) for q in questions[:-1]]
    return write_evaluation(folder / "report.html", page_of(questions), trees)


def test_trees_are_in_blocks_by_question(page: Path):
    text = page.read_text()
    rows = json.loads(re.findall(r'id="data">(.*?)</script>', text)[0])["rows"]
    blocks = [json.loads(gzip.decompress(b64decode(b))) for b in re.findall(r'class="block">(.*?)</script>', text)]
    assert [len(block) for block in blocks] == [16, 16, 7]
    assert rows[-1]["position"] is None
    for row in rows[:-1]:
        block, index = row["position"]
        assert blocks[block][index].count("<article") == 1
        assert blocks[block][index].count('class="card prompt') == 1


@needs_browser
def test_filters_search_and_trees_work(page: Path, tmp_path: Path):
    script = """
    const count = () => document.querySelectorAll(".item").length, seen = {all: count()};
    const press = (name) => document.querySelector(`[data-show=${name}]`).click();
    for (const name of ["right", "wrong", "mixed", "ungraded"]) { press(name); seen[name] = count(); }
    press("all");
    search.value = "WHERE IS Q7?"; search.dispatchEvent(new Event("input")); seen.search = count();
    search.value = "nothing like it"; search.dispatchEvent(new Event("input")); seen.none = count();
    search.value = ""; search.dispatchEvent(new Event("input"));
    const level = document.querySelector(".selects select");
    level.value = "3"; level.dispatchEvent(new Event("change")); seen.level = count();
    level.value = ""; level.dispatchEvent(new Event("change"));
    for (const button of [...document.querySelectorAll(".item .row")].slice(16, 40)) button.click();
    const timer = setInterval(() => {
      seen.trees = document.querySelectorAll(".body .tree").length;
      if (seen.trees < 23) return;
      clearInterval(timer);
      const card = document.querySelector(".body .card.completion"), panel = card.closest(".tree").querySelector(".panel");
      card.click();
      seen.panel = !panel.hidden && panel.textContent.includes("<think>");
      document.title = JSON.stringify(seen);
    }, 20);
    """
    dom, console = load(page, tmp_path, script, wait_ms=4000)
    assert console == []
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    assert json.loads(title[1]) == {
        "all": 40, "right": 10, "wrong": 20, "mixed": 10, "ungraded": 10, "search": 1, "none": 0, "level": 4, "trees": 23,
        "panel": True,
    }  # fmt: skip


@needs_browser
def test_hostile_text_stays_text(tmp_path: Path):
    task = Task(id=ATTACK, messages=(Message(role="user", content=ATTACK),), references=(ATTACK,), source="x")
    tree = RolloutTree.from_prompt(task, [1], ATTACK)
    leaf = tree.append(tree.root, NodeKind.COMPLETION, [2], text=ATTACK, parse=Parse(answer=ATTACK))
    leaf.reward = Reward(value=1.0, reason=ATTACK)
    hostile = question(
        ATTACK,
        1.0,
        question=ATTACK,
        references=[ATTACK],
        answer=ATTACK,
        reason=ATTACK,
        extraction=ATTACK,
        groups={ATTACK: ATTACK},
    )
    out = write_evaluation(tmp_path / "a.html", page_of([hostile]), [(ATTACK, ATTACK, tree)])
    dom, console = load(out, tmp_path, 'document.querySelector(".item .row").click()', wait_ms=3000)
    assert "<title>calm</title>" in dom
    assert console == []
    assert "<img" not in dom
    assert dom.count('class="transcript"') == 1


def test_trees_beyond_the_limit_are_left_out_and_said(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("arpo.viewer.evaluation.MAX_TREE_BYTES", 10)
    task = Task(id="q0", messages=(Message(role="user", content="?"),), references=("a",), source="x")
    out = write_evaluation(
        tmp_path / "a.html", page_of([question("q0", 1.0)]), [("q0", "greedy", RolloutTree.from_prompt(task, [1]))]
    )
    assert "trees of 1 questions are left out" in out.read_text()
