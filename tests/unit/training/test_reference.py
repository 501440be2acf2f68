"""The frozen policy of KL terms."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.config import parse_config
from arpo.errors import ModelError
from arpo.models.loading import load_policy, save_policy
from arpo.models.policy import PolicyModel
from arpo.models.vocabulary import masked_rows
from arpo.training.config import RlRun
from arpo.training.reference import Reference


@pytest.fixture
def config_of(policy: Path, tmp_path: Path):
    """The configuration of a run with a KL term."""

    def make(**kl: Any) -> RlRun:
        data = {
            "out": tmp_path, "tasks": tmp_path, "model": {"path": policy}, "loss": {"kl": {"coefficient": 0.1} | kl},
            "agent": {"protocol": {"tools": [], "system_prompt": ""}, "limits": {"max_trajectory_tokens": 15}},
            "batching": {"max_tokens": 15},
        }  # fmt: skip
        return parse_config(RlRun, data, "test")

    return make


def test_another_model_may_be_the_reference(config_of, policy: Path, make_tree, tmp_path: Path):
    """k1 by hand from the stock model's log-probs, leaf by leaf; the budget cuts each tree, which changes nothing."""
    other = load_policy(policy)
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(0.5)  # pyright: ignore[reportOperatorIssue]
    save_policy(other, policy, tmp_path / "other")
    stock = load_policy(tmp_path / "other")
    trees = [make_tree(), make_tree(name="u", first_id=60)]
    expected = []
    with torch.no_grad():
        for trajectory in [t for tree in trees for t in tree.trajectories()]:
            ids = torch.tensor(trajectory.token_ids)
            logprobs = stock(input_ids=ids.unsqueeze(0)).logits[0].log_softmax(-1)[:-1].gather(-1, ids[1:, None]).squeeze(-1)
            expected.append(float((-1 - logprobs[torch.tensor(trajectory.loss_mask[1:])]).sum()))

    reference = Reference(config_of(reference=tmp_path / "other"), PolicyModel(load_policy(policy)))
    found = reference.reward_kl(trees)
    assert [len(sums) for sums in found.leaf_sums] == [3, 3]
    assert torch.cat(found.leaf_sums).tolist() == pytest.approx(expected, rel=1e-5)
    for tree, sums, of_nodes in zip(trees, found.leaf_sums, found.token_values, strict=True):
        assert [len(kl) for kl in of_nodes] == [len(node.token_ids) * node.is_sampled for node in tree.nodes]
        by_path = [sum(float(of_nodes[node.id].sum()) for node in tree.path(leaf)) for leaf in tree.leaves()]
        assert by_path == pytest.approx(sums.tolist(), rel=1e-9)
    assert not any(p.requires_grad for p in reference.policy.parameters())


def test_a_reference_of_another_vocabulary_is_refused(config_of, policy: Path, tmp_path: Path):
    shutil.copytree(policy, tmp_path / "larger")
    settings = Qwen3Config.from_pretrained(policy)
    settings.vocab_size += 8
    Qwen3ForCausalLM(settings).save_pretrained(tmp_path / "larger")
    with pytest.raises(ModelError, match=r"loss\.kl\.reference = .*larger.* name a model with the policy's tokenizer"):
        Reference(config_of(reference=tmp_path / "larger"), PolicyModel(load_policy(policy)))


def test_the_reference_gives_a_log_prob_to_all_that_the_policy_can_sample(config_of, policy: Path, tmp_path: Path):
    """The policy's tokenizer has a token more than the reference's, in a row that both models have."""
    shutil.copytree(policy, tmp_path / "other")
    tokenizer = Tokenizer.from_file(str(policy / "tokenizer.json"))
    last = tokenizer.get_vocab_size()
    assert tokenizer.add_tokens(["<extra>"]) == 1
    settings = Qwen3Config.from_pretrained(policy)
    settings.vocab_size = last + 8
    for directory in (policy, tmp_path / "other"):
        torch.manual_seed(0)
        Qwen3ForCausalLM(settings).save_pretrained(tmp_path / directory.name)
    shutil.copyfile(policy / "tokenizer_config.json", tmp_path / policy.name / "tokenizer_config.json")
    tokenizer.save(str(tmp_path / policy.name / "tokenizer.json"))
    config = config_of(reference=tmp_path / "other")
    config = config.model_copy(update={"model": config.model.model_copy(update={"path": tmp_path / policy.name})})
    reference = Reference(config, PolicyModel(load_policy(config.model.path)))
    rows = masked_rows(reference.policy.network)
    assert rows is not None
    assert rows.tolist() == list(range(last + 1, last + 8))
