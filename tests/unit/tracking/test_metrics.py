from pathlib import Path

import pytest

from arpo.tracking import METRICS, metrics_markdown
from arpo.tracking.metrics import check_names

DOCS_PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_docs_page_is_the_table():
    command = 'python -c "from arpo.tracking import metrics_markdown; print(metrics_markdown(), end=str())" > docs/metrics.md'
    assert DOCS_PAGE.read_text(encoding="utf-8") == metrics_markdown(), f"write it again: {command}"


def test_every_metric_appears_once_with_unit_and_sentence():
    page = metrics_markdown()
    for name, metric in METRICS.items():
        assert page.count(f"| `{name}` |") == 1
        assert metric.unit
        assert metric.meaning.endswith(".")
        assert "//" not in name
        assert "/" in name.strip("/")


def test_every_family_takes_names_and_nothing_else():
    check_names(["reward/grade", "fault/no_answer", "valid/reward/my.part", "valid/source/gsm8k/accuracy", "tool/calc/calls"])
    for name in ("valid/source/gsm8k", "valid/source/a/b/accuracy", "valid/grade", "reward/a/b", "tool/calc/call"):
        with pytest.raises(ValueError, match="is not in"):
            check_names([name])


def test_unknown_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"'rollout/reward' is not in.*did you mean 'rollout/reward_"):
        check_names(["train/loss", "rollout/reward"])
