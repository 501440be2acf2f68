"""The `python` tool: runs the model's programs in a sandbox only (docs/security.md)."""

from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.python_sandbox.isolation import describe_isolation
from arpo.tools.python_sandbox.sandbox import PythonSandbox

__all__ = ["PythonSandbox", "PythonSandboxConfig", "describe_isolation"]
