"""What a user can get wrong: one message that says what and where and what to do, exit code 2, and nothing lost."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from arpo.tracking.run_directory import RunDirectory

GOOD_ROW = {"question": "1+1", "answer": "2"}


@pytest.fixture
def fail(arpo, write_toml, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must fail for the user's fault, and returns what it says."""

    def run(command: str, config: dict[str, Any] | None = None, *overrides: object) -> str:
        arguments = [write_toml(tmp_path / "config.toml", config)] if config is not None else []
        result = arpo(command, *arguments, *overrides)
        assert result.code == 2, (result.code, result.stderr)
        assert "Traceback" not in result.stderr
        return result.stderr

    return run


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--rollout.grup_size=8", ["rollout.grup_size: unknown key", "did you mean 'rollout.group_size'"]),
        ("--rollout.rule.taus=0.5", ["taus: unknown key", "tau"]),
        ("--rollout.group_size=1", ["rollout.group_size = 1", "set it to 2 or more"]),
        ("--rollout.num_initial_trajectories=9", ["num_initial_trajectories = 9 exceeds group_size = 4", "lower it"]),
        ("--rollout.num_initial_trajectories=4", ["num_initial_trajectories = 4", "could not branch", "lower it"]),
        ("--rollout.temperature=0", ["rollout.temperature = 0", "use a temperature above 0"]),
        ("--updates_per_step=3", ["updates_per_step = 3 exceeds tasks_per_step = 2"]),
        ("--num_steps=0", ["num_steps = 0", "1 or more"]),
        ("--algorithm=arpoo", ["algorithm = 'arpoo'", "choose one of aepo, aepo_released, appo, arpo,"]),
        ("--agent.protocol.tools=[\"search\"]", ["agent.protocol.tools = ['search']", "['python', 'search']", "agent.tools"]),
        ("--reward.rule=no_such_module:score", ["reward.rule = 'no_such_module:score'", "PYTHONPATH"]),
        ("--reward.rule=math:no_such_function", ["reward.rule = 'math:no_such_function'", "no_such_function"]),
        ("--reward.rule=math:pi", ["reward.rule = 'math:pi'", "must be a function"]),
        ("--tracking.sinks=[\"mlflow\"]", ["tracking.sinks", "mlflow"]),
        ("--tasks=none.parquet", ["none.parquet: no such file", ".parquet, .jsonl"]),
        ("--tasks=/etc/hostname", ["cannot be read", ".parquet, .jsonl"]),
        ("--tasks_per_step=50", ["tasks_per_step = 50", "7 usable tasks"]),
        ("--model.path=no_such_model", ["model.path = 'no_such_model'", "no such directory or file", "OWNER/NAME"]),
        ("--model.path=runs/no_such_model", ["model.path = 'runs/no_such_model'", "HF_HUB_OFFLINE", "no copy"]),
        ("--model.path=/etc/hostname", ["model.path = '/etc/hostname'", "no GGUF file", "model directory"]),
        ("--model.revision=v1", ["model.revision = 'v1' has no effect", "leave it out"]),
        ("--loss.kl={coefficient=0.1,reference='none'}", ["loss.kl.reference = 'none'", "no such directory or file"]),
        ("--loss.kl={coefficient=0.1,reference_revision='v1'}", ["loss.kl.reference_revision = 'v1' has no effect"]),
        ("--model.dtype=int8", ["model.dtype = 'int8'", "float32"]),
        ("--model.dtype=float16", ["model.dtype = 'float16'", "for engines and evaluation", "set model.dtype to 'bfloat16'"]),
        ("--agent.tools.search.index=no_such_index", ["no_such_index", "arpo index build"]),
        ("--agent.limits.max_trajectory_tokens=8", ["prompt has", "max_trajectory_tokens is 8"]),
    ],
)  # fmt: skip
def test_a_wrong_configuration(domain, fail, tmp_path: Path, override: str, words: list[str]):
    message = fail("train", domain.rl(tmp_path / "run"), override)
    assert [w for w in words if w not in message] == [], message


def test_a_rule_that_never_branches_takes_no_number_of_initial_trajectories(domain, fail, tmp_path: Path):
    overrides = ("--rollout.rule.type=none", "--rollout.num_initial_trajectories=2")
    message = fail("train", domain.rl(tmp_path / "run"), *overrides)
    assert "num_initial_trajectories = 2 has no effect with rule.type = 'none'" in message


def test_what_failed_at_the_start_can_be_tried_again_in_the_same_place(arpo, domain, fail, write_toml, tmp_path: Path):
    out = tmp_path / "run"
    fail("train", domain.rl(out), "--model.path=no_such_model")
    fail("train", domain.rl(out), "--reward.rule=no_such_module:score")
    fail("eval", domain.evaluation(out), "--model.path=no_such_model")
    fail("sft", domain.sft(out), "--model.path=no_such_model")
    arpo.succeed("eval", write_toml(tmp_path / "eval.toml", domain.evaluation(out, num_tasks=1, num_samples=0)))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def rl_row(question: str | None, answer: str | None) -> dict[str, Any]:
    prompt = [{"role": "user", "content": question}]
    return {"data_source": "x", "prompt": prompt, "ability": "qa", "reward_model": {"ground_truth": answer}}


