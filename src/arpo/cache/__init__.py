"""Content-addressed SQLite cache: keeps results of deterministic calls and records every call of a run."""

from arpo.cache.config import CacheConfig, CacheMode
from arpo.cache.key import ANY_VERSION, CacheKey, cache_key
from arpo.cache.sqlite import Cache, CacheStatistics, Entry

__all__ = ["ANY_VERSION", "Cache", "CacheConfig", "CacheKey", "CacheMode", "CacheStatistics", "Entry", "cache_key"]
