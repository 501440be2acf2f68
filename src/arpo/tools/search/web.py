"""Search through a web search service."""

from collections.abc import Sequence

from arpo.clients.http import HttpClient, HttpError
from arpo.clients.keys import ApiKey
from arpo.tools.search.config import WebSourceConfig
from arpo.tools.search.hits import Hit, clean
from arpo.tools.search.providers import PROVIDERS
from arpo.tools.version import make_version


class WebSearch:
    """Finds pages of the web; drops results without text and repeated texts.

    Raises:
        ConfigError: the environment variable of the service's key is not set.
    """

    is_local = False

    def __init__(self, config: WebSourceConfig) -> None:
        provider = PROVIDERS[config.provider]
        key, headers = None, {}
        if provider.key_variable is not None:
            variable = config.api_key_env or provider.key_variable
            key = ApiKey.from_environment(variable, f"search.provider = {config.provider!r}")
            headers = provider.headers(key.value)
        self._config = config
        self._provider = provider
        self._url = config.url or provider.url
        self._client = HttpClient(config.provider, config.http, headers, key)
        self.is_cacheable = config.cacheable
        self.version = make_version(config.provider, self._url, config.language, config.country)

    async def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """At most `top_k` pages, in the service's order."""
        request = self._provider.request(self._url, query, top_k, self._config)
        try:
            reply = await self._client.request_json(request.method, request.url, params=request.params, body=request.body)
        except HttpError as error:
            if self._config.provider == "searxng" and error.status in (200, 403):  # a page, or a refusal, in place of JSON
                raise HttpError(
                    f"{error}; its settings.yml must have search.formats: [html, json]", status=error.status
                ) from None
            raise
        try:
            hits = self._provider.read(reply)
        except (LookupError, TypeError, AttributeError):
            keys = f"the keys {list(reply)[:10]}" if isinstance(reply, dict) else f"a {type(reply).__name__}"
            raise HttpError(f"{self._config.provider}: the reply holds no results; it is JSON with {keys}") from None
        by_text = {clean(hit.text): hit for hit in reversed(hits) if hit.text.strip()}
        return list(reversed(by_text.values()))[:top_k]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
