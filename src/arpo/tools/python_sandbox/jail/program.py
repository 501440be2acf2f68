"""Runs one program as a notebook cell would: what it prints, then the value of its last expression."""

import ast
import builtins
import contextlib
import linecache
import os
import random
import sys
import textwrap
import traceback
import types

FILENAME = "<python>"
_MAX_FRAMES = 8
_MAX_REPORT_BYTES = 1 << 20


def run(source: str) -> int:
    """Run `source` in a fresh `__main__`; the exit code, 1 when it raised (the report is then all of standard error)."""
    source = textwrap.dedent(source).strip() + "\n"
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [FILENAME]
    linecache.cache[FILENAME] = (len(source), None, source.splitlines(keepends=True), FILENAME)
    builtins.exit = builtins.quit = sys.exit  # pyright: ignore[reportAttributeAccessIssue]
    random.seed(0)
    try:
        _run_cell(source, module.__dict__)
        sys.stdout.flush()
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            sys.stdout.flush()
            return 0
        with contextlib.suppress(BaseException):  # no memory is left for a report, say
            _report(error)
        return 1
    return 0


def _run_cell(source: str, namespace: dict[str, object]) -> None:
    tree = ast.parse(source, FILENAME)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, FILENAME, "exec"), namespace)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), FILENAME, "eval"), namespace)
        if value is not None:
            print(repr(value))


def _report(error: BaseException) -> None:
    """Write the error to standard error in place of all that stood there, the last line of the traceback first."""
    report = traceback.TracebackException(type(error), error, error.__traceback__, limit=-_MAX_FRAMES, compact=True)
    # Only the program's own frames: where a library lies on this machine is nobody's business.
    report.stack[:] = [frame for frame in report.stack if frame.filename == FILENAME]
    lines = list(report.format_exception_only())
    if isinstance(error, SyntaxError):
        lines = [*lines[-1:], *lines[:-1]]
    text = "".join(lines)
    if report.stack:
        text += "Traceback (most recent call last):\n" + "".join(report.stack.format())
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)
    data = text.encode("utf-8", "backslashreplace")[:_MAX_REPORT_BYTES]
    while data:
        data = data[os.write(2, data) :]
