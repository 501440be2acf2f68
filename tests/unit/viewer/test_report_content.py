from typing import Any

from arpo.tree.branching_statistics import measure_branching
from arpo.tree.entropy import entropy_by_distance
from arpo.viewer.report_content import (
    before_after_rows,
    evaluation_table,
    headlines,
    learning_charts,
    phase_bars,
    signal_charts,
)
from arpo.viewer.run import RunRecord


def record(rows: list[dict[str, Any]] | None = None, summary: dict[str, Any] | None = None) -> RunRecord:
    return RunRecord("a", rows or [], summary or {}, entropy_by_distance([], 1), measure_branching([]), [], {}, [], 0, 0, 0)


def test_before_and_after_with_the_ceiling_in_its_own_column():
    summary = {
        "accuracy_before": 0.45, "accuracy_after": 0.78, "demonstrator_accuracy": 0.91, "tool_calls_per_task_before": 2.5,
        "tool_calls_per_task_after": 2.0, "pass_at_k_before": 0.7, "pass_at_k_after": 0.8, "k": 8, "f1_before": 0.5,
    }  # fmt: skip
    assert before_after_rows(summary) == [
        ("Accuracy", "45.0%", "78.0%", "+33.0 points", "91.0%"),
        ("pass@8", "70.0%", "80.0%", "+10.0 points", ""),
        ("Tool calls per task", "2.5", "2", "-0.50", ""),
    ]


def test_headlines_of_a_finished_quickstart():
    summary = {
        "accuracy_before": 0.45,
        "accuracy_after": 0.78,
        "demonstrator_accuracy": 0.91,
        "seconds": {"rollout": 50.0, "total": 65.0},
    }
    accuracy, duration = headlines(record(summary=summary))
    assert (accuracy.before, accuracy.value, accuracy.note) == ("45.0%", "78.0%", "+33.0 points, demonstrator 91.0%")
    assert accuracy.scale == (0.45, 0.78, 0.91)
    assert duration.value == "1 min 5 s"


def test_headlines_of_a_plain_training_run_come_from_its_metrics():
    rows = [
        {"step": 1, "rollout/reward_mean": 0.25, "train/tokens_unique": 100, "train/tokens_total": 150, "time/step_s": 2.0},
        {"step": 2, "rollout/reward_mean": 0.75, "train/tokens_unique": 100, "train/tokens_total": 250, "time/step_s": 2.5},
    ]
    reward, saving, duration = headlines(record(rows))
    assert (reward.before, reward.value, reward.note) == ("0.25", "0.75", "steps 1 to 2")
    assert saving.value == "2.00×"  # (150 + 250) / (100 + 100)
    assert duration.value == "4.5 s"


def test_phases_add_up_to_the_total():
    # 10 of 16 s in named phases: the other 6 s are shown, not lost
    bars = phase_bars(record(summary={"seconds": {"rollout": 8.0, "update": 2.0, "total": 16.0}}))
    assert [(name, percent) for name, percent, _ in bars] == [("rollout", 50.0), ("other", 37.5), ("update", 12.5)]


def test_phases_of_a_plain_run_are_summed_over_its_steps():
    rows = [{"step": s, "time/step_s": 2.0, "time/rollout_s": 1.5, "time/update_s": 0.5} for s in (1, 2)]
    assert phase_bars(record(rows)) == [("rollout", 75.0, "3.0 s · 75%"), ("update", 25.0, "1.0 s · 25%")]


def test_nothing_recorded_is_nothing_shown():
    empty = record()
    assert headlines(empty) == learning_charts(empty) == phase_bars(empty) == before_after_rows({}) == []


def test_evaluations_keep_only_filled_columns():
    header, rows = evaluation_table(
        [{"name": "arpo", "exact_match": 0.5, "num_tasks": 512}, {"name": "sft", "exact_match": 0.25}]
    )
    assert header == ["Evaluation", "Exact match", "Tasks"]
    assert rows == [["arpo", "50.0%", "512"], ["sft", "25.0%", "–"]]


def test_a_fault_that_a_step_does_not_name_is_none():
    rows = [{"step": 1, "fault/no_answer": 2}, {"step": 2}, {"step": 3, "fault/no_answer": 1}]
    (chart,) = [chart for chart in signal_charts(rows) if chart.title == "Format faults"]
    assert [cells[-1] for cells in chart.table] == ["2", "0", "1"]
