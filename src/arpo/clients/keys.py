"""Keys of remote services, read from the environment and never shown."""

import os
from dataclasses import dataclass, field

from arpo.errors import ConfigError

_HIDDEN = "***"
_SHORTEST = 8


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key; its `repr` shows the variable, not the value."""

    variable: str
    """The environment variable that holds it."""
    value: str = field(repr=False)
    """The key."""

    @classmethod
    def from_environment(cls, variable: str, needed_by: str) -> "ApiKey":
        """The key that `variable` holds; errors name `needed_by`.

        Raises:
            ConfigError: the variable is not set, is shorter than 8 characters, or holds characters no header can carry.
        """
        value = os.environ.get(variable, "").strip()
        if not value:
            raise ConfigError(f"{needed_by}: the environment variable {variable} is not set; put the key there")
        if len(value) < _SHORTEST:  # removing it from replies would leave holes in innocent words
            raise ConfigError(
                f"{needed_by}: the environment variable {variable} holds {len(value)} characters; no key is so short"
            )
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"{needed_by}: the environment variable {variable} holds characters that no key has")
        return cls(variable, value)

    def redact(self, text: bytes) -> bytes:
        """The text with the key in it replaced by `***`."""
        return text.replace(self.value.encode(), _HIDDEN.encode())
