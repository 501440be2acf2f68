"""An evaluation end to end: a tiny random policy, files on disk, no tools."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.config import load_config, parse_config
from arpo.errors import ConfigError, ModelError, RunError
from arpo.evaluation.config import EvalRun, RolloutRun
from arpo.evaluation.records import read_records, read_times
from arpo.evaluation.rollouts import sample_rollouts
from arpo.evaluation.run import evaluate
from arpo.protocols.encoding import PolicyTokenizer
from arpo.rewards.graders import GRADERS
from arpo.tracking.progress import SilentProgress
from arpo.tree import RolloutTree, Trajectory, append_tree, read_trees


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, make_tokenizer_directory) -> Path:
    directory = make_tokenizer_directory(tmp_path_factory.mktemp("policy"), "qwen3")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=PolicyTokenizer.load(directory).vocab_size, hidden_size=32, intermediate_size=48,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=128,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture
def settings(policy: Path, tmp_path: Path) -> dict[str, Any]:
    rows = [{"question": f"{i}?", "answer": "2", "kind": "sum" if i < 2 else "town", "never_seen": i == 3} for i in range(4)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    return {
        "model": {"path": policy}, "tasks": tmp_path / "tasks.jsonl", "num_samples": 3, "num_threads": 1,
        "agent": {"protocol": {"tools": [], "system_prompt": ""}, "limits": {"max_turn_tokens": 8}},
    }  # fmt: skip


def test_records_results_and_summary_agree(settings: dict[str, Any], tmp_path: Path):
    out = tmp_path / "eval"
    returned = evaluate(parse_config(EvalRun, settings | {"out": out}, "test"))
    written, results = (json.loads((out / name).read_text()) for name in ("summary.json", "results.json"))
    assert written == json.loads(json.dumps(returned))
    right = [r.is_correct for r in read_records(out) if r.mode == "greedy"]
    assert results["figures"]["greedy"]["accuracy"]["value"] == written["accuracy"] == sum(map(bool, right)) / len(right)
    assert sum(t.seconds for t in read_times(out) if t.mode == "greedy") / 4 == pytest.approx(
        results["figures"]["greedy"]["seconds"]["value"]
    )
    assert (written["num_tasks"], written["num_bad_rows"], written["k"]) == (4, 1, 3)
    assert {kind: part["num_questions"] for kind, part in results["groups"]["kind"].items()} == {"sum": 2, "town": 2}
    assert results["groups"]["never_seen"]["true"]["num_questions"] == 1
    assert load_config(EvalRun, out / "config.toml").num_samples == 3
    assert all(f"| {name} |" in (out / "report.md").read_text() for name in results["figures"]["sampled"])
    assert (out / "report.html").stat().st_size > 10_000


def test_trees_hold_each_answer_in_full(settings: dict[str, Any], tmp_path: Path):
    out = tmp_path / "eval"
    evaluate(parse_config(EvalRun, settings | {"out": out}, "test"))
    found: dict[tuple[str, str], list[str]] = {}
    for mode in ("greedy", "sampled"):
        for tree in read_trees(out / "rollouts" / f"{mode}.jsonl.zst"):
            found[mode, tree.task.id] = [t.response_text for t in tree.trajectories()]
            assert tree.seconds is not None
    responses: dict[tuple[str, str], list[str]] = {}
    for record in read_records(out):
        responses.setdefault((record.mode, record.task_id), []).append(record.response)
    assert found == responses


def test_a_grader_scores_and_its_words_stand(settings: dict[str, Any], tmp_path: Path):
    out = tmp_path / "eval"
    config = parse_config(EvalRun, settings | {"out": out, "grader": "f1", "greedy": False, "num_samples": 1}, "test")
    summary = evaluate(config)
    assert (summary["metric"], summary["k"]) == ("f1", 1)
    graded = {
        t.task.id: GRADERS["f1"](t) for tree in read_trees(out / "rollouts/sampled.jsonl.zst") for t in tree.trajectories()
    }
    assert {r.task_id: (r.score, r.reason, r.extraction) for r in read_records(out)} == {
        task_id: (grade.score, grade.reason, grade.extraction) for task_id, grade in graded.items()
    }
    assert not (out / "rollouts" / "greedy.jsonl.zst").exists()


def test_a_benchmark_brings_its_reading_and_its_grader(settings: dict[str, Any], tmp_path: Path):
    tasks = tmp_path / "hotpot.jsonl"
    tasks.write_text(json.dumps({"id": "x", "question": "Who?", "answer": ["Ada Moor"]}) + "\n")
    changes = {"out": tmp_path / "eval", "benchmark": "hotpotqa", "tasks": tasks, "num_samples": 0}
    summary = evaluate(parse_config(EvalRun, settings | changes, "test"))
    assert (summary["metric"], summary["num_tasks"]) == ("f1", 1)
    assert read_records(tmp_path / "eval")[0].task_id == "hotpotqa-1"
    assert parse_config(EvalRun, settings | changes | {"grader": "exact_match"}, "test").metric == "exact_match"
    with pytest.raises(ConfigError, match="did you mean 'hotpotqa'"):
        parse_config(EvalRun, settings | changes | {"benchmark": "hotpot"}, "test")


def test_contradictions_are_refused(settings: dict[str, Any], tmp_path: Path):
    for changes, said in (({"greedy": False, "num_samples": 0}, "no answers"), ({"grader": "f2"}, "use exact_match, f1")):
        with pytest.raises(ConfigError, match=said):
            parse_config(EvalRun, settings | {"out": tmp_path} | changes, "test")


def test_a_run_goes_on_where_it_was_stopped(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped by an error after some of the answers, of which one is half written: the rest is answered, nothing twice."""
    whole, out = tmp_path / "whole", tmp_path / "eval"
    evaluate(parse_config(EvalRun, settings | {"out": whole}, "test"))
    with monkeypatch.context() as patch:
        patch.setattr(RolloutTree, "trajectories", fail_at(14))
        with pytest.raises(ZeroDivisionError):
            evaluate(parse_config(EvalRun, settings | {"out": out}, "test"))
    path = out / "rollouts" / "greedy.jsonl.zst"
    before = [t.task.id for t in read_trees(path)]
    assert 0 < len(before) <= 4
    path.write_bytes(path.read_bytes()[:-3])
    config = load_config(EvalRun, out / "config.toml")
    evaluate(config, resume=True)
    assert (out / "records.jsonl").read_bytes() == (whole / "records.jsonl").read_bytes()
    after = [t.task.id for t in read_trees(path)]
    assert after[: len(before) - 1] == before[:-1]
    assert sorted(after) == sorted({r.task_id for r in read_records(out)})
    size = path.stat().st_size
    evaluate(config, resume=True)
    assert path.stat().st_size == size, "a finished run has nothing to do"


