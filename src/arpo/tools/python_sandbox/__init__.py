"""The `python` tool: programs written by the model, run in a sandbox and never outside one (docs/security.md)."""

from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.python_sandbox.isolation import describe_isolation
from arpo.tools.python_sandbox.sandbox import PythonSandbox

__all__ = ["PythonSandbox", "PythonSandboxConfig", "describe_isolation"]
