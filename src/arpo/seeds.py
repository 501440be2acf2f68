"""Seeds of random streams, derived from names, so that streams do not depend on each other."""

from hashlib import blake2b


def derive_seed(*parts: object) -> int:
    """A 64-bit seed that depends on the parts alone.

    Example: derive_seed(7, "task-3", (0, 2)) names the stream of path (0, 2) of that task in run 7.
    """
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "big")
