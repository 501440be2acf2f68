"""Runs programs as the cells of a notebook: prints their output, then the value of the last expression."""

import ast
import builtins
import contextlib
import linecache
import os
import re
import sys
import textwrap
import traceback
import types

_MAX_FRAMES = 8
_MAX_REPORT_BYTES = 1 << 20
_FENCE = re.compile(r"\A\s*```[\w+-]*[ \t]*\r?\n|\n[ \t]*```\s*\Z")
"""A first or last line of a Markdown code block, which is none of a program."""
_ADVICE = {
    ">>>": "Write the program without >>> and without its output.",
    "%": "This is Python, not a notebook: a line cannot begin with %, and no package can be installed.",
    "!": "This is Python, not a notebook: a line cannot begin with !, and there is no shell.",
    "```": "Write the program alone, without ``` and without text around it.",
}
"""What to change in a line with a syntax error, by its beginning."""


class Notebook:
    """A fresh `__main__` in which programs run one after another.

    Args:
        report_fd: descriptor that receives the report of a program that raised.
    """

    def __init__(self, report_fd: int) -> None:
        self._report_fd = report_fd
        self._module = types.ModuleType("__main__")
        self._count = 0
        sys.modules["__main__"] = self._module
        builtins.exit = builtins.quit = sys.exit  # pyright: ignore[reportAttributeAccessIssue]

    def run(self, source: str) -> int:
        """Run one program; its exit code, 1 when it raised."""
        source = textwrap.dedent(_FENCE.sub("", source)).strip() + "\n"
        self._count += 1
        # The first program's name has no number: without a session it is the only one.
        name = "<python>" if self._count == 1 else f"<python {self._count}>"
        sys.argv = [name]
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        try:
            _run_cell(source, name, self._module.__dict__)
            sys.stdout.flush()
        except BaseException as error:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
            if isinstance(error, SystemExit) and error.code in (None, 0):
                return 0
            with contextlib.suppress(BaseException):  # e.g. no memory is left for a report
                self._report(error)
            return 1
        return 0

    def _report(self, error: BaseException) -> None:
        """Write the error's report, the last line of the traceback first."""
        report = traceback.TracebackException(type(error), error, error.__traceback__, limit=-_MAX_FRAMES, compact=True)
        # Only the programs' frames: the report must not show paths of this machine.
        report.stack[:] = [frame for frame in report.stack if frame.filename.startswith("<python")]
        lines = list(report.format_exception_only())
        if isinstance(error, SyntaxError):
            line = (error.text or "").lstrip()
            advice = [f"{words}\n" for beginning, words in _ADVICE.items() if line.startswith(beginning)]
            lines = [*lines[-1:], *advice, *lines[:-1]]
        text = "".join(lines)
        if report.stack:
            text += "Traceback (most recent call last):\n" + "".join(report.stack.format())
        data = text.encode("utf-8", "backslashreplace")[:_MAX_REPORT_BYTES]
        _empty(self._report_fd)
        while data:
            data = data[os.write(self._report_fd, data) :]


def run_one(text_fd: int, report_fd: int, go_fd: int) -> int:
    """Run the program in `text_fd` once a byte comes from `go_fd`; its exit code."""
    notebook = _warm_notebook(report_fd)
    if not os.read(go_fd, 1):
        return 0
    source = _read_source(text_fd)
    os.close(text_fd)
    os.close(go_fd)
    return notebook.run(source)


def run_session(text_fd: int, report_fd: int, go_fd: int, done_fd: int) -> int:
    """Run the program in `text_fd` for each byte from `go_fd`; write its exit code to `done_fd` as a byte."""
    notebook = _warm_notebook(report_fd)
    while os.read(go_fd, 1):
        with contextlib.suppress(Exception):
            sys.stdout.flush()  # unwritten output of an earlier program must not become this one's
        for fd in (1, 2, report_fd):
            _empty(fd)
        os.write(done_fd, bytes([notebook.run(_read_source(text_fd))]))
    return 0


def _warm_notebook(report_fd: int) -> Notebook:
    """A fresh notebook, after a warm-up that copies the pages every program writes to."""
    Notebook(report_fd).run("None")
    return Notebook(report_fd)


def _empty(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)


def _read_source(text_fd: int) -> str:
    data = os.pread(text_fd, os.fstat(text_fd).st_size, 0)
    return data.decode("utf-8", "surrogatepass").replace("\r\n", "\n").replace("\r", "\n")


def _run_cell(source: str, name: str, namespace: dict[str, object]) -> None:
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
        if value is not None:
            print(repr(value))
