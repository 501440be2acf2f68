"""The metrics that follow from records alone."""

import json

import pytest

from arpo.evaluation.metrics import sampled_metrics
from arpo.evaluation.records import AnswerTime
from arpo.evaluation.report import markdown
from arpo.evaluation.results import make_results, make_summary

from .made_up import record


def test_greedy_figures() -> None:
    records = [
        record("a", "greedy", 0, 1.0, groups={"kind": "x", "never_seen": "true"}, num_tool_calls=2, num_sampled_tokens=20),
        record("b", "greedy", 0, 0.0, groups={"kind": "x", "never_seen": "false"}, format_valid=0.0),
        record("c", "greedy", 0, 1.0, groups={"kind": "y", "never_seen": "false"}, num_tool_calls=1, answer="c"),
        record("d", "greedy", 0, 0.0),
    ]
    results = make_results(records, [], metric="exact_match")
    found = {name: interval["value"] for name, interval in results["figures"]["greedy"].items()}
    assert found["score"] == found["exact_match"] == 2 / 4
    assert found["format_valid"] == 3 / 4
    assert found["answered"] == 1 / 4
    assert found["tool_calls"] == 3 / 4
    assert found["tool_productivity"] == pytest.approx(2 / 3)  # two right answers, three calls
    assert found["tokens"] == (20 + 10 + 10 + 10) / 4
    assert found["seconds"] is None  # no times given
    assert {k: v["greedy"]["score"]["value"] for k, v in results["groups"]["kind"].items()} == {"x": 0.5, "y": 1.0}
    assert {k: v["num_questions"] for k, v in results["groups"]["never_seen"].items()} == {"false": 2, "true": 1}
    assert (results["mode"], results["num_questions"], results["num_samples"]) == ("greedy", 4, 0)
    assert "sampled" not in results["figures"]
    summary = make_summary(results)
    assert (summary["num_tasks"], summary["exact_match"], summary["tool_calls_per_task"]) == (4, 0.5, 0.75)
    assert "pass_at_k" not in summary
    json.dumps(results, allow_nan=False)


def test_sampled_figures_leave_the_greedy_ones_alone() -> None:
    # task a: 1 of 4 right, task b: 4 of 4; k = 4: each has a right one; mean exact match 5/8
    records = [record(t, "greedy", 0, 0.0) for t in "ab"]
    records += [record("a", "sampled", i, float(i == 2), extracted="r" if i == 2 else "w") for i in range(4)]
    records += [record("b", "sampled", i, 1.0, extracted="r") for i in range(4)]
    summary = make_summary(results := make_results(records, [], metric="exact_match"))
    assert (summary["exact_match"], summary["k"], summary["sampled_exact_match"], summary["pass_at_k"]) == (0.0, 4, 0.625, 1.0)
    assert summary["maj_at_k"] == 0.5  # a votes 3 to 1 for the wrong one
    sampled = results["figures"]["sampled"]
    assert sampled["pass@1"]["value"] == 0.625
    assert sampled["pass@2"]["value"] == (0.5 + 1.0) / 2  # 1 - C(3, 2) / C(4, 2)
    assert list(sampled_metrics(6)) == ["pass@1", "pass@2", "pass@4", "pass@6", "maj@6"]


def test_without_greedy_answers_the_sampled_ones_are_the_headline() -> None:
    records = [record("a", "sampled", i, float(i == 0)) for i in range(2)]
    results = make_results(records, [], metric="math")
    assert (results["mode"], results["metric"]) == ("sampled", "math")
    assert make_summary(results)["score"] == 0.5


def test_partly_right_is_not_right_for_pass_at_k() -> None:
    records = [record("a", "sampled", 0, 0.99), record("a", "sampled", 1, 0.0)]
    found = make_results(records, [], metric="f1")["figures"]["sampled"]
    assert found["pass@2"]["value"] == pytest.approx(0.0)
    assert found["score"]["value"] == pytest.approx(0.495)


def test_an_ungraded_answer_is_counted_and_counts_nowhere() -> None:
    records = [record("a", "greedy", 0, None), record("b", "greedy", 0, 1.0), record("c", "greedy", 0, 0.0)]
    records += [record("a", "sampled", 0, None), record("a", "sampled", 1, 1.0)]
    results = make_results(records, [], metric="judge")
    assert results["num_ungraded"] == 2
    assert results["figures"]["greedy"]["score"] | {"low": 0, "high": 0} == {
        "value": 0.5, "low": 0, "high": 0, "num_questions": 2
    }  # fmt: skip
    assert results["figures"]["sampled"]["pass@1"]["value"] == 1.0
    assert results["figures"]["sampled"]["pass@2"]["value"] is None  # one graded answer says nothing of two


def test_figures_of_samples_say_of_how_many_questions_they_speak() -> None:
    """Of four questions with two answers each, one has both graded, two have one graded, one has none."""
    graded = {"a": (1.0, 1.0), "b": (1.0, None), "c": (None, 0.0), "d": (None, None)}
    records = [record(t, "sampled", i, x, extracted=f"{i}") for t, scores in graded.items() for i, x in enumerate(scores)]
    results = make_results(records, [], metric="judge")
    summary = make_summary(results)
    assert (summary["pass_at_k"], summary["pass_at_k_questions"]) == (1.0, 1)
    assert (summary["pass_at_1"], summary["pass_at_1_questions"]) == (pytest.approx(2 / 3), 3)
    assert (summary["maj_at_k_questions"], summary["score_questions"], summary["num_tasks"]) == (2, 3, 4)
    report = markdown("x", results, {})
    assert "| pass@2 | 1.000 [1.000 to 1.000] (of 1 of 4 questions) |" in report
    assert "(of 3 of 4 questions)" in report.splitlines()[2]
    assert "| tokens | 10.0 [10.0 to 10.0] |" in report


def test_levels_are_in_the_order_of_numbers() -> None:
    records = [record(x, "greedy", 0, 1.0, groups={"level": x}) for x in ("10", "2", "b", "²")]
    assert list(make_results(records, [], metric="math")["groups"]["level"]) == ["2", "10", "b", "²"]


def test_times_are_per_question() -> None:
    records = [record(t, "sampled", i, 1.0) for t in "ab" for i in range(2)]
    times = [
        AnswerTime(task_id=t, mode="sampled", sample=i, seconds=s, tool_seconds=s / 2)
        for t, s in (("a", 1.0), ("b", 3.0))
        for i in range(2)
    ]
    found = make_results(records, times, metric="math")["figures"]["sampled"]
    assert (found["seconds"]["value"], found["tool_seconds"]["value"]) == (2.0, 1.0)
