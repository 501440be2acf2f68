from collections.abc import Iterator

import pytest

from arpo.errors import ToolError
from arpo.tools.python_sandbox import PythonSandbox, PythonSandboxConfig


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PythonSandbox]:
    try:
        yield PythonSandbox(PythonSandboxConfig())
    except ToolError as error:
        pytest.skip(str(error))
