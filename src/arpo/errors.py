"""One error class per boundary a user can hit; the command line turns each into a message and exit code 2.

A failed tool call, a malformed call or an exhausted budget is *data* on a tree node, not an exception. An exception reports
what a person has to mend. Every message names the key or object, the value received, what is allowed, and what to do.
"""


class ArpoError(Exception):
    """Base of every error arpo raises on purpose."""


class ConfigError(ArpoError, ValueError):
    """A configuration key is unknown, out of range, contradictory or without effect."""


class DataError(ArpoError, ValueError):
    """A file of tasks, conversations, documents or trees is missing, unreadable or malformed."""


class ModelError(ArpoError, ValueError):
    """A model directory lacks weights, or its tokenizer cannot carry the protocol."""


class EngineError(ArpoError, RuntimeError):
    """The inference engine failed or was used after release."""


class ToolError(ArpoError, RuntimeError):
    """A tool cannot be set up on this machine (a failed *call* is a ToolResult, not this)."""


class TrainingError(ArpoError, RuntimeError):
    """Training cannot go on: several consecutive gradients are not finite (a single one is skipped and counted)."""


class EnvError(ArpoError, RuntimeError):
    """An environment broke its contract: its sessions start differently, or it gives no reward where one is required."""


class CheckpointError(ArpoError, RuntimeError):
    """A checkpoint is incomplete, unreadable or could not be written."""


class RunError(ArpoError, RuntimeError):
    """A run directory or an index being built is in use; or a run directory already holds files, or is none."""


class JudgeError(ArpoError, RuntimeError):
    """The judge gave no verdict on any answer of a step (a single missing verdict is counted, not raised)."""
