"""A run as one HTML page that needs no network and no other file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arpo.viewer.branching import branching_histogram, branching_sentences, branching_table, forks_table
from arpo.viewer.fork_story import fork_story
from arpo.viewer.page import write_page
from arpo.viewer.report_content import (
    BRANCH_CHARTS,
    COST_CHARTS,
    HEALTH_CHARTS,
    SFT_CHARTS,
    before_after_rows,
    branching_facts,
    entropy_charts,
    entropy_sentence,
    evaluation_table,
    headlines,
    learning_charts,
    metric_charts,
    no_signal_text,
    phase_bars,
    signal_charts,
)
from arpo.viewer.run import read_run
from arpo.viewer.tokens import find_decoder
from arpo.viewer.tree_view import tree_view


def write_report(
    out: Path,
    *,
    run: Path,
    title: str = "arpo run",
    evaluations: Sequence[Mapping[str, Any]] = (),
    summary: Mapping[str, Any] | None = None,
    tokenizer: Path | None = None,
) -> Path:
    """Write the report of a run directory, or of one file of rollout trees, to `out`; return `out`.

    The page leaves out a section without data, holds everything inline, makes no request, follows the reader's light or dark
    preference, and has the same bytes for the same run.

    Args:
        out: The HTML file; written whole or not at all.
        run: A run directory (`metrics.jsonl`, `rollouts/`, `summary.json`, each optional) or a `.jsonl`/`.jsonl.zst` of trees.
        title: The page's heading.
        evaluations: Rows of a comparison table: `name` and any of accuracy, exact_match, f1, pass_at_k, k,
            format_valid_rate, tool_calls_per_task, num_tasks.
        summary: Values from outside the run directory (accuracies before and after, the demonstrator's); they override those
            of its `summary.json`.
        tokenizer: An HF directory with a `tokenizer.json`, to show entropy on each token; None takes it from the run's
            checkpoints, and shows whole texts where there are none.

    Raises:
        DataError: the run is missing, or a file in it is damaged.
    """
    record = read_run(run, summary)
    decode = find_decoder(run, tokenizer)
    return write_page(
        out,
        "report.html.j2",
        title=title,
        record=record,
        headlines=headlines(record),
        before_after=before_after_rows(record.summary),
        evaluations=evaluation_table(evaluations),
        no_signal=no_signal_text(record.summary),
        learning=learning_charts(record),
        signal=signal_charts(record.rows),
        entropy=entropy_charts(record.entropy),
        entropy_sentence=entropy_sentence(record.entropy),
        branching=[*branching_histogram(record), *metric_charts(record.rows, BRANCH_CHARTS)],
        branching_sentences=branching_sentences(record),
        branching_table=branching_table(record),
        forks_table=forks_table(record),
        story=fork_story(record.trees),
        facts=branching_facts(record.summary),
        cost=metric_charts(record.rows, COST_CHARTS),
        phases=phase_bars(record),
        health=metric_charts(record.rows, HEALTH_CHARTS),
        sft=metric_charts(record.rows, SFT_CHARTS),
        trees=[tree_view(shown, decode) for shown in record.trees],
    )  # fmt: skip
