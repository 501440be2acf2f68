"""A real server on loopback that speaks the hub's protocol, and the commands of a user against it."""

import hashlib
import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import pytest
import torch

from arpo.cli.main import main
from arpo.errors import ModelError
from arpo.models.config import ModelConfig
from arpo.models.loading import load_policy
from arpo.models.source import find_model, find_run_model
from arpo.tracking.progress import SilentProgress

NAME = "owner/tiny-model"
COMMIT, OLDER = "a" * 40, "b" * 40
NOT_FETCHED = ("pytorch_model.bin", "modeling.py", "onnx/model.safetensors", "consolidated.safetensors")


@dataclass
class Hub:
    """The repositories by name and revision, and what was asked for."""

    repositories: dict[str, dict[str, Path]]
    """Name -> commit -> folder; the first commit is `main`."""
    gated: bool = False
    asked: list[str] = field(default_factory=list)

    def commit_of(self, name: str, revision: str) -> str | None:
        commits = list(self.repositories[name])
        return commits[0] if revision == "main" else revision if revision in commits else None


class Handler(BaseHTTPRequestHandler):
    """The four requests of a download: model, tree, head and body of a file."""

    hub: Hub

    def do_GET(self) -> None:
        self.hub.asked.append(self.path)
        if found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/(revision|tree)/([^?/]+))?(?:\?.*)?", self.path):
            self._answer_api(found[1], found[2] or "revision", found[3] or "main")
        else:
            self._answer_file()

    do_HEAD = do_GET  # noqa: N815

    def _answer_api(self, name: str, what: str, revision: str) -> None:
        if name not in self.hub.repositories:
            return self._refuse(401, "RepoNotFound")
        commit = self.hub.commit_of(name, revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        folder = self.hub.repositories[name][commit]
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        if what == "revision":
            body: object = {"id": name, "sha": commit, "siblings": [{"rfilename": str(p.relative_to(folder))} for p in files]}
        else:
            body = [
                {"type": "file", "path": str(p.relative_to(folder)), "size": p.stat().st_size, "oid": digest(p)} for p in files
            ]
        self._send(200, json.dumps(body).encode(), {"content-type": "application/json"})

    def _answer_file(self) -> None:
        name, revision, path = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", self.path).groups()  # pyright: ignore
        if self.hub.gated:
            return self._refuse(403, "GatedRepo")
        file = self.hub.repositories[name][revision] / path
        self._send(200, file.read_bytes(), {"etag": f'"{digest(file)}"', "x-repo-commit": revision})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"x-error-code": code, "x-error-message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A cache of its own; the function switches the hub's offline mode on, as HF_HUB_OFFLINE does at the start."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def hub(
    tmp_path: Path, make_tokenizer_directory: Callable[..., Path], make_model, offline, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """A hub with one model at two commits."""
    folders = {COMMIT: tmp_path / "repository", OLDER: tmp_path / "older"}
    for seed, folder in enumerate(folders.values()):
        make_tokenizer_directory(folder, "qwen3")
        make_model(vocab_size=400, seed=seed).save_pretrained(folder, max_shard_size="20KB")
        for name in NOT_FETCHED:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"never to be fetched")
        for name in ("LICENSE", "README.md"):
            (folder / name).write_text(name)
    found = Hub({NAME: folders})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": found}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_network(offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub at a port of loopback where nobody listens."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: "), message
    return message


def test_a_hub_name_is_a_model(hub: Hub):
    directory = find_model(Path(NAME))
    assert directory.name == COMMIT
    ids = torch.arange(10)[None]
    assert torch.equal(load_policy(directory)(ids).logits, load_policy(hub.repositories[NAME][COMMIT])(ids).logits)
    fetched = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert not fetched & set(NOT_FETCHED)
    assert {"LICENSE", "README.md", "tokenizer.json", "config.json", "generation_config.json"} <= fetched


def test_a_second_time_nothing_is_fetched(hub: Hub):
    first = find_model(Path(NAME))
    hub.asked.clear()
    assert find_model(Path(NAME)) == first
    assert not [path for path in hub.asked if "/resolve/" in path]


def test_a_run_records_the_commit_and_goes_on_with_it_without_network(hub: Hub, no_network_later):
    recorded, local = find_run_model(ModelConfig(path=Path(NAME)))
    assert (str(recorded.path), recorded.revision) == (NAME, COMMIT)
    hub.repositories[NAME] = dict(reversed(hub.repositories[NAME].items()))  # main moves on
    assert find_run_model(recorded)[1] == local
    assert find_model(Path(NAME)).name == OLDER
    no_network_later()
    hub.asked.clear()
    assert find_run_model(recorded)[1] == local
    assert hub.asked == []


@pytest.fixture
def no_network_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize("revision", [OLDER, "main"])
def test_revisions(hub: Hub, revision: str):
    assert find_model(Path(NAME), revision).name == (OLDER if revision == OLDER else COMMIT)


def test_offline_mode_takes_what_the_cache_has(hub: Hub, offline, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    directory = find_model(Path(NAME))
    offline()
    hub.asked.clear()
    assert find_model(Path(NAME)) == directory
    message = refusal(capsys, "model", "get", "owner/another", "--out", tmp_path / "out")
    assert [w for w in ("owner/another", "HF_HUB_OFFLINE", "has no copy", "arpo model get") if w not in message] == []
    assert hub.asked == []


def test_a_tokenizer_alone_needs_no_weights_until_they_are_needed(hub: Hub, offline):
    directory = find_model(Path(NAME), needs_weights=False)
    assert not list(directory.glob("*.safetensors"))
    offline()
    assert find_model(Path(NAME), needs_weights=False) == directory
    with pytest.raises(ModelError, match="has only a part of it"):
        find_model(Path(NAME))


def test_without_network(no_network, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    message = refusal(capsys, "model", "get", NAME, "--out", tmp_path / "out")
    assert [w for w in (NAME, "cannot be reached", "ConnectError", "the network", "has no copy") if w not in message] == []
    assert not (tmp_path / "out").exists()


def test_no_such_model(hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    message = refusal(capsys, "model", "get", "runs/typing-error", "--out", tmp_path / "out")
    assert "no such directory or file here, and no model 'runs/typing-error' on the hub" in message


def test_no_such_revision(hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    message = refusal(capsys, "model", "get", NAME, "--revision", "v9", "--out", tmp_path / "out")
    assert f"the hub's {NAME} has no revision 'v9'" in message


def test_a_gated_model(hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    hub.gated = True
    message = refusal(capsys, "model", "get", NAME, "--out", tmp_path / "out")
    assert [w for w in (NAME, "accepted its terms", "HF_TOKEN") if w not in message] == []


def test_a_directory_here_wins_over_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hub.repositories[NAME][OLDER], tmp_path / NAME)
    assert find_model(Path(NAME)) == Path(NAME)
    assert hub.asked == []


def test_a_hub_model_as_a_directory_of_ones_own(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["model", "get", NAME, "--out", str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    model = load_policy(tmp_path / "out", "bfloat16")
    original = load_policy(hub.repositories[NAME][COMMIT]).state_dict()
    assert all(torch.equal(value, original[name].bfloat16()) for name, value in model.state_dict().items())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert (tmp_path / "out" / "LICENSE").read_text() == "LICENSE"
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    message = refusal(capsys, "model", "get", NAME, "--out", tmp_path / "out")
    assert "holds files already; name a new folder" in message
    message = refusal(capsys, "model", "get", NAME, "--out", tmp_path / "new", "--licence", tmp_path / "out" / "LICENSE")
    assert "has no effect, as the model brings a LICENSE of its own" in message


def test_what_a_hub_model_is_needs_none_of_its_weights(hub: Hub, capsys: pytest.CaptureFixture[str]):
    assert main(["model", "show", NAME, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["architecture"] == "Qwen3ForCausalLM"
    assert found["weight_gb"] is None
    assert found["num_parameters"] == sum(p.numel() for p in load_policy(hub.repositories[NAME][COMMIT]).parameters())
    assert not [path for path in hub.asked if path.endswith(".safetensors")]


def test_progress_counts_megabytes(hub: Hub):
    """Two files of 1.5 and 2.5 MB more."""
    for name, size in (("README.md", 1_500_000), ("LICENSE", 2_500_000)):
        (hub.repositories[NAME][COMMIT] / name).write_bytes(b"x" * size)
    phases: list[dict[str, Any]] = []

    class Recorder(SilentProgress):
        @contextmanager
        def phase(self, title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Any]:
            phases.append({"title": title, "total": total, "unit": unit, "done": 0})
            yield self

        def advance(self, n: int = 1, **_: object) -> None:
            phases[-1]["done"] += n

    find_model(Path(NAME), progress=Recorder())
    assert phases == [{"title": f"fetch {NAME}", "total": 4, "unit": "MB", "done": 4}]
