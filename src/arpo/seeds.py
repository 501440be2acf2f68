"""Seeds of random streams, derived from names so that no stream depends on what else runs."""

from hashlib import blake2b


def derive_seed(*parts: object) -> int:
    """A 64-bit seed that depends on every part and on nothing else.

    Example: derive_seed(7, "task-3", (0, 2)) names the stream of path (0, 2) of that task in run 7.
    """
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "big")
