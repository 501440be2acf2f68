"""What a person gets wrong comes back as one message and exit code 2, through the real command line."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

import arpo
from arpo.cli import main as cli
from arpo.cli.main import main
from arpo.world.config import WorldConfig

ARPO = [sys.executable, "-m", "arpo.cli.main"]


def _error(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    return captured.err


def test_the_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"arpo {arpo.__version__}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]):
    name = {"evaluate": "eval"}.get(command, command)
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"examples:\n  arpo {name}" in capsys.readouterr().out


def test_an_unknown_key_names_the_nearest_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "world"
    message = _error(capsys, "world", "make", "--out", str(out), "--num_person=30")
    assert "num_person: unknown key; did you mean 'num_persons'?" in message
    assert not out.exists()


def test_a_value_out_of_range_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    message = _error(capsys, "world", "make", "--out", str(tmp_path / "w"), "--misleading_share", "1.5")
    assert "misleading_share = 1.5" in message


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "none.jsonl" in _error(capsys, "index", "build", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "i"))
    assert "none.toml" in _error(capsys, "train", str(tmp_path / "none.toml"))
    assert "none" in _error(capsys, "view", str(tmp_path / "none"))


def test_a_folder_for_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert str(tmp_path) in _error(capsys, "sft", f"{tmp_path}/x.toml")


def test_a_wrong_key_in_a_file_names_file_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "rl.toml"
    path.write_text("[rollout]\ngroup_sise = 8\n")
    message = _error(capsys, "train", str(path))
    assert str(path) in message
    assert "did you mean 'rollout.group_size'?" in message


def test_no_recipe_says_how_to_name_one(capsys: pytest.CaptureFixture[str]):
    assert "arpo train quickstart" in _error(capsys, "train")


def test_resume_takes_a_run_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "not a run directory" in _error(capsys, "train", "--resume", str(tmp_path))
    assert "'--seed=3' has no place" in _error(capsys, "train", "--resume", str(tmp_path), "--seed=3")


def test_a_dry_run_prints_what_can_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "quickstart", "--rollout.group_size", "4", "--rollout.num_initial_trajectories=2", "--dry-run"]) == 0
    resolved = capsys.readouterr().out
    assert "group_size = 4" in resolved
    path = tmp_path / "rl.toml"
    path.write_text(resolved)
    assert main(["train", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out == resolved


def test_config_docs_name_key_default_and_meaning(capsys: pytest.CaptureFixture[str]):
    assert main(["config", "docs", "world"]) == 0
    text = capsys.readouterr().out
    assert "--misleading_share=  float  [0.35]" in text
    assert "Share of (entity, attribute) pairs" in text
    assert main(["config", "docs", "world", "--markdown"]) == 0
    assert f"- `num_persons` `int` = `{WorldConfig().num_persons}`: People." in capsys.readouterr().out


def test_an_argument_of_no_command_is_refused():
    result = subprocess.run([*ARPO, "doctor", "--fast"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--fast" in result.stderr


def test_a_full_disk_is_one_message():
    with open("/dev/full", "w") as full:
        result = subprocess.run([*ARPO, "config", "docs", "world"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "error: standard output: no space left on the device; free some space and run again\n"


def test_a_closed_pipe_ends_quietly():
    process = subprocess.Popen([*ARPO, "config", "docs", "world"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EMFILE, "ulimit -n"), (errno.EACCES, "Permission denied")],
)
def test_what_the_system_refuses_is_named(number: int, words: str):
    assert words in cli.explain_os_error(OSError(number, "Permission denied", "x/y"))
    assert cli.explain_os_error(OSError(number, "Permission denied", "x/y")).startswith("x/y: ")


def test_quickstart_leaves_a_strangers_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "thesis.tex").write_text("x")
    assert "not written by `arpo quickstart`" in _error(capsys, "quickstart", "--out", str(tmp_path), "--overwrite")
    assert (tmp_path / "thesis.tex").read_text() == "x"


def test_quickstart_does_not_mix_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "quickstart.json").write_text(json.dumps({"world": {"fingerprint": "of another seed", "seconds": 1.0}}))
    message = _error(capsys, "quickstart", "--out", str(tmp_path), "--seed", "1")
    assert "'world'" in message
    assert "--overwrite" in message


def test_a_tool_by_hand_runs_in_the_sandbox(capsys: pytest.CaptureFixture[str]):
    assert main(["tool", "call", "python", "print(2**10)"]) == 0
    assert capsys.readouterr().out.startswith("1024\n[success, ")
    assert main(["tool", "call", "python", "while True: pass", "--python.wall_s=0.3"]) == 1
    assert "[timeout, " in capsys.readouterr().out
    assert "search.index" in _error(capsys, "tool", "call", "search", "Ada Moor")


def test_index_and_search_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"title": "Ada Moor", "text": "Ada Moor was born in Kelford."}\n')
    assert main(["index", "build", str(corpus), "--out", str(tmp_path / "index")]) == 0
    assert "documents  1\n" in capsys.readouterr().out
    assert main(["tool", "call", "search", "moor", f"--search.index={tmp_path / 'index'}"]) == 0
    assert capsys.readouterr().out.startswith("Page 1: Ada Moor was born in Kelford.\n[success, ")
    for key in ("tools.search.index", "agent.tools.search.index"):
        assert main(["tool", "call", "search", "moor", f"--{key}={tmp_path / 'index'}"]) == 0


@pytest.fixture
def tools_file(tmp_path: Path) -> Path:
    server = Path(__file__).parents[1] / "tools" / "mcp" / "lying_server.py"
    file = tmp_path / "run.toml"
    file.write_text(
        'out = "runs/x"\n[agent.protocol]\ntype = "hermes"\n[agent.tools.python]\nwall_s = 5.0\n'
        f"[agent.tools.mcp.hand]\ncommand = {json.dumps(sys.executable)}\nargs = [{json.dumps(str(server))}, 'nothing']\n"
    )
    return file


def test_every_configured_tool_is_listed_and_can_be_called(tools_file: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("mcp")
    assert main(["tool", "list", "--config", str(tools_file)]) == 0
    listed = capsys.readouterr().out
    assert "python\n  Run a Python program" in listed
    assert "echo\n  Echoes.\n  text (string)\n  results are not cached\n" in listed
    assert main(["tool", "call", "echo", "--arguments", '{"text": "hello"}', "--config", str(tools_file)]) == 0
    assert capsys.readouterr().out.startswith("hello\n[success, ")
    assert main(["tool", "call", "echo", "hello", "--config", str(tools_file)]) == 0
    assert capsys.readouterr().out.startswith("hello\n[success, ")
    assert main(["tool", "call", "echo", "--config", str(tools_file)]) == 1
    told = "echo: 'text' is a required property. The arguments are: text (string).\n[error, "
    assert capsys.readouterr().out.startswith(told)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["call", "foo"], "there is no tool 'foo'; the configuration has: python"),
        (["call", "python", "--arguments", "[1]"], "--arguments '[1]': write a JSON object"),
        (["call", "python", "--arguments", "{"], "--arguments '{': not valid JSON"),
        (["call", "python", "1", "--arguments", "{}"], "not both"),
        (["call", "python", ""], "the text for 'python' is empty"),
        (["list", "--python.wal_s=1"], "python.wal_s: unknown key"),
    ],
)
def test_a_call_by_hand_that_cannot_be_is_explained(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "run.toml").write_text("[tools.python]\n")
    assert words in _error(capsys, "tool", *arguments, "--config", str(tmp_path / "run.toml"))


def test_tools_by_hand_need_a_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "run.toml").write_text("seed = 1\n")
    assert "neither a section [agent.tools] nor [tools]" in _error(
        capsys, "tool", "list", "--config", str(tmp_path / "run.toml")
    )
    assert "no tool is configured" in _error(capsys, "tool", "list")
    assert "no-such-server" in _error(capsys, "tool", "list", "--mcp.s.command=no-such-server")


def test_the_configuration_page_is_current(capsys: pytest.CaptureFixture[str]):
    page = Path(__file__).parents[3] / "docs" / "config.md"
    assert main(["config", "docs", "--markdown"]) == 0
    assert capsys.readouterr().out == page.read_text(encoding="utf-8"), "run `make docs`"
