"""Configuration of the search tool."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from arpo.clients.config import ChatConfig, HttpConfig, KeyVariable, ServiceUrl
from arpo.conditions import only_with, other_than
from arpo.config import Config
from arpo.models.config import DeviceName
from arpo.tools.browse.config import FetchConfig


class ResultConfig(Config):
    """Number and format of the pages that a search returns."""

    top_k: int = Field(default=3, ge=1, le=100)
    """Most pages of one call."""
    max_snippet_chars: int = Field(default=1000, ge=20)
    """Most characters of one page's text; a longer text is cut and the result marked as truncated."""
    format: Literal["pages", "json"] = "pages"
    """`pages`: lines `Page 1: <text>`, as in the papers; `json`: one object per line with `rank`, `title`, `url` or `id`, and
    `text`."""
    summary: ChatConfig | None = None
    """Model that condenses the pages to what helps with the question; None returns the pages."""


class RerankConfig(Config):
    """Re-ranking by meaning: an encoder orders the best BM25 hits. Needs the extra `dense`."""

    short_for = "encoder"

    encoder: Path = Field(examples=["intfloat/e5-base-v2"])
    """Folder of a sentence-transformers model, or of a text encoder in the transformers format."""
    candidates: int = Field(default=50, ge=1, le=1000)
    """Number of BM25 hits to re-rank; at least `top_k` are taken."""
    query_prefix: str = ""
    """Text the encoder needs before a query, e.g. `query: ` for E5."""
    passage_prefix: str = ""
    """Text the encoder needs before a passage, e.g. `passage: ` for E5."""
    device: DeviceName = "auto"
    """Device of the encoder, as `model.device`: `auto`, `cpu`, `cuda`, `cuda:0`, `cuda:1` and so on."""


class LocalSearchConfig(ResultConfig):
    """BM25 search over an index on this machine, made by `arpo index build`."""

    short_for = "index"

    type: Literal["local"] = "local"
    """`local`: an index on this machine; needs no key and no network. The default of a section without a type."""
    index: Path = Field(examples=["runs/index"])
    """Folder of the index."""
    title_weight: float = Field(default=1.0, ge=0)
    """Factor of a title's BM25 score; 0 ignores titles."""
    text_weight: float = Field(default=1.0, ge=0)
    """Factor of a text's BM25 score; 0 ignores texts."""
    snippets: Literal["start", "best"] = "start"
    """Part of a long text to show: its start, or the part with most of the query's words."""
    rerank: RerankConfig | None = None
    """Re-ranking of the best hits by meaning; None keeps the BM25 order."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.title_weight == self.text_weight == 0:
            raise ValueError("title_weight = 0 and text_weight = 0 leave nothing to search; raise one of them")
        return self


class HttpSearchConfig(ResultConfig):
    """A retrieval server with the Search-R1 protocol, e.g. `arpo index serve`."""

    type: Literal["http"] = "http"
    """`http`: POST `{"queries": [...], "topk": k, "return_scores": true}` to `url`."""
    url: ServiceUrl = "http://127.0.0.1:8000/retrieve"
    """Address of the server, path included."""
    cacheable: bool = True
    """True: the cache of `tools.cache` may answer an equal query; its `max_age_s` lets results expire."""
    http: HttpConfig = HttpConfig()
    """Limits of the requests."""


class WebSourceConfig(Config):
    """A web search service, whose key an environment variable holds."""

    provider: Literal["searxng", "brave", "serper", "tavily", "brightdata"] = Field(examples=["brave"])
    """`searxng`: your own server, no key; `brave`, `serper`, `tavily`; `brightdata`: Bing through Bright Data, as in the
    papers."""
    url: ServiceUrl | None = None
    """Address of the service; None: the provider's default. SearXNG has no default: set your server's address."""
    api_key_env: Annotated[KeyVariable | None, only_with(provider=other_than("searxng"))] = None
    """Name of the environment variable that holds the key; None: the provider's default BRAVE_API_KEY, SERPER_API_KEY,
    TAVILY_API_KEY or BRIGHTDATA_API_KEY."""
    language: Annotated[str, only_with(provider=other_than("tavily"))] = Field(default="en", pattern=r"^[a-z]{2}$")
    """Language of the results, two letters."""
    country: Annotated[str, only_with(provider=other_than("tavily"))] = Field(default="us", pattern=r"^[a-z]{2}$")
    """Country of the search, two letters."""
    zone: Annotated[str | None, only_with(provider="brightdata")] = None
    """Zone of the account."""
    cacheable: bool = True
    """True: the cache of `tools.cache` may answer an equal query; its `max_age_s` lets results expire."""
    http: HttpConfig = HttpConfig()
    """Limits of the requests."""

    @model_validator(mode="after")
    def _check_provider(self) -> Self:
        if self.provider == "searxng" and self.url is None:
            raise ValueError("provider = 'searxng' needs the address of your server; set url, e.g. http://localhost:8080")
        if self.provider == "brightdata" and self.zone is None:
            raise ValueError("provider = 'brightdata' needs the zone of your account; set zone")
        return self


class WebSearchConfig(WebSourceConfig, ResultConfig):
    """The results of a web search service."""

    type: Literal["web"] = "web"
    """`web`: the snippets of a web search service."""


class DeepSearchConfig(WebSourceConfig):
    """The papers' deep search: searches the web, fetches every page, cuts it to the text around its snippet, summarises."""

    type: Literal["deep"] = "deep"
    """`deep`: the text of the pages that a web search service finds."""
    top_k: int = Field(default=10, ge=1, le=100)
    """Most pages of one call."""
    context_chars: int = Field(default=6000, ge=100)
    """Characters of a page around its snippet, half before and half after it."""
    start_chars: int = Field(default=6000, ge=100)
    """Characters from a page's start, used when the page does not contain the snippet."""
    format: Literal["pages", "json"] = "pages"
    """Format of the documents, as for the other types of search."""
    fetch: FetchConfig = FetchConfig()
    """How pages are fetched."""
    summary: ChatConfig | None = None
    """Model that condenses the documents to what helps with the question; None returns the documents."""


SearchConfig = LocalSearchConfig | HttpSearchConfig | WebSearchConfig | DeepSearchConfig
