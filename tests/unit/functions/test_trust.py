"""Code that came with a model or a data set is never run, whatever way it is named."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arpo.errors import ConfigError
from arpo.function_name import FunctionName
from arpo.functions.loading import load_function
from arpo.rewards.build import build_reward
from arpo.rewards.config import RewardConfig
from arpo.tools.build import build_tools, tool_schemas
from arpo.tools.config import ToolsConfig

HUB_ATTRIBUTES = "*.7z filter=lfs diff=lfs merge=lfs -text\n*.ftz filter=lfs diff=lfs merge=lfs -text\n"
SNAPSHOT = "models--owner--name/snapshots/0123abc"


def put(path: Path, text: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def model_directory(folder: Path) -> Path:
    put(folder / "config.json", '{"model_type": "qwen3"}')
    return folder


DOWNLOADS: dict[str, Callable[[Path], Path]] = {
    "a snapshot of the hub's cache": lambda root: root / "hf" / "hub" / SNAPSHOT,
    "a folder in a snapshot": lambda root: root / "hf" / "hub" / SNAPSHOT / "code" / "deep",
    "another place of the cache": lambda root: root / "cache" / "datasets--owner--name" / "snapshots" / "1" / "data",
    "the hub's cache by its own variable": lambda root: root / "hub_cache" / "anything",
    "modules of transformers": lambda root: root / "hf" / "modules" / "transformers_modules" / "owner",
    "files of the cache of data sets": lambda root: root / "hf_datasets" / "x",
    "hf download --local-dir": lambda root: put(root / "d/.cache/huggingface/download/sub/evil.py.metadata").parents[4] / "sub",
    "a clone": lambda root: put(root / "d/.git/config", "\turl = https://huggingface.co/o/n\n").parents[1] / "s",
    "a snapshot without the hub's marks but its attributes": lambda root: put(root / "d/.gitattributes", HUB_ATTRIBUTES).parent,
    "below such a snapshot": lambda root: put(root / "d/.gitattributes", HUB_ATTRIBUTES).parent / "x" / "y",
    "a model directory": lambda root: model_directory(root / "m"),
    "below a model directory": lambda root: model_directory(root / "m") / "custom_generate",
    "an adapter": lambda root: put(root / "a/adapter_config.json").parent / "code",
    "beside weights": lambda root: put(root / "w/model-00001-of-00002.safetensors").parent,
    "beside a GGUF file": lambda root: put(root / "w/smol.gguf").parent,
    "beside pickled weights": lambda root: put(root / "w/pytorch_model.bin").parent,
    "a data set of datasets": lambda root: put(root / "s/dataset_info.json").parent,
    "a split of a data set": lambda root: put(root / "s/dataset_dict.json").parent / "train",
    "beside arrow shards": lambda root: put(root / "s/data-00000-of-00001.arrow").parent,
    "a data set with its card": lambda root: put(root / "s/README.md", "---\nlicense: mit\nconfigs:\n---\n").parent,
    "a model with its card": lambda root: put(root / "s/README.md", "---\nbase_model: o/n\n---\n# Model\n").parent / "code",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf_datasets"))
    monkeypatch.delattr(sys, "arpo_was_run", raising=False)
    return tmp_path


EVIL = 'import sys\nsys.arpo_was_run = True\ndef evil(t: str = "") -> str:\n    "A tool."\n    return "1"\n'


def refused(run: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="never run") as error:
        run()
    assert "\n" not in str(error.value)
    assert not hasattr(sys, "arpo_was_run")


@pytest.mark.parametrize("kind", DOWNLOADS)
def test_a_downloaded_file_is_never_run(root: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    folder = DOWNLOADS[kind](root)
    file = put(folder / "evil.py", EVIL)
    own = root / "own"
    own.mkdir()
    (own / "link.py").symlink_to(file)
    (own / "folder").symlink_to(folder, target_is_directory=True)
    put(own / "helped.py", "import link\n\ndef evil(t): return 1\n")
    names = [file, own / "link.py", own / "folder" / "evil.py", own / "folder" / ".." / "evil.py", own / "helped.py"]
    for path in names:
        if path.exists():
            refused(lambda path=path: build_reward(RewardConfig(rule=f"{path}:evil")))
            refused(lambda path=path: build_tools(ToolsConfig(functions={"evil": f"{path}:evil"})))
            refused(lambda path=path: tool_schemas(ToolsConfig(functions={"evil": f"{path}:evil"})))
    monkeypatch.chdir(folder)
    refused(lambda: build_reward(RewardConfig(rule="evil.py:evil")))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    refused(lambda: build_reward(RewardConfig(rule="evil:evil")))
    if (folder.parent / ".cache").is_dir():
        return  # what `hf download` does not list there was added by hand
    monkeypatch.delitem(sys.modules, "evil_package", raising=False)
    put(folder / "evil_package" / "__init__.py", EVIL)
    put(folder / "evil_package" / "deep.py", EVIL)
    refused(lambda: build_reward(RewardConfig(rule="evil_package.deep:evil")))


def test_what_a_download_holds_is_not_run_even_where_its_import_may_fail(root: Path):
    """A file of one's own that tries to import a downloaded one and goes on without it."""
    put(model_directory(root / "m") / "evil.py", EVIL)
    own = root / "own"
    own.mkdir()
    (own / "evil.py").symlink_to(root / "m" / "evil.py")
    put(own / "mine.py", "try:\n    import evil\nexcept Exception:\n    evil = None\ndef f(t): return 0\n")
    assert build_reward(RewardConfig(rule=f"{own / 'mine.py'}:f")) is not None
    assert not hasattr(sys, "arpo_was_run")


@pytest.mark.parametrize(
    "neighbour",
    ["tasks.jsonl", "train.parquet", "rl.toml", "runs/a/checkpoints/step_000002/model/model.safetensors", "README.md",
     "models/smol/model.safetensors", ".git/config", "config.json", "data/dataset_info.json"],
)  # fmt: skip
def test_a_file_of_ones_own_is_run_beside_data_and_above_models(root: Path, neighbour: str):
    put(root / "own" / neighbour, "---\ntitle: mine\n---\nbase_model: none\n")
    file = put(root / "own" / "mine.py", "def f(t): return 3\n")
    assert load_function(FunctionName(str(file), "f"), "x").value(None) == 3
