"""Every path of the public names may be text or a Path."""

import ast
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch

import arpo
import arpo.tracking
import arpo.tree
from arpo.config import Config, load_config
from arpo.models.loading import load_policy
from arpo.models.weights import copy_weights
from arpo.protocols.encoding import PolicyTokenizer
from arpo.tree import RolloutTree

EXAMPLES = Path(__file__).parents[2] / "examples"


def _public() -> Iterator[tuple[str, Any]]:
    """Names of the package, of the two packages a user reads runs with, and what the examples import."""
    names = {f"arpo:{name}" for name in arpo.__all__ if name != "__version__"}
    names |= {f"{package.__name__}:{name}" for package in (arpo.tree, arpo.tracking) for name in package.__all__}
    for file in EXAMPLES.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("arpo"):
                names |= {f"{node.module}:{alias.name}" for alias in node.names}
    return ((name, resolve_name(name)) for name in sorted(names))


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in _public():
        if inspect.isclass(value):
            methods = inspect.getmembers(value, callable)
            yield from ((f"{name}.{key}", m) for key, m in methods if key == "__init__" or not key.startswith("_"))
        elif callable(value):
            yield name, value


def test_no_public_function_asks_for_a_path_alone():
    found = dict[str, str]()
    for name, function in _functions():
        try:
            parameters = inspect.signature(function).parameters.values()
        except (ValueError, TypeError):
            continue
        for parameter in parameters:
            words = str(parameter.annotation)
            if "Path" in words or "path" in parameter.name:
                found[f"{name}({parameter.name})"] = words
    assert len(found) >= 12, "the search finds those we know"
    assert {key: words for key, words in found.items() if "str" not in words and "StrPath" not in words} == {}


@pytest.fixture
def trees(tmp_path: Path) -> list[RolloutTree]:
    task = arpo.Task(id="t", messages=(arpo.Message(role="user", content="q"),), references=("a",), source="s")
    return [RolloutTree.from_prompt(task, [1, 2])]


def both(function: Callable[[Any], Any], path: Path, read: Callable[[Any], Any] = lambda value: value) -> Any:
    """The result for the text, which must be that for the Path."""
    given = [read(function(form)) for form in (path, str(path))]
    assert given[0] == given[1]
    return given[1]


def test_files_are_read_and_written_alike(tmp_path: Path, trees: list[RolloutTree]):
    for number, suffix in enumerate((".jsonl", ".jsonl.zst")):
        file = tmp_path / f"t{number}{suffix}"
        for form in (file, str(file)):
            arpo.tree.write_trees(form, trees)
            if suffix.endswith("zst"):
                arpo.tree.append_tree(form, trees[0])
                arpo.tree.drop_torn_tree(form)
        both(arpo.read_trees, file, lambda read: [arpo.tree.tree_to_dict(tree) for tree in read])
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"question": "1+1", "answer": "2"}) + "\n")
    assert both(arpo.read_tasks, tmp_path / "tasks.jsonl", lambda read: len(read.tasks)) == 1
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 0.5}\n')
    assert both(arpo.tracking.read_metrics, tmp_path) == [{"step": 1, "train/loss": 0.5}]
    for form in (tmp_path / "run", str(tmp_path / "run")):
        with arpo.tracking.Tracker(form, arpo.tracking.TrackingConfig()) as tracker:
            tracker.log(1, {"train/loss": 0.25})
    for form in (tmp_path / "none.jsonl", str(tmp_path / "none.jsonl")):
        for read in (arpo.read_trees, lambda path: arpo.read_tasks(path).tasks):
            with pytest.raises(arpo.ArpoError, match=r"none\.jsonl: no such file"):
                list(read(form))


def test_configurations_take_both(tmp_path: Path):
    (tmp_path / "rl.toml").write_text('out = "o"\ntasks = "t.jsonl"\nmodel.path = "m"\nreward.rule = "r.py:f"\n')
    run = both(lambda path: load_config(arpo.RlRun, path, ["agent.tools.python={}"]), tmp_path / "rl.toml")
    assert run.reward.rule == f"{tmp_path / 'r.py'}:f"
    keys: dict[str, dict[str, Any]] = {
        "RlRun": {"tasks": "t", "model": {"path": "m"}, "agent": {}}, "SftRun": {"data": "d", "model": {"path": "m"}},
        "EvalRun": {"tasks": "t", "model": {"path": "m"}, "agent": {}},
        "RolloutRun": {"tasks": "t", "model": {"path": "m"}, "agent": {}},
    }  # fmt: skip
    runs = {name for name, value in _public() if inspect.isclass(value) and issubclass(value, Config)}
    assert {f"arpo:{name}" for name in keys} <= runs
    for name, others in keys.items():
        texts = {"out": "o", **others}
        paths = {key: Path(value) if isinstance(value, str) else value for key, value in texts.items()}
        paths["model"] = {"path": Path("m")}
        assert getattr(arpo, name)(**texts) == getattr(arpo, name)(**paths)


def test_models_are_read_alike(model_folder: Path):
    assert both(PolicyTokenizer.load, model_folder, lambda tokenizer: tokenizer.vocab_size) > 0
    model = both(load_policy, model_folder, lambda model: [parameter.sum().item() for parameter in model.parameters()])
    changed = load_policy(str(model_folder))
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.zero_()
    copy_weights(str(model_folder), changed)
    assert [parameter.sum().item() for parameter in changed.parameters()] == model


@pytest.fixture
def model_folder(tmp_path: Path, make_tokenizer_directory: Callable[..., Path]) -> Path:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = make_tokenizer_directory(tmp_path / "model", "qwen3")
    config = Qwen3Config(
        vocab_size=PolicyTokenizer.load(folder).vocab_size, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, head_dim=16, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder
