"""Content-addressed SQLite cache for results of deterministic calls."""

from arpo.cache.config import CacheConfig
from arpo.cache.sqlite import Cache, cache_key

__all__ = ["Cache", "CacheConfig", "cache_key"]