def evaluate(arpo, domain, write_toml, folder: Path, tasks: Path) -> tuple[str, dict[str, Any]]:
    config = domain.evaluation(folder / "eval", tasks=str(tasks), num_samples=0)
    result = arpo.succeed("eval", write_toml(folder / "eval.toml", config))
    return result.stderr, json.loads((folder / "eval" / "summary.json").read_text())


def test_bad_rows_of_a_jsonl_are_counted_and_named(arpo, domain, write_toml, tmp_path: Path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("\n".join([json.dumps(GOOD_ROW), "{", '{"question": ""}', "[1]", json.dumps(GOOD_ROW)]))
    said, summary = evaluate(arpo, domain, write_toml, tmp_path, tasks)
    for words in (f"{tasks}, row 2: no JSON", f"{tasks}, row 3: ", f"{tasks}, row 4: no JSON object"):
        assert words in said, words
    assert summary["num_tasks"] == 2
    assert summary["num_bad_rows"] == 3


def test_bad_rows_of_a_parquet_are_counted_and_named(arpo, domain, write_toml, tmp_path: Path):
    rows = [rl_row(None, "2"), rl_row("1+1", "2"), rl_row("1+2", None), *[rl_row("", "1")] * 5]
    tasks = write_parquet(tmp_path / "tasks.parquet", rows)
    said, summary = evaluate(arpo, domain, write_toml, tmp_path, tasks)
    assert f"{tasks}, row 1: " in said
    assert f"{tasks}, row 3: " in said
    assert f"{tasks}, row 7: " not in said, "not every one of many rows is named"
    assert "7 rows in all" in said
    assert summary["num_tasks"] == 1
    assert summary["num_bad_rows"] == 7


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_of_bad_rows_only(domain, fail, tmp_path: Path, suffix: str):
    tasks = tmp_path / f"tasks{suffix}"
    if suffix == ".parquet":
        write_parquet(tasks, [rl_row(None, "2"), rl_row("1+1", None)])
    else:
        tasks.write_text('{\n{"q": 1}\n')
    message = fail("train", domain.rl(tmp_path / "run", tasks=str(tasks)))
    assert f"{tasks}: no usable task" in message
    assert "row 1: " in message


def test_a_broken_parquet(domain, fail, tmp_path: Path):
    (tmp_path / "tasks.parquet").write_text("this is no parquet")
    message = fail("train", domain.rl(tmp_path / "run", tasks=str(tmp_path / "tasks.parquet")))
    assert f"{tmp_path / 'tasks.parquet'}: not a parquet file" in message


def conversation(*texts: str) -> dict[str, Any]:
    """User first, then assistant and tool in alternation."""
    roles = ["user", *["assistant", "tool"] * len(texts)]
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]}


def test_bad_conversations_are_counted_and_named(arpo, domain, fail, write_toml, tmp_path: Path):
    good = conversation("1+1", "<think> a</think><python> 1+1</python>", "2", "<answer> \\boxed{2}</answer>")
    goes_on = conversation("1+1", "<answer> \\boxed{2}</answer> and on", "2", "<answer> \\boxed{2}</answer>")
    rows = [good, goes_on, {"messages": "hello"}, conversation("1+1", "<python> 1</python>", "1"), good]
    data = tmp_path / "conversations.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = domain.sft(tmp_path / "sft", data=str(data), num_epochs=1)
    said = arpo.succeed("sft", write_toml(tmp_path / "sft.toml", config)).stderr
    assert f"{data}, row 2: conversation: a turn of the assistant goes on after '{{2}}</answer>'" in said
    assert f"{data}, row 3: messages = 'hello' is no JSON" in said
    assert f"{data}, row 4: it does not end with a turn of the assistant" in said
    summary = json.loads((tmp_path / "sft" / "summary.json").read_text())
    assert (summary["num_conversations"], summary["num_left_out"]) == (2, 3)

    data.write_text(json.dumps(goes_on) + "\n")
    assert f"{data}: no usable conversation" in fail("sft", domain.sft(tmp_path / "none", data=str(data)))
    data.write_text(json.dumps(good) + "\n")
    assert "max_tokens = 8 tokens; raise it" in fail("sft", domain.sft(tmp_path / "none", data=str(data)), "--max_tokens=8")


