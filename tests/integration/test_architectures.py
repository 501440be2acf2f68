"""Any Hugging Face directory of the families goes through sft, train and eval; the tags are several tokens each."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from arpo.protocols.encoding import PolicyTokenizer
from arpo.tree import read_trees

FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"tie_word_embeddings": False}),
    "llama3": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False, "rope_theta": 500000.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("style", FAMILIES)
def test_sft_train_eval(arpo, domain, write_toml, make_tokenizer_directory, tmp_path: Path, style: str):
    policy = make_tokenizer_directory(tmp_path / "policy", style)
    tokenizer = PolicyTokenizer.load(policy)
    assert len(tokenizer.encode_markup("<search>")) > 1
    make_config, make_model, settings = FAMILIES[style]
    torch.manual_seed(0)
    config = make_config(
        vocab_size=tokenizer.vocab_size + 5, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, **settings,
    )  # fmt: skip
    make_model(config).to(torch.bfloat16).save_pretrained(policy)

    agent = domain.agent | {"limits": {"max_turn_tokens": 48, "max_trajectory_tokens": 200}}
    sft = domain.sft(tmp_path / "sft", model={"path": str(policy)}, num_epochs=3)
    arpo.succeed("sft", write_toml(tmp_path / "sft.toml", sft))
    rl = domain.rl(tmp_path / "rl", model={"path": str(tmp_path / "sft" / "final")}, agent=agent, num_steps=2)
    rl["optimizer"] = {"learning_rate": 1e-3}
    arpo.succeed("train", write_toml(tmp_path / "rl.toml", rl))
    evaluation = domain.evaluation(tmp_path / "eval", model={"path": str(tmp_path / "rl" / "best")}, agent=agent, num_tasks=2)
    arpo.succeed("eval", write_toml(tmp_path / "eval.toml", evaluation))

    losses = [json.loads(line)["sft/loss"] for line in (tmp_path / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]
    rows = [json.loads(line) for line in (tmp_path / "rl" / "metrics.jsonl").read_text().splitlines()]
    assert max(row["train/mismatch_kl"] for row in rows) < 1e-6
    for tree in read_trees(tmp_path / "rl" / "rollouts" / "step_000001.jsonl.zst"):
        assert len(tree.leaves()) == 4
        assert tokenizer.decode(tree.root.token_ids) == tree.root.text
    records = (tmp_path / "eval" / "records.jsonl").read_text().splitlines()
    assert len(records) == 2 * (1 + 2)
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "rl" / "final")
    assert type(trained) is make_model
    assert trained.config.vocab_size == tokenizer.vocab_size + 5


WINDOWS = {
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, {"layer_types": ["sliding_attention", "full_attention"]}),
    "mistral": (MistralConfig, MistralForCausalLM, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", WINDOWS)
def test_windows_train_flat_and_sample_in_process(
    arpo, domain, write_toml, make_tokenizer_directory, tmp_path: Path, family: str
):
    """Two steps of RL and an evaluation of a model whose layers see 16 tokens; its log-probs agree, and trees are refused."""
    policy = make_tokenizer_directory(tmp_path / "policy", "llama3")
    make_config, make_model, settings = WINDOWS[family]
    torch.manual_seed(0)
    config = make_config(
        vocab_size=PolicyTokenizer.load(policy).vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=512, sliding_window=16, **settings,
    )  # fmt: skip
    make_model(config).save_pretrained(policy)
    agent = domain.agent | {"limits": {"max_turn_tokens": 24, "max_trajectory_tokens": 200}}
    rl = domain.rl(tmp_path / "rl", model={"path": str(policy)}, agent=agent, num_steps=2, batching={"packing": "flat"})
    rl |= {"loss": {"entropy_coefficient": 0.01}}  # so that groups of equal rewards train too
    trained = arpo.succeed("train", write_toml(tmp_path / "rl.toml", rl))
    assert trained.stderr.count("so that its sequences are computed one by one") == 1
    rows = [json.loads(line) for line in (tmp_path / "rl" / "metrics.jsonl").read_text().splitlines()]
    assert max(row["train/mismatch_kl"] for row in rows) < 1e-6
    evaluation = domain.evaluation(tmp_path / "eval", model={"path": str(tmp_path / "rl" / "best")}, agent=agent, num_tasks=2)
    arpo.succeed("eval", write_toml(tmp_path / "eval.toml", evaluation))
    tree = domain.rl(tmp_path / "tree", model={"path": str(policy)}, agent=agent, num_steps=2)
    refused = arpo("train", write_toml(tmp_path / "tree.toml", tree))
    assert refused.code == 2
    assert 'set batching.packing = "flat"' in refused.stderr
