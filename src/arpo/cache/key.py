"""The key of a cached result: a call's tool, the tool's version and the arguments."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ANY_VERSION = "*"
"""Version of imported results, which answer calls of every version of their tool."""


@dataclass(frozen=True)
class CacheKey:
    """Key of a call; `cache_key` makes it."""

    name: str
    """Name of the tool."""
    version: str
    """Version of the tool: its code and configuration."""
    arguments: str
    """Arguments as canonical JSON: keys sorted, no blanks."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the three fields, in hexadecimal."""
        return hashlib.sha256(json.dumps([self.name, self.version, self.arguments]).encode()).hexdigest()

    def after(self, call_path: str) -> str:
        """The call path that ends with this call: a digest of `call_path`, the calls before it, and of the key.

        Example:
            key.after("") == key.after("") != key.after(key.after(""))
        """
        return hashlib.sha256(f"{call_path} {self.digest}".encode()).hexdigest()


def cache_key(name: str, version: str, arguments: Mapping[str, Any]) -> CacheKey:
    """The key of a call; it depends on the arguments' values and types, not on their order.

    Raises:
        TypeError: an argument is not JSON.

    Example:
        cache_key("search", "1", {"query": "x", "k": 3}) == cache_key("search", "1", {"k": 3, "query": "x"})
    """
    return CacheKey(name, version, json.dumps(arguments, sort_keys=True, separators=(",", ":")))
