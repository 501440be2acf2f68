"""Comparisons of made-up evaluations, through the files an evaluation leaves and the command that reads them."""

import json
from pathlib import Path

import pytest

from arpo.cli.main import main
from arpo.errors import DataError
from arpo.evaluation.compare import compare
from arpo.evaluation.records import Record, write_lines
from arpo.evaluation.results import make_results
from arpo.function_name import FunctionName
from arpo.functions.loading import load_function
from arpo.functions.record import write_record

from .made_up import record


def write_run(folder: Path, records: list[Record], metric: str = "exact_match") -> Path:
    folder.mkdir(parents=True)
    write_lines(folder / "records.jsonl", records)
    (folder / "results.json").write_text(json.dumps(make_results(records, [], metric=metric)))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """40 shared questions, of which a has 20 right, b the same and 12 more, c b's but one; b has two questions more."""
    right = {"a": range(20), "b": range(32), "c": range(31)}
    return [
        write_run(
            tmp_path / name,
            [record(f"t{i}", "greedy", 0, float(i in right[name]), num_tool_calls=2) for i in range(40 + 2 * (name == "b"))],
        )
        for name in "abc"
    ]


def test_what_is_real_and_what_is_not(runs: list[Path]) -> None:
    found = compare(runs)
    ab, ac, bc = found.pairs
    assert (ab.num_shared, ab.num_only_a, ab.num_only_b) == (40, 0, 2)
    assert (ab.value_a, ab.value_b, ab.difference) == pytest.approx((0.5, 0.8, 0.3))
    assert ab.test == "mcnemar"
    assert ab.p == pytest.approx(2 / 2**12)  # 0 against 12
    assert ab.p_holm == pytest.approx(3 * 2 / 2**12)
    assert (ab.is_real, ac.is_real, bc.is_real) == (True, True, False)
    assert bc.p == 1.0  # 1 against 0
    # resampled differences are Binomial(40, 0.3) / 40, whose middle 95 % is 0.175 to 0.45
    assert ab.low == pytest.approx(0.175, abs=0.03)
    assert ab.high == pytest.approx(0.45, abs=0.03)
    assert [r.num_questions for r in found.runs] == [40, 42, 40]
    assert found.runs[1].value == pytest.approx(32 / 42)


def test_pairs_see_what_separate_intervals_hide(tmp_path: Path) -> None:
    """20 and 27 of 40 right: the intervals overlap, as each holds the questions' own spread; the paired difference is clear."""
    a, b = (
        write_run(tmp_path / str(n), [record(f"t{i}", "greedy", 0, float(i < n)) for i in range(40)]) for n in (20, 27)
    )  # fmt: skip
    scores = [json.loads((run / "results.json").read_text())["figures"]["greedy"]["score"] for run in (a, b)]
    assert scores[0]["high"] > scores[1]["low"]
    pair = compare([a, b]).pairs[0]
    assert pair.low > 0
    assert pair.p == pytest.approx(2 / 2**7)


def test_figures_that_are_no_yes_or_no_are_swapped(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [record(f"t{i}", "sampled", s, float(s < 1)) for i in range(12) for s in range(4)])
    b = write_run(tmp_path / "b", [record(f"t{i}", "sampled", s, float(s < 3)) for i in range(12) for s in range(4)])
    found = compare([a, b], metric="pass@2")
    assert (found.mode, found.pairs[0].test) == ("sampled", "swap")
    assert found.pairs[0].value_a == pytest.approx(0.5)  # 1 - C(3, 2) / C(4, 2)
    assert found.pairs[0].is_real
    assert compare([a, b]).mode == "sampled", "no run has greedy answers"
    with pytest.raises(DataError, match="divides by 0"):
        compare([a, b], metric="tool_productivity")
    with pytest.raises(DataError, match=r"no metric 'pass@5' with 4 samples.*pass@4"):
        compare([a, b], metric="pass@5")


def test_the_same_id_with_another_question_is_no_pair(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [record("x", "greedy", 0, 1.0), record("y", "greedy", 0, 1.0)])
    b = write_run(tmp_path / "b", [record("x", "greedy", 0, 0.0, question="another?"), record("y", "greedy", 0, 0.0)])
    c = write_run(tmp_path / "c", [record("z", "greedy", 0, 0.0)])
    pair = compare([a, b]).pairs[0]
    assert (pair.num_shared, pair.num_only_a, pair.num_only_b) == (1, 1, 1)
    with pytest.raises(DataError, match="share no question"):
        compare([a, c])


def test_what_cannot_be_compared_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fewer than two differ"):
        compare([runs[0], runs[0]])
    with pytest.raises(DataError, match="no sampled answer"):
        compare(runs, mode="sampled")
    other = write_run(tmp_path / "other", [record("t0", "greedy", 0, 1.0)], metric="f1")
    with pytest.raises(DataError, match="different graders"):
        compare([runs[0], other])
    with pytest.raises(DataError, match=r"arpo eval --resume .*absent"):
        compare([runs[0], tmp_path / "absent"])


