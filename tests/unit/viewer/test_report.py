import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from arpo.errors import DataError
from arpo.tree import NodeKind, RolloutTree, write_trees
from arpo.types import Message, Parse, Reward, Task, ToolCall, ToolResult
from arpo.viewer import write_report
from arpo.viewer.picture import write_picture

from .browser import load, look, needs_browser

SECTIONS = ["headline", "tables", "learning", "signal", "entropy", "branching", "cost", "trees", "health"]
ATTACK = '</script><script>document.title="owned"</script><img src="http://example.invalid/x.png" onerror="document.title=1">'


def section_ids(page: Path) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(run_dir, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(out, run=run_dir, title="A run", evaluations=[{"name": "ARPO", "exact_match": 0.5}])


def test_every_section_in_order(page):
    assert section_ids(page) == SECTIONS


def test_same_run_same_bytes(page, run_dir, tmp_path):
    again = write_report(tmp_path / "b.html", run=run_dir, title="A run", evaluations=[{"name": "ARPO", "exact_match": 0.5}])
    assert again.read_bytes() == page.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["b.html"]


def test_nothing_points_outside_the_file(page):
    outside: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            names = ("src", "href", "srcset", "action", "data")
            outside.extend(v or "" for k, v in attrs if k in names and not (v or "").startswith(("#", "data:")))

    Links().feed(page.read_text(encoding="utf-8"))
    assert outside == []
    assert not re.search(r"url\(|@import|fetch\(", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (["metrics.jsonl"], ["headline", "learning", "signal", "branching", "cost", "health"]),
        (["rollouts"], ["entropy", "branching", "trees"]),
        (["summary.json"], ["headline", "tables", "cost"]),
        ([], []),
    ],
)
def test_a_missing_piece_leaves_its_sections_out(run_dir, tmp_path, kept, expected):
    run = tmp_path / "run"
    run.mkdir()
    for name in kept:
        (shutil.copytree if (run_dir / name).is_dir() else shutil.copy)(run_dir / name, run / name)
    assert section_ids(write_report(tmp_path / "a.html", run=run)) == expected


def test_figures_from_outside_the_run_join_its_own(run_dir, tmp_path):
    shutil.copytree(run_dir / "rollouts", tmp_path / "run" / "rollouts")
    (tmp_path / "run" / "summary.json").write_text('{"accuracy_before": 0.1, "accuracy_after": 0.625}')
    out = write_report(tmp_path / "a.html", run=tmp_path / "run", summary={"accuracy_before": 0.25})
    assert section_ids(out) == ["headline", "tables", "entropy", "branching", "trees"]
    assert "+37.5 points" in out.read_text()


def test_missing_run_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        write_report(tmp_path / "a.html", run=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_the_viewer_imports_no_torch():
    program = "import sys, arpo.viewer; print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_picture_is_two_panels_wide(run_dir, tmp_path):
    whole = Image.open(write_picture(tmp_path / "a.png", run_dir)).size
    (tmp_path / "run").mkdir()
    shutil.copy(run_dir / "metrics.jsonl", tmp_path / "run")
    half = Image.open(write_picture(tmp_path / "b.png", tmp_path / "run")).size
    assert whole[0] == 2 * half[0]
    assert whole[1] == half[1]


def test_picture_of_nothing_says_so(tmp_path):
    with pytest.raises(DataError, match="nothing to draw"):
        write_picture(tmp_path / "a.png", tmp_path)


@needs_browser
def test_browser_renders_without_a_word_on_the_console(page, tmp_path):
    # The page's own policy forbids every request, so an attempt would be reported on the console.
    dom, console = load(page, tmp_path)
    assert console == []
    assert dom.count('class="panel"') == 3


@needs_browser
def test_the_console_check_can_fail(page, tmp_path):
    _, console = load(page, tmp_path, 'document.body.append(Object.assign(new Image(), {src: "http://example.invalid/a.png"}))')
    assert any("Content Security Policy" in line for line in console)


@needs_browser
def test_every_card_opens_and_every_chart_answers_the_keyboard(page, tmp_path):
    script = """
    let cards = 0, tokens = 0, tips = 0;
    for (const tree of document.querySelectorAll(".tree")) for (const card of tree.querySelectorAll(".card")) {
      card.click();
      const panel = tree.querySelector(".panel");
      if (!panel.hidden && panel.querySelector("pre").textContent) cards++;
      tokens += panel.querySelectorAll("pre span").length;
    }
    for (const plot of document.querySelectorAll(".plot")) {
      plot.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
      if (!plot.querySelector(".tip").hidden && plot.querySelector("line.cursor")) tips++;
    }
    document.title = JSON.stringify({cards, tokens, tips});
    """
    dom, console = load(page, tmp_path, script)
    assert console == []
    title = re.search(r'<title>{"cards":(\d+),"tokens":(\d+),"tips":(\d+)}</title>', dom)
    assert title is not None
    cards, tokens, tips = map(int, title.groups())
    assert cards == dom.count("data-node=")
    assert tokens > 300
    assert tips == dom.count('class="plot"')


@needs_browser
def test_hostile_text_stays_text(tmp_path):
    task = Task(id=ATTACK, messages=(Message(role="user", content=ATTACK),), references=(ATTACK,), source="x")
    tree = RolloutTree.from_prompt(task, [1], ATTACK)
    tree.settings = {"entropy_window": 1}
    parse = Parse(calls=(ToolCall(name=ATTACK, arguments={ATTACK: ATTACK}),))
    call = tree.append(tree.root, NodeKind.COMPLETION, [2], text=ATTACK, parse=parse, entropies=[0.1])
    found = tree.append(
        call, NodeKind.OBSERVATION, [3], text=ATTACK, results=(ToolResult(content=ATTACK),), entropy_delta=0.5,
        branches_requested=1,
    )  # fmt: skip
    for is_branch in (False, True):
        leaf = tree.append(
            found, NodeKind.COMPLETION, [2], text=ATTACK, parse=Parse(answer=ATTACK), entropies=[0.6], is_branch=is_branch
        )
        leaf.reward = Reward(value=1.0 * is_branch, is_correct=is_branch, reason=ATTACK)
    write_trees(tmp_path / "step_000001.jsonl", [tree])
    out = write_report(tmp_path / "a.html", run=tmp_path / "step_000001.jsonl", title="calm", evaluations=[{"name": ATTACK}])
    dom, console = load(out, tmp_path)
    assert "<title>calm</title>" in dom
    assert console == []
    assert "<img" not in dom
    story = dom[dom.index('class="chart story"') :]
    assert story[: story.index("</figure>")].count("&lt;img") >= 6  # question, call, result, both answers, reference


@needs_browser
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1300, 800, 500])
def test_the_page_fits_its_window_and_can_be_read(page, tmp_path, width, is_dark):
    """At three widths and in both schemes: nothing is wider than the window, and every text has the contrast of WCAG AA."""
    seen = look(page, tmp_path, width=width, is_dark=is_dark)
    assert abs(seen["width"] - width) <= 20, "but for a scroll bar"
    assert seen["beyond"] <= 0
    assert seen["outside"] == 0
    assert seen["faint"] == []
    assert all(0.7 <= zoom <= 1 for zoom in seen["zoom"])


