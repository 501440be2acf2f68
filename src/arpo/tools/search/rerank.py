"""Re-ranking by meaning: orders BM25 hits by the similarity of their encoding to the query's."""

import asyncio
import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from arpo.errors import ToolError
from arpo.tools.search.config import RerankConfig
from arpo.tools.search.hits import Hit
from arpo.tools.search.tool import SearchSource
from arpo.tools.version import make_version

if TYPE_CHECKING:
    import torch


class RerankedSource:
    """The best `config.candidates` hits of another source, best first by the cosine of query and passage.

    sentence-transformers makes the vectors, with the pooling its folder names, else the mean over tokens. A passage is the
    title and the shown text. Equal cosines keep the source's order. A hit's score is its cosine.

    Args:
        source: source of the candidates.
        config: the encoder and the number of candidates.

    Raises:
        ConfigError: this machine does not have `config.device`.
        ToolError: the extra `dense` is missing, or `config.encoder` holds no encoder.
    """

    def __init__(self, source: SearchSource, config: RerankConfig) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise ToolError(
                "search.rerank: re-ranking needs the package sentence-transformers; install the extra: "
                "pip install 'arpo[dense]', or remove the section"
            )
        if not (config.encoder / "config.json").is_file():
            raise ToolError(f"search.rerank.encoder = {config.encoder}: no encoder here (no config.json); name its folder")
        from arpo.models.device import require_device

        device = require_device(config.device, "search.rerank.device")
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

        self._source = source
        self._config = config
        self._encoder = SentenceTransformer(str(config.encoder), device=device, local_files_only=True)
        self.is_local = source.is_local
        self.is_cacheable = source.is_cacheable
        texts = (config.candidates, config.query_prefix, config.passage_prefix)
        self.version = make_version("rerank", source.version, _digest(config.encoder), *texts)

    async def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """At most `top_k` of the candidates; a thread orders them."""
        hits = await self._source.find(query, max(top_k, self._config.candidates))
        return await asyncio.to_thread(self._order, query, hits, top_k) if hits else hits

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()

    def _order(self, query: str, hits: Sequence[Hit], top_k: int) -> list[Hit]:
        passages = [f"{self._config.passage_prefix}{hit.title} {hit.text}".strip() for hit in hits]
        query_vector, *vectors = self._encode([f"{self._config.query_prefix}{query}", *passages])
        scored = [replace(hit, score=float(query_vector @ vector)) for hit, vector in zip(hits, vectors, strict=True)]
        return sorted(scored, key=lambda hit: -(hit.score or 0.0))[:top_k]

    def _encode(self, texts: list[str]) -> "torch.Tensor":
        return self._encoder.encode(texts, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)


def _digest(folder: Path) -> str:
    """SHA-256 of every file of the encoder and its path in the folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
