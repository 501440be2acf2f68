"""Configuration of the search tool."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from arpo.clients.config import ChatConfig, HttpConfig, KeyVariable, ServiceUrl
from arpo.conditions import only_with, other_than
from arpo.config import Config
from arpo.tools.browse.config import FetchConfig


class ResultConfig(Config):
    """How many pages a search returns, and in which form."""

    top_k: int = Field(default=3, ge=1, le=100)
    """Most pages one call returns."""
    max_snippet_chars: int = Field(default=1000, ge=20)
    """Longest text of one page, in characters; what is longer is cut and the result marked as truncated."""
    format: Literal["pages", "json"] = "pages"
    """`pages`: lines `Page 1: <text>`, as in the papers; `json`: one object a line with `rank`, `title`, `url` or `id`, and
    `text`."""
    summary: ChatConfig | None = None
    """The model that condenses the pages to what helps with the question; None returns the pages themselves."""


class RerankConfig(Config):
    """Re-ranking by meaning: an encoder orders the best hits of the word search. Needs the extra `dense`."""

    encoder: Path
    """Folder of a sentence-transformers model, or of a text encoder as transformers saves it."""
    candidates: int = Field(default=50, ge=1, le=1000)
    """Best hits of the word search that are ordered anew; never fewer than are shown."""
    query_prefix: str = ""
    """What the encoder wants before a query, e.g. `query: ` for E5."""
    passage_prefix: str = ""
    """What the encoder wants before a passage, e.g. `passage: ` for E5."""
    device: str = "cpu"
    """Where the encoder runs, as torch names it."""


class LocalSearchConfig(ResultConfig):
    """BM25 search over an index on this machine, made by `arpo index build`."""

    type: Literal["local"] = "local"
    """`local`: an index on this machine; needs no key and no network. What a section without a type means."""
    index: Path
    """Folder of the index."""
    title_weight: float = Field(default=1.0, ge=0)
    """Factor of a title's BM25 score; 0 leaves titles out."""
    text_weight: float = Field(default=1.0, ge=0)
    """Factor of a text's BM25 score; 0 leaves texts out."""
    snippets: Literal["start", "best"] = "start"
    """Which part of a long text is shown: its start, or the part that holds most of the query's words."""
    rerank: RerankConfig | None = None
    """Orders the best hits by meaning; None keeps the order of BM25."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.title_weight == self.text_weight == 0:
            raise ValueError("title_weight = 0 and text_weight = 0 leave nothing to search; raise one of them")
        return self


class HttpSearchConfig(ResultConfig):
    """A retriever's server that speaks the Search-R1 protocol, e.g. `arpo index serve`."""

    type: Literal["http"] = "http"
    """`http`: POST `{"queries": [...], "topk": k, "return_scores": true}` to `url`."""
    url: ServiceUrl = "http://127.0.0.1:8000/retrieve"
    """Address of the server, its path included."""
    cacheable: bool = True
    """True: an equal query may be answered from the cache of `tools.cache`, where `max_age_s` lets results expire."""
    http: HttpConfig = HttpConfig()
    """How the server is called."""


class WebSourceConfig(Config):
    """A web search service. Its key stands in an environment variable."""

    provider: Literal["searxng", "brave", "serper", "tavily", "brightdata"]
    """`searxng`: your own server, no key; `brave`, `serper`, `tavily`; `brightdata`: Bing through Bright Data, as in the
    papers."""
    url: ServiceUrl | None = None
    """Address of the service; None means the provider's own. SearXNG has none: give your server's."""
    api_key_env: Annotated[KeyVariable | None, only_with(provider=other_than("searxng"))] = None
    """Name of the environment variable that holds the key; None means the provider's: BRAVE_API_KEY, SERPER_API_KEY,
    TAVILY_API_KEY, BRIGHTDATA_API_KEY."""
    language: Annotated[str, only_with(provider=other_than("tavily"))] = Field(default="en", pattern=r"^[a-z]{2}$")
    """Language of the results, two letters."""
    country: Annotated[str, only_with(provider=other_than("tavily"))] = Field(default="us", pattern=r"^[a-z]{2}$")
    """Country of the search, two letters."""
    zone: Annotated[str | None, only_with(provider="brightdata")] = None
    """Zone of the account."""
    cacheable: bool = True
    """True: an equal query may be answered from the cache of `tools.cache`, where `max_age_s` lets results expire."""
    http: HttpConfig = HttpConfig()
    """How the service is called."""

    @model_validator(mode="after")
    def _check_provider(self) -> Self:
        if self.provider == "searxng" and self.url is None:
            raise ValueError("provider = 'searxng' needs the address of your server; set url, e.g. http://localhost:8080")
        if self.provider == "brightdata" and self.zone is None:
            raise ValueError("provider = 'brightdata' needs the zone of your account; set zone")
        return self


class WebSearchConfig(WebSourceConfig, ResultConfig):
    """A web search service's results as they are."""

    type: Literal["web"] = "web"
    """`web`: the snippets of a web search service."""


class DeepSearchConfig(WebSourceConfig):
    """The papers' deep search: search the web, fetch every page found, keep what surrounds its snippet, summarise."""

    type: Literal["deep"] = "deep"
    """`deep`: the pages that a web search service finds, read."""
    top_k: int = Field(default=10, ge=1, le=100)
    """Most pages one call reads."""
    context_chars: int = Field(default=6000, ge=100)
    """Characters kept of a page around its snippet, half before and half behind."""
    start_chars: int = Field(default=6000, ge=100)
    """Characters kept of a page's start, where the snippet is not found in it."""
    format: Literal["pages", "json"] = "pages"
    """Form of the documents, as for the other types of search."""
    fetch: FetchConfig = FetchConfig()
    """How pages are fetched."""
    summary: ChatConfig | None = None
    """The model that condenses the documents to what helps with the question; None returns the documents themselves."""


SearchConfig = LocalSearchConfig | HttpSearchConfig | WebSearchConfig | DeepSearchConfig