def deep_tree(num_calls: int) -> RolloutTree:
    """One trajectory that calls a tool so often, then answers."""
    task = Task(id="deep", messages=(Message(role="user", content="Where?"),), references=("Kelford",), source="test")
    tree = RolloutTree.from_prompt(task, [1], "Where?")
    at = tree.root
    for _ in range(num_calls):
        call = Parse(calls=(ToolCall(name="search", arguments={"query": "a long query about a town"}),))
        asked = tree.append(at, NodeKind.COMPLETION, [2], text="<search> a long query </search>", parse=call, entropies=[0.1])
        at = tree.append(asked, NodeKind.OBSERVATION, [3], text="found", results=(ToolResult(content="found"),))
    leaf = tree.append(at, NodeKind.COMPLETION, [2], text="Kelford", parse=Parse(answer="Kelford"), entropies=[0.6])
    leaf.reward = Reward(value=1.0, is_correct=True)
    return tree


@needs_browser
def test_the_cards_of_a_tree_lie_within_a_page_of_1300_pixels(tmp_path):
    """Up to four calls are shown whole; of a dozen the frame scrolls, and the page does not."""
    for num_calls, is_whole in ((4, True), (12, False)):
        write_trees(tmp_path / "step_000001.jsonl", [deep_tree(num_calls)])
        seen = look(write_report(tmp_path / "a.html", run=tmp_path / "step_000001.jsonl"), tmp_path, width=1300)
        assert (seen["beyond"], seen["outside"]) == (0, 0)
        assert (seen["trees"][0] <= 0) is is_whole


@needs_browser
def test_a_tree_draws_itself_in_a_notebook(tmp_path):
    """`_repr_html_` is what a notebook asks for; its frame holds the cards, and its page says nothing on the console."""
    cell = deep_tree(2)._repr_html_()
    assert cell.startswith("<iframe srcdoc=")
    (tmp_path / "cell.html").write_text(f"<html><body>{cell}</body></html>")
    script = "addEventListener('load', () => { document.title = frames[0].document.querySelectorAll('.card').length; });"
    dom, console = load(tmp_path / "cell.html", tmp_path, script, wait_ms=1000)
    assert console == []
    assert "<title>6</title>" in dom  # prompt, two calls, two results, an answer


def test_a_run_that_learned_nothing_is_said_first(run_dir, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(run_dir / "metrics.jsonl", run)
    found = {
        "first_step": 1, "last_step": 5, "num_trajectories": 20, "faults": {"no_answer": 19, "unclosed_think": 3},
        "num_malformed": 20, "num_truncated": 12, "reward_min": -1.0, "reward_max": -1.0, "reward_mean": -1.0,
        "tool_calls": {"search": 8}, "tool_errors": {"search": 3}, "sample": "one </pre> two", "sample_of": "task t, reward -1",
        "advice": ["a cold start"],
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps({"no_signal": found}))
    page = write_report(tmp_path / "a.html", run=run)
    assert section_ids(page)[:2] == ["headline", "nosignal"]
    text = page.read_text()
    for said in ("steps 1 to 5", "reward -1", "no_answer 19, unclosed_think 3", "search 3 of 8", "Try a cold start"):
        assert said in text, said
    assert "one &lt;/pre&gt; two" in text
    (run / "summary.json").write_text(json.dumps({"no_signal": None}))
    assert "nosignal" not in section_ids(write_report(tmp_path / "b.html", run=run))
