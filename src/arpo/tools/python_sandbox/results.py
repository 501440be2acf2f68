"""The tool result of a program's outcome."""

import signal

from arpo.tools.python_sandbox.config import PythonSandboxConfig
from arpo.tools.python_sandbox.zygote import Captured, Outcome
from arpo.types import ToolResult


def to_result(outcome: Outcome, config: PythonSandboxConfig) -> ToolResult:
    """The result of a program.

    It holds the output, then the standard error under a heading. A failed program's result begins with the last line of its
    traceback, then the rest of it. A stream that was cut ends with a mark.
    """
    streams = (outcome.report, outcome.output, outcome.errors)
    report, output, errors = (_shown(stream, config) for stream in streams)
    truncated = any(stream.was_cut for stream in streams)
    standard_error = f"Standard error:\n{errors}" if errors else ""
    if outcome.exit_code == 0 and outcome.stopped is None:
        content = "\n".join(part for part in (output.rstrip("\n"), standard_error.rstrip("\n")) if part)
        return ToolResult(content=content, truncated=truncated)
    parts = [_failure(outcome, report, config).strip(), f"Printed before:\n{output}" if output else "", standard_error]
    status = "timeout" if outcome.stopped in ("wall", "cpu") else "error"
    return ToolResult(content="\n".join(part for part in parts if part), status=status, truncated=truncated)


def _shown(stream: Captured, config: PythonSandboxConfig) -> str:
    return f"{stream.text}\n[cut at {config.max_output_bytes} bytes]\n" if stream.was_cut else stream.text


def _failure(outcome: Outcome, report: str, config: PythonSandboxConfig) -> str:
    match outcome.stopped:
        case "wall":
            return f"TimeoutError: the program was stopped after {config.wall_s:g} s"
        case "cpu":
            return f"TimeoutError: the program was stopped after {config.cpu_s} s of processor time"
        case "scratch":
            return f"OSError: the program's files exceeded {config.scratch_mb} MiB"
        case None:
            pass
    if outcome.jail_failed:
        return "The Python sandbox could not be set up, so the program did not run."
    if outcome.exit_code == 1 and report:
        return report
    if outcome.exit_code < 0:
        return f"The program was ended by {_signal_name(-outcome.exit_code)}.\n{report}"
    return f"The program ended with exit code {outcome.exit_code}.\n{report}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
