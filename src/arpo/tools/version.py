"""A tool's version, which the cache's keys hold."""

import hashlib


def make_version(kind: str, *settings: object) -> str:
    """The kind of a tool and a digest of the settings that its results depend on."""
    return f"{kind}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:16]}"