def test_an_unfinished_block_is_grown_again_to_the_bit(settings: dict[str, Any], tmp_path: Path):
    """Two blocks of four: the first is whole, of the second one tree is kept, which is not grown into the file twice."""
    rows = [{"question": f"{i}?", "answer": "2"} for i in range(8)]
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"greedy": False, "num_samples": 1, "max_live_trajectories": 1}
    trees: dict[str, dict[str, list[list[float] | None]]] = {}
    for name in ("whole", "killed"):
        out = tmp_path / name
        evaluate(parse_config(EvalRun, settings | {"out": out} | changes, "test"))
        path = out / "rollouts" / "sampled.jsonl.zst"
        if name == "killed":
            kept = list(read_trees(path))[:5]
            path.unlink()
            for tree in kept:
                append_tree(path, tree)
            evaluate(load_config(EvalRun, out / "config.toml"), resume=True)
        found = list(read_trees(path))
        assert len(found) == len({t.task.id for t in found}) == 8
        trees[name] = {t.task.id: [n.logprobs for n in t.nodes] for t in found}
    assert trees["whole"] == trees["killed"]


def test_answers_that_come_out_otherwise_are_said(settings: dict[str, Any], tmp_path: Path):
    class Lines(SilentProgress):
        said: ClassVar[list[str]] = []

        def line(self, text: str) -> None:
            self.said.append(text)

    out = tmp_path / "eval"
    evaluate(parse_config(EvalRun, settings | {"out": out, "num_samples": 0}, "test"))
    path = out / "rollouts" / "greedy.jsonl.zst"
    trees = list(read_trees(path))
    path.unlink()
    trees[1].leaves()[0].text += " and more"
    for tree in trees[:2]:
        append_tree(path, tree)
    evaluate(load_config(EvalRun, out / "config.toml"), Lines(), resume=True)
    assert any("1 answers differ when sampled again" in line for line in Lines.said)
    assert sum(r.response.endswith(" and more") for r in read_records(out)) == 1


def fail_at(call: int) -> Callable[[RolloutTree], list[Trajectory]]:
    original, calls = RolloutTree.trajectories, 0

    def trajectories(self: RolloutTree) -> list[Trajectory]:
        nonlocal calls
        calls += 1
        if calls == call:
            raise ZeroDivisionError("a defect")
        return original(self)

    return trajectories


def test_other_tasks_are_not_taken_for_the_ones_answered(settings: dict[str, Any], tmp_path: Path):
    out = tmp_path / "eval"
    evaluate(parse_config(EvalRun, settings | {"out": out, "num_samples": 0}, "test"))
    config = load_config(EvalRun, out / "config.toml")
    tasks = tmp_path / "tasks.jsonl"
    lines = tasks.read_text().splitlines()
    tasks.write_text("\n".join([lines[0].replace("0?", "who?"), *lines[1:4]]))
    with pytest.raises(RunError, match="'tasks-1' has another question"):
        evaluate(config, resume=True)


