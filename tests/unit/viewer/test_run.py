import shutil

import pytest

from arpo.errors import DataError
from arpo.tree import write_trees
from arpo.viewer.run import MAX_TREE_FILES, read_run


def test_everything_of_a_run_is_read(run_dir):
    record = read_run(run_dir)
    assert (record.name, record.num_trees, record.num_tree_files) == ("quickstart", 48, 8)
    assert record.summary["seed"] == 7
    assert record.rows[0]["step"] == 1
    assert sum(record.entropy.after_tool.count) == sum(sum(c.count) for c in record.entropy.by_tool.values())


def test_shown_trees_come_from_each_third_and_show_branches_with_unequal_rewards(run_dir):
    shown = read_run(run_dir).trees
    steps = [int(s.label.removeprefix("step ")) for s in shown]
    assert steps[0] <= 15 < steps[1] <= 30 < steps[2]
    for s in shown:
        assert any(n.is_branch for n in s.tree.nodes)
        assert len({leaf.reward.value for leaf in s.tree.leaves()}) > 1


def test_a_single_file_of_trees_is_enough(run_dir):
    record = read_run(run_dir / "rollouts" / "step_000005.jsonl.zst")
    assert (record.num_trees, record.rows, record.summary) == (6, [], {})
    assert [s.label for s in record.trees] == ["step 5"]


def test_an_empty_run_is_empty(tmp_path):
    record = read_run(tmp_path)
    assert (record.rows, record.summary, record.trees, record.num_tree_files) == ([], {}, [], 0)


def test_a_long_run_is_sampled_evenly_and_says_so(tmp_path, run_dir):
    source = run_dir / "rollouts" / "step_000005.jsonl.zst"
    (tmp_path / "rollouts").mkdir()
    for step in range(1, 2 * MAX_TREE_FILES + 1):
        write_trees(tmp_path / "rollouts" / f"step_{step:06d}.jsonl.zst", [])
    for step in (1, 2 * MAX_TREE_FILES):
        shutil.copy(source, tmp_path / "rollouts" / f"step_{step:06d}.jsonl.zst")
    record = read_run(tmp_path)
    assert (record.num_tree_files, record.num_tree_files_read) == (2 * MAX_TREE_FILES, MAX_TREE_FILES)
    assert record.num_trees == 12  # the first and the last step are always among those read


def test_unfinished_files_are_left_alone(tmp_path):
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "step_000001.jsonl.zst.partial").write_bytes(b"half")
    assert read_run(tmp_path).num_tree_files == 0


def test_missing_run_and_damaged_summary_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        read_run(tmp_path / "nowhere")
    for text in ("{", "[1]"):
        (tmp_path / "summary.json").write_text(text)
        with pytest.raises(DataError, match=r"summary\.json"):
            read_run(tmp_path)