def test_the_command_prints_tables_markdown_and_json(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", *map(str, runs)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "left out: 0 questions of a and 2 of b" in printed
    assert "Holm" in printed
    assert main([*arguments, "--markdown"]) == 0
    assert "| a | b | 40 | 0.500 | 0.800 | +0.300 |" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert [pair["is_real"] for pair in json.loads(capsys.readouterr().out)["pairs"]] == [True, True, False]
    assert main(arguments[:2]) == 2
    assert "two or more" in capsys.readouterr().err


def configured(run: Path, config: str) -> Path:
    (run / "config.toml").write_text(config)
    return run


def test_the_rules_in_which_runs_differ_are_named(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Limits and calls differ, which the score does not rest on: said, by key; caches and tasks are no rules."""
    common = 'tasks = "t.jsonl"\n[agent.limits]\nmax_turn_tokens = {}\n[agent.tools.executor]\nmax_calls = {}\n'
    configured(runs[0], common.format(100, 3) + '[agent.tools.cache]\nmode = "live"\n')
    configured(runs[1], common.format(100, 6).replace("t.jsonl", "u.jsonl"))
    configured(runs[2], common.format(100, 6))
    assert compare(runs).different_rules == {"agent.tools.executor.max_calls": {"a": 3, "b": 6, "c": 6}}
    assert main(["compare", *map(str, runs)]) == 0
    assert "different rules: agent.tools.executor.max_calls (a: 3, b: 6, c: 6)" in capsys.readouterr().out
    assert compare(runs[1:]).different_rules == {}


@pytest.mark.parametrize(
    ("metric", "own", "key"),
    [
        ("reward", "[reward.composite]\nformat_gate = false", "reward.composite.format_gate"),
        ("score", 'grader = "math"', "grader"),
        ("accuracy", 'grading = "strict"', "grading"),
        ("accuracy", '[reward.judge]\nmodel = "m"', "reward.judge.model"),
    ],
)
def test_a_figure_made_by_different_rules_is_refused(runs: list[Path], metric: str, own: str, key: str) -> None:
    configured(runs[0], "")
    configured(runs[1], own)
    with pytest.raises(DataError, match=rf"{metric!r} was made by different rules: {key} \(.*not set"):
        compare(runs[:2], metric=metric)
    assert compare(runs[:2], metric="tool_calls").different_rules.keys() == {key}


def test_rewards_that_grade_the_answers_must_be_the_same_for_their_accuracy(tmp_path: Path) -> None:
    """Without a grader of the evaluation's own, right is what the reward says."""
    runs = [
        configured(write_run(tmp_path / name, [record("t", "greedy", 0, 1.0)], metric="accuracy"), f'[reward]\nrule = "{rule}"')
        for name, rule in (("a", "arpo"), ("b", "mine:correct"))
    ]
    with pytest.raises(DataError, match=r"reward\.rule"):
        compare(runs, metric="accuracy")
    assert compare(runs, metric="exact_match").different_rules.keys() == {"reward.rule"}


def test_a_reward_of_one_name_and_other_code_is_another_reward(tmp_path: Path) -> None:
    runs: list[Path] = []
    for name, value in (("a", "1.0"), ("b", "0.5"), ("c", "1.0")):
        file = tmp_path / "mine.py"
        file.write_text(f"def correct(trajectory): return {value}\n")
        run = configured(write_run(tmp_path / name, [record("t", "greedy", 0, 1.0)]), f'[reward]\nrule = "{file}:correct"')
        function = FunctionName(str(file), "correct")
        write_record(run, {"reward.rule": (str(function), load_function(function, "reward.rule"))}, [])
        runs.append(run)
    with pytest.raises(DataError, match=r"reward\.rule \(.*mine.py:correct, code .*mine.py:correct, code"):
        compare(runs[:2], metric="reward")
    assert compare([runs[0], runs[2]], metric="reward").different_rules == {}


def test_names_that_differ_only_at_the_end_stay_distinguishable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of one name get the folders that tell them apart; a long name is folded at 80 columns, never cut."""
    monkeypatch.setenv("COLUMNS", "80")
    long = "a_run_with_a_very_long_name_that_says_everything_about_its_configuration_seed_"
    records = [record(f"t{i}", "greedy", 0, float(i)) for i in (0, 1)]
    runs = [write_run(tmp_path / place, records) for place in (f"x/{long}1", f"x/{long}2", "y/eval", "z/eval")]
    assert [run.name for run in compare(runs).runs] == [f"x/{long}1", f"x/{long}2", "y/eval", "z/eval"]
    assert main(["compare", *map(str, runs)]) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if "─" in line)