def test_a_link_to_the_best_policy_is_followed_once(settings: dict[str, Any], policy: Path, tmp_path: Path):
    (tmp_path / "best").symlink_to(policy)
    changes = {"model": {"path": tmp_path / "best"}, "num_tasks": 1, "num_samples": 0, "out": tmp_path / "eval"}
    evaluate(parse_config(EvalRun, settings | changes, "test"))
    model = load_config(EvalRun, tmp_path / "eval" / "config.toml").model
    assert model is not None
    assert model.path == policy.resolve()


def test_each_task_has_one_greedy_record_and_the_sampled_ones(settings: dict[str, Any], tmp_path: Path):
    out = tmp_path / "eval"
    evaluate(parse_config(EvalRun, settings | {"out": out}, "test"))
    found = [(r.task_id, r.mode, r.sample) for r in read_records(out)]
    ids = [f"tasks-{row}" for row in range(1, 5)]
    assert found == [(i, "greedy", 0) for i in ids] + [(i, "sampled", s) for i in ids for s in range(3)]


def test_an_evaluation_can_be_repeated(settings: dict[str, Any], tmp_path: Path):
    """The same answers, also when fewer are grown at a time; another seed samples others and leaves the greedy ones alone."""
    outs = {name: tmp_path / name for name in ("a", "b", "c")}
    changes: dict[str, dict[str, Any]] = {"a": {}, "b": {"max_live_trajectories": 3}, "c": {"seed": 1}}
    for name, out in outs.items():
        evaluate(parse_config(EvalRun, settings | {"out": out} | changes[name], "test"))
    responses = {name: [(r.mode, r.response) for r in read_records(out)] for name, out in outs.items()}
    assert responses["a"] == responses["b"]
    assert responses["a"] != responses["c"]
    assert responses["a"][:4] == responses["c"][:4]


def test_fewer_tasks_and_no_samples(settings: dict[str, Any], tmp_path: Path):
    summary = evaluate(parse_config(EvalRun, settings | {"out": tmp_path / "e", "num_tasks": 2, "num_samples": 0}, "test"))
    assert summary["num_tasks"] == 2
    assert "pass_at_k" not in summary
    assert len(read_records(tmp_path / "e")) == 2


def test_a_failed_evaluation_can_be_started_again_in_its_folder(settings: dict[str, Any], tmp_path: Path):
    out = tmp_path / "eval"
    with pytest.raises(ModelError):
        evaluate(parse_config(EvalRun, settings | {"out": out, "model": {"path": tmp_path / "none"}}, "test"))
    evaluate(parse_config(EvalRun, settings | {"out": out, "num_samples": 0}, "test"))
    before = (out / "records.jsonl").read_bytes()
    with pytest.raises(RunError, match="holds a run already"):
        evaluate(parse_config(EvalRun, settings | {"out": out}, "test"))
    assert (out / "records.jsonl").read_bytes() == before


def test_an_error_amid_the_answers_ends_the_run(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The answers still growing are freed before their engine is closed; asking it for more, they would wait for ever."""

    def fail(*_: object) -> None:
        signal.alarm(20)
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("arpo.evaluation.journal.tree_records", fail)
    try:
        with pytest.raises(ZeroDivisionError, match="a defect"):
            evaluate(parse_config(EvalRun, settings | {"out": tmp_path / "eval"}, "test"))
    finally:
        signal.alarm(0)


def test_prompts_that_contradict_the_protocol_are_told_at_the_start(settings: dict[str, Any], tmp_path: Path):
    """By `arpo eval` and `arpo rollout`; `direct` has no tools, and the task teaches one."""

    class Listener(SilentProgress):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def line(self, text: str) -> None:
            self.lines.append(text)

    prompt = [{"role": "system", "content": "Call <search> w </search>."}, {"role": "user", "content": "who ?"}]
    settings["tasks"].write_text(json.dumps({"prompt": prompt, "reward_model": {"ground_truth": "2"}}) + "\n")
    eval_lines, rollout_lines = Listener(), Listener()
    evaluate(parse_config(EvalRun, settings | {"num_samples": 1, "out": tmp_path / "eval"}, "test"), eval_lines)
    settings.pop("num_samples")
    rollout = {"group_size": 1, "rule": {"type": "none"}}
    sample_rollouts(parse_config(RolloutRun, settings | {"rollout": rollout, "out": tmp_path / "roll"}, "test"), rollout_lines)
    for told in (eval_lines, rollout_lines):
        assert any("in 1 of 1 the system message teaches <search>, which protocol.tools = []" in line for line in told.lines)
