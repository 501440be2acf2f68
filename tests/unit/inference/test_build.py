"""Which engine a configuration gives, and what it refuses."""

import sys
from pathlib import Path
from typing import get_args

import pytest

from arpo.config import parse_config
from arpo.errors import ConfigError
from arpo.evaluation.config import EvalRun
from arpo.inference.build import ENGINES, PolicySource, build_engine
from arpo.inference.config import EngineConfig, TransformersEngineConfig, VllmEngineConfig
from arpo.inference.transformers_engine import TransformersEngine
from arpo.models.config import ModelConfig
from arpo.protocols.encoding import PolicyTokenizer


@pytest.fixture
def policy_directory(make_model, qwen_directory: Path, tmp_path: Path) -> Path:
    make_model(vocab_size=400).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((qwen_directory / name).read_bytes())
    return tmp_path


def policy_of(config: ModelConfig) -> PolicySource:
    return PolicySource(config=config, tokenizer=PolicyTokenizer.load(config.path), max_tokens=64)


def test_every_engine_that_can_be_named_can_be_built() -> None:
    kinds = get_args(get_args(EngineConfig)[0])
    assert ENGINES.keys() == {kind.model_fields["type"].default for kind in kinds}


def test_the_in_process_engine_loads_the_model_when_none_is_shared(policy_directory: Path) -> None:
    engine = build_engine(TransformersEngineConfig(), policy_of(ModelConfig(path=policy_directory)))
    assert isinstance(engine, TransformersEngine)


def test_vllm_names_what_to_install(policy_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "arpo.inference.vllm_engine", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'arpo\[vllm\]'"):
        build_engine(VllmEngineConfig(), policy_of(ModelConfig(path=policy_directory)))


def test_vllm_has_no_float64(policy_directory: Path) -> None:
    model = ModelConfig(path=policy_directory, dtype="float64")
    with pytest.raises(ConfigError, match=r"model.dtype = 'float64'"):
        build_engine(VllmEngineConfig(), policy_of(model))


def test_an_engine_computes_in_the_format_of_the_model_unless_it_has_its_own() -> None:
    assert VllmEngineConfig(dtype="float32").computes_in("float64") == "float32"
    assert VllmEngineConfig().computes_in("bfloat16") == "bfloat16"
    assert TransformersEngineConfig().computes_in("float64") == "float64"


def test_batches_of_fixed_composition_are_refused_of_vllm() -> None:
    run = {"out": "o", "model": {"path": "m"}, "tasks": "t", "agent": {}, "engine": {"type": "vllm"}}
    with pytest.raises(ConfigError, match=r"deterministic = true with engine.type = 'vllm'.*set deterministic = false"):
        parse_config(EvalRun, run, source="test")
    assert parse_config(EvalRun, {**run, "deterministic": False}, source="test").engine.type == "vllm"
