"""How a configuration names a function of one's own: `FILE.py:NAME` or `package.module:NAME`."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import AfterValidator

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
FORMS = "FILE.py:NAME or package.module:NAME"


@dataclass(frozen=True, slots=True)
class FunctionName:
    """The name of a function, taken apart."""

    source: str
    """Path of a Python file, or a dotted module."""
    name: str
    """Name in it."""

    @classmethod
    def parse(cls, text: str) -> "FunctionName":
        """The parts of a text.

        Raises:
            ValueError: the text names no function; the message says how to write it.

        Example:
            FunctionName.parse("my_reward.py:correct")  # -> FunctionName(source="my_reward.py", name="correct")
        """
        source, colon, name = text.rpartition(":")
        if not colon and text.endswith(".py"):
            raise ValueError(f"names a file without a function in it; write {text}:NAME")
        if "://" in text:
            raise ValueError("is an address, and only files of this machine are run; write FILE.py:NAME")
        if not colon or not source or not name.isidentifier():
            raise ValueError(f"names no function; write {FORMS}")
        if not source.endswith(".py") and not _MODULE.fullmatch(source):
            raise ValueError(f"names neither a .py file nor a module before the colon; write {FORMS}")
        return cls(source, name)

    @property
    def is_file(self) -> bool:
        """Whether the source is a file, not a module."""
        return self.source.endswith(".py")

    def within(self, folder: Path) -> "FunctionName":
        """The name with its file's path relative to `folder` made absolute."""
        if not self.is_file:
            return self
        return FunctionName(os.path.abspath(folder / os.path.expanduser(self.source)), self.name)

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"


@dataclass(frozen=True, slots=True)
class FunctionKey:
    """Metadata of a configuration field whose text, or each of whose texts by name, may name a function."""

    def map(self, value: Any, change: Callable[[FunctionName], FunctionName]) -> Any:
        """The value with `change` applied to each name of a function in it; what names none stays."""
        if isinstance(value, dict):
            return {key: self.map(inner, change) for key, inner in cast(dict[Any, Any], value).items()}
        if not isinstance(value, str):
            return value
        try:
            name = FunctionName.parse(value)
        except ValueError:
            return value
        return str(change(name))


def check_function(text: str) -> str:
    """The name of a function with its file's path made absolute.

    Raises:
        ValueError: as `FunctionName.parse`.
    """
    return str(FunctionName.parse(text).within(Path.cwd()))


FunctionText = Annotated[str, AfterValidator(check_function)]
"""The text of a `FunctionName`; a relative path counts from the working directory (`load_config`: from the file)."""
