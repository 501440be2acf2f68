"""Exported policies, loaded by transformers as any other model: the same greedy tokens as the policy that was trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from arpo.cli.main import main
from arpo.models.config import LoraConfig, TrainedModelConfig
from arpo.models.loading import load_policy, load_trained_policy
from arpo.protocols.encoding import PolicyTokenizer
from arpo.training.checkpoint import Checkpoints, TrainerState
from arpo.training.config import OptimizerConfig
from arpo.training.optimizer import build_optimizer

PROMPT = [3, 11, 7, 42]
LENGTH = 24


@pytest.fixture(scope="module")
def base(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy with a licence, a card and settings for sampling, as models of the hub have them."""
    folder = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(policy, folder)
    (folder / "LICENSE").write_text("Apache")
    (folder / "README.md").write_text("card")
    settings = {"temperature": 0.6, "top_p": 0.95, "eos_token_id": [1, 2], "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


def trained(model: PreTrainedModel) -> PreTrainedModel:
    """The model after an update that moves every trained weight."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return model


@torch.no_grad()
def greedy(model: PreTrainedModel) -> list[int]:
    """The most likely continuation, each token from the whole text before it."""
    ids = list(PROMPT)
    for _ in range(LENGTH):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


def make_run(folder: Path, base: Path, lora: LoraConfig | None, dtype: str = "float32", *, as_model: bool = True):
    """A run directory with one checkpoint; returns its policy."""
    config = TrainedModelConfig.model_validate({"path": base, "dtype": dtype, "lora": lora})
    model = trained(load_trained_policy(config, seed=0))
    checkpoints = Checkpoints(folder, base, keep=2)
    optimizer = build_optimizer(model, OptimizerConfig())
    checkpoints.save(model, optimizer, TrainerState(step=4), as_model=as_model)
    sections: dict[str, Any] = {"model": {"path": str(base), "dtype": dtype}}
    if lora is not None:
        sections["model"]["lora"] = {"rank": lora.rank, "alpha": lora.alpha}
    (folder / "config.toml").write_text(tomli_w.dumps(sections))
    return model


def export(*arguments: object) -> None:
    assert main(["export", *map(str, arguments)]) == 0


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["export", *map(str, arguments)]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: "), message
    return message


def test_a_run_trained_in_full(base: Path, tmp_path: Path):
    model = make_run(tmp_path / "run", base, None)
    Checkpoints(tmp_path / "run", base, keep=2).link("best", 4)
    export(tmp_path / "run", "--out", tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype is torch.float32
    assert greedy(loaded) == greedy(model)
    assert (
        loaded.generate(torch.tensor([PROMPT]), do_sample=False, max_new_tokens=4, eos_token_id=None)[0].tolist()
        == (greedy(model)[: len(PROMPT) + 4])
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("the town").input_ids
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"LICENSE", "README.md", "tokenizer.json", "generation_config.json"} <= files
    assert not files & {"trainer", "adapter", "model"}
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [1, 2]
    assert settings["temperature"] == 0.6


@pytest.mark.parametrize("as_model", [True, False], ids=["merged", "adapter alone"])
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_a_run_with_an_adapter(base: Path, tmp_path: Path, as_model: bool, dtype: str | None):
    pytest.importorskip("peft")
    model = make_run(tmp_path / "run", base, LoraConfig(rank=2), as_model=as_model)
    export(tmp_path / "run", "--out", tmp_path / "out", *(["--dtype", dtype] if dtype else []))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype is getattr(torch, dtype or "float32")
    assert (tmp_path / "out" / "LICENSE").read_text() == "Apache"
    ids = torch.tensor([PROMPT])
    if dtype != "bfloat16":
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)
        assert greedy(loaded) == greedy(model)
    expected = dict(load_policy(base).named_parameters())
    assert any(not torch.equal(p.float(), expected[n]) for n, p in loaded.named_parameters()), "the adapter is in it"


def test_an_adapter_is_merged_in_float32_and_rounded_once(base: Path, tmp_path: Path):
    """A base in bfloat16, exported in float32: base + scale · B A to float32's precision, not to bfloat16's."""
    pytest.importorskip("peft")
    model = make_run(tmp_path / "run", base, LoraConfig(rank=2, alpha=2.0), dtype="bfloat16")
    export(tmp_path / "run", "--out", tmp_path / "out", "--dtype", "float32")
    export(tmp_path / "run", "--out", tmp_path / "half")
    name = "model.layers.1.mlp.down_proj"
    layer = model.get_submodule(name)
    delta = layer.lora_B["default"].weight @ layer.lora_A["default"].weight  # alpha / rank = 1
    original = load_policy(base).get_submodule(name).weight
    found = load_policy(tmp_path / "out").get_submodule(name).weight
    torch.testing.assert_close(found, original + delta, atol=1e-6, rtol=1e-6)
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert half.dtype is torch.bfloat16
    assert torch.equal(half.get_submodule(name).weight, (original.bfloat16() + delta).bfloat16())


def test_which_checkpoint(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """best, else final, else the newest; or the one that is named."""
    run = tmp_path / "run"
    make_run(run, base, None)
    checkpoints = Checkpoints(run, base, keep=5)
    model = trained(load_policy(base))
    for step in (8, 12):
        trained(model)
        checkpoints.save(model, build_optimizer(model, OptimizerConfig()), TrainerState(step=step))
    weights = {
        step: (run / "checkpoints" / f"step_{step:06d}" / "model" / "model.safetensors").read_bytes() for step in (4, 8, 12)
    }

    def exported(name: str, *options: object) -> int:
        export(run, "--out", tmp_path / name, *options)
        content = (tmp_path / name / "model.safetensors").read_bytes()
        return next(step for step, expected in weights.items() if content == expected)

    assert exported("newest") == 12
    checkpoints.link("final", 8)
    assert exported("final") == 8
    checkpoints.link("best", 4)
    assert exported("best") == 4
    assert exported("named", "--checkpoint", "step_000012") == 12
    assert exported("link", "--checkpoint", "final") == 8
    assert exported("path", "--checkpoint", run / "checkpoints" / "step_000008") == 8
    message = refusal(capsys, run, "--out", tmp_path / "no", "--checkpoint", "step_000099")
    assert "--checkpoint step_000099: no such checkpoint" in message
    assert "best, final, step_000004, step_000008, step_000012" in message
    assert not (tmp_path / "no").exists()


def test_a_model_directory_in_another_format_and_in_shards(base: Path, tmp_path: Path):
    export(base, "--out", tmp_path / "out", "--dtype", "bfloat16", "--shard-gb", "0.00001")
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 2
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype is torch.bfloat16
    expected = load_policy(base, "bfloat16").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


def test_an_adapter_of_peft(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As peft saves it, with a scale that depends on the root of the rank and layers of its own choice."""
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "down_proj"])
    torch.manual_seed(3)
    adapted = peft.get_peft_model(load_policy(base), settings)
    trained(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    export(tmp_path / "adapter", "--base", base, "--out", tmp_path / "out")
    ids = torch.tensor([PROMPT])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(loaded(ids).logits, adapted(ids).logits, atol=1e-5, rtol=1e-4)
    message = refusal(capsys, tmp_path / "adapter", "--base", "no_such_model", "--out", tmp_path / "no")
    assert "--base no_such_model: no such directory or file here" in message


def test_what_cannot_be_exported(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_tokenizer_directory: Callable[..., Path]
):
    out = tmp_path / "out"
    empty = tmp_path / "empty_run"
    empty.mkdir()
    (empty / "config.toml").write_text("")
    cases = {
        (empty, "--out", out): [str(empty), "no checkpoint yet"],
        (tmp_path / "nothing", "--out", out): ["nothing", "no such directory"],
        (base, "--out", out, "--checkpoint", "best"): ["--checkpoint best: has no effect", "no run directory"],
        (base, "--out", out, "--base", "x"): ["--base x: has no effect", "no adapter"],
        (base, "--out", out, "--shard-gb", "0"): ["--shard-gb 0: must be above 0"],
        (base, "--out", base): [f"--out {base}: holds files already", "new folder"],
        (make_tokenizer_directory(tmp_path / "tokenizer", "qwen3"), "--out", out): ["tokenizer", "no configuration"],
    }
    for arguments, words in cases.items():
        message = refusal(capsys, *arguments)
        assert [word for word in words if word not in message] == [], message
        assert not out.exists()


def test_an_adapter_alone_without_its_base(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("peft")
    make_run(tmp_path / "run", base, LoraConfig(rank=2), as_model=False)
    shutil.copytree(tmp_path / "run" / "checkpoints" / "step_000004" / "adapter", tmp_path / "adapter")
    assert "does not say which model it belongs to; name that with --base" in refusal(
        capsys, tmp_path / "adapter", "--out", tmp_path / "out"
    )
    export(tmp_path / "adapter", "--base", base, "--out", tmp_path / "out")
    (tmp_path / "run" / "config.toml").write_text(tomli_w.dumps({"model": {"path": "moved_away"}}))
    assert "model.path = 'moved_away'" in refusal(capsys, tmp_path / "run", "--out", tmp_path / "new")
    export(tmp_path / "run", "--base", base, "--out", tmp_path / "new")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "new" / "model.safetensors").read_bytes()


@pytest.mark.vllm
@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)], ids=["full", "lora"])
def test_vllm_gives_the_same_greedy_tokens(
    make_tokenizer_directory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: LoraConfig | None
):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    vllm = pytest.importorskip("vllm")
    if lora is not None:
        pytest.importorskip("peft")
    base = make_tokenizer_directory(tmp_path / "base", "qwen3")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=PolicyTokenizer.load(base).vocab_size, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=128, initializer_range=0.1,
        tie_word_embeddings=True,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(base)
    model = make_run(tmp_path / "run", base, lora, as_model=False)
    export(tmp_path / "run", "--out", tmp_path / "out")
    engine = vllm.LLM(
        model=str(tmp_path / "out"), dtype="float32", enforce_eager=True, max_model_len=128, gpu_memory_utilization=0.1
    )
    sampling = vllm.SamplingParams(temperature=0, max_tokens=LENGTH, ignore_eos=True, detokenize=False)
    (answer,) = engine.generate({"prompt_token_ids": PROMPT}, sampling, use_tqdm=False)
    assert [*PROMPT, *answer.outputs[0].token_ids] == greedy(model)