@pytest.fixture
def policy(domain, tmp_path: Path) -> Path:
    return Path(shutil.copytree(domain.path / "policy", tmp_path / "policy"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_model_directory_that_lacks_a_file(domain, fail, policy: Path, tmp_path: Path, name: str):
    (policy / name).unlink()
    message = fail("train", domain.rl(tmp_path / "run", model={"path": str(policy)}))
    assert str(policy) in message
    assert ("*.safetensors" if name == "model.safetensors" else name) in message


def test_weights_that_are_cut_off(domain, fail, policy: Path, tmp_path: Path):
    weights = policy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert str(policy) in fail("train", domain.rl(tmp_path / "run", model={"path": str(policy)}))


def test_a_tokenizer_that_loses_the_tags(domain, fail, policy: Path, tmp_path: Path):
    vocabulary = {"<unk>": 0} | {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz ", start=1)}
    lossy = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    lossy.pre_tokenizer = pre_tokenizers.Whitespace()
    lossy.save(str(policy / "tokenizer.json"))
    (policy / "tokenizer_config.json").write_text('{"eos_token": "<unk>"}')
    message = fail("train", domain.rl(tmp_path / "run", model={"path": str(policy)}))
    assert "'<think>'" in message
    assert "byte-level BPE tokenizer" in message


def test_a_run_directory_in_use(domain, fail, write_toml, tmp_path: Path):
    run = tmp_path / "run"
    with RunDirectory.create(run) as held:
        held.write_text("config.toml", write_toml(tmp_path / "rl.toml", domain.rl(run)).read_text())
        before = sorted(p.name for p in run.iterdir())
        for command in (("train", None, "--resume", run), ("train", domain.rl(run)), ("sft", domain.sft(run))):
            assert f"{run}: in use by process {os.getpid()}" in fail(*command)
        assert sorted(p.name for p in run.iterdir()) == before


def test_a_run_directory_that_holds_something(domain, fail, tmp_path: Path):
    message = fail("sft", domain.sft(domain.path / "cold"))
    assert f"{domain.path / 'cold'}: holds a run already" in message
    assert "another folder" in message
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    assert "not empty (it holds 'thesis.tex')" in fail("train", domain.rl(tmp_path / "thesis"))
    assert "not a run directory" in fail("train", None, "--resume", tmp_path / "thesis")
    assert [p.name for p in (tmp_path / "thesis").glob("[!.]*")] == ["thesis.tex"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of some KiB, or gives the mounted one another size."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def resize(kib: int) -> Path:
        nonlocal mounted
        options = f"size={kib}k" + (",remount" if mounted else "")
        result = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True)
        if result.returncode and not mounted:
            pytest.skip(f"this user may not mount a small file system: {result.stderr.strip()}")
        assert result.returncode == 0, result.stderr
        mounted = True
        return place

    yield resize
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "share", [pytest.param(1.4, id="amid the weights"), pytest.param(1.8, id="amid the optimizer's state")]
)
def test_a_full_disk_leaves_the_last_checkpoint(
    arpo, domain, write_toml, small_disk: Callable[[int], Path], never_stopped: Path, tmp_path: Path, share: float
):
    """The disk is full while the second checkpoint is written."""
    arpo.succeed("train", write_toml(tmp_path / "half.toml", domain.rl(tmp_path / "half", num_steps=2)))
    first = tmp_path / "half" / "checkpoints" / "step_000002"
    size = sum(f.stat().st_size for f in first.rglob("*")) // 1024
    run = small_disk(int(size * share) + 40) / "run"
    result = arpo("train", write_toml(tmp_path / "rl.toml", domain.rl(run)))
    assert result.code == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert f"arpo train --resume {run}" in result.stderr
    assert str(run / "checkpoints" / "step_000002") in result.stderr
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step_000002"], "nothing half written takes up space"
    for file in ("model/model.safetensors", "trainer/trainer_state.json"):
        assert (run / "checkpoints" / "step_000002" / file).read_bytes() == (first / file).read_bytes()
    small_disk(20 * size)
    arpo.succeed("train", "--resume", run)
    final = [(r / "final" / "model.safetensors").read_bytes() for r in (run, never_stopped)]
    assert final[0] == final[1]


def test_a_full_disk_leaves_the_last_checkpoint_of_sft(
    arpo, domain, write_toml, small_disk: Callable[[int], Path], tmp_path: Path
):
    """As above; once there is room again, the run goes on to the weights of one that always had room."""
    changes: dict[str, Any] = {"num_epochs": 2, "checkpoint": {"every": 2, "keep": 1}}
    arpo.succeed("sft", write_toml(tmp_path / "roomy.toml", domain.sft(tmp_path / "roomy", **changes)))
    last = (tmp_path / "roomy" / "final").resolve().parent
    size = sum(f.stat().st_size for f in last.rglob("*")) // 1024
    run = small_disk(int(size * 1.5) + 40) / "run"
    result = arpo("sft", write_toml(tmp_path / "sft.toml", domain.sft(run, **changes)))
    assert result.code == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert f"arpo sft --resume {run}" in result.stderr
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step_000002"], "nothing half written takes up space"
    small_disk(20 * size)
    arpo.succeed("sft", "--resume", run)
    final = [(r / "final" / "model.safetensors").read_bytes() for r in (run, tmp_path / "roomy")]
    assert final[0] == final[1]


@pytest.mark.parametrize("command", ["train", "sft"])
def test_a_disk_full_from_the_start(arpo, domain, write_toml, small_disk: Callable[[int], Path], tmp_path: Path, command: str):
    run = small_disk(8) / "run"
    config = domain.rl(run) if command == "train" else domain.sft(run, checkpoint={"every": 1})
    result = arpo(command, write_toml(tmp_path / "run.toml", config))
    assert result.code == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "no space left" in result.stderr.lower()
    assert str(run) in result.stderr
