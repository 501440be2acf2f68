"""The random policies of the benchmarks: the quickstart's, and one of 20 M parameters."""

from pathlib import Path
from random import Random

from arpo.models.config import TinyPolicyConfig
from arpo.world.tiny_policy import make_tiny_policy

POLICIES = {
    "tiny": TinyPolicyConfig(),
    "20m": TinyPolicyConfig(
        hidden_size=384, num_layers=8, num_heads=6, head_dim=64, intermediate_size=1536, initializer_range=0.02
    ),
}
"""By the name in the results."""


def write_policy(name: str, out: Path) -> Path:
    """Write the named policy, with a tokenizer of made-up words, as a Hugging Face directory."""
    random = Random(0)
    words = ["".join(random.choices("abcdefghiklmnoprstuvwxyz", k=random.randint(2, 9))) for _ in range(2000)]
    make_tiny_policy(out, [" ".join(random.choices(words, k=20)) for _ in range(500)], POLICIES[name], seed=0)
    return out
