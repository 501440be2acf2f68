"""What the `python` tool gives back, and how it lives, dies and is replaced."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import arpo.tools.python_sandbox
from arpo.errors import ToolError
from arpo.tools.base import Tool
from arpo.tools.python_sandbox import PythonSandbox, PythonSandboxConfig, describe_isolation

from .conftest import descendants, open_sandbox, processes_of, zygote_of

PACKAGE = Path(arpo.tools.python_sandbox.__file__).parent

PROGRAMS = {
    "printed": ("print('a'); print('b')", "a\nb"),
    "last value": ("x = 6\nx * 7", "42"),
    "last value is a string": ("'a' + 'b'", "'ab'"),
    "printed, then last value": ("print('a')\n[1]", "a\n[1]"),
    "no value": ("x = 1", ""),
    "None is not shown": ("print('a')", "a"),
    "empty": ("", ""),
    "comment": ("# nothing", ""),
    "spaces around": ("  print(1)  ", "1"),
    "indented block": ("\n    x = 2\n    if x:\n        print(x)\n", "2"),
    "code block": ("```python\nprint(2**10)\n```", "1024"),
    "code block that is indented": ("\n  ```py\n  if 1:\n      print('a')\n  ```\n", "a"),
    "code block without an end": ("```\nprint('a')", "a"),
    "code block without a beginning": ("print('a')\n```\n", "a"),
    "code block in a text": ("s = '''\n```python\nx\n```\n'''\ns", "'\\n```python\\nx\\n```\\n'"),
    "definitions see each other": ("def f(n): return 1 if n < 2 else n * f(n - 1)\nf(5)", "120"),
    "comprehension sees the module": ("k = 2\n[k * i for i in range(3)]", "[0, 2, 4]"),
    "main": ("__name__", "'__main__'"),
    "own file": ("open('a.txt', 'w').write('hi')\nopen('a.txt').read()", "'hi'"),
    "temporary file": ("import tempfile\nwith tempfile.NamedTemporaryFile() as f: f.write(b'x')", ""),
    "unicode": ("print('Zürich 数')", "Zürich 数"),
    "half a surrogate pair": ("print('\\ud800')", "\\ud800"),
    "end": ("print('a'); exit()\nprint('b')", "a"),
    "class with a dataclass": ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(1)", "P(x=1)"),
    "alarm": ("import signal\nsignal.alarm(0)", "0"),
    "time zone": ("from zoneinfo import ZoneInfo\nZoneInfo('UTC').key", "'UTC'"),
    "order of a set": ("list({'a', 'b', 'c'}) == list({'a', 'b', 'c'})", "True"),
}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_program_gives_what_a_notebook_cell_shows(name: str, sandbox: PythonSandbox):
    program, content = PROGRAMS[name]
    result = await sandbox.run({"code": program})
    assert (result.status, result.content, result.truncated) == ("success", content, False)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (">>> print(1)\n1", "without >>>"), ("x = 1\n%pip install numpy", "a line cannot begin with %"),
        ("!ls", "a line cannot begin with !"), ("x = 1\n```python\nx\n```\nthat is it", "without ```"),
    ],
)  # fmt: skip
async def test_what_is_no_program_comes_back_with_what_to_change(sandbox: PythonSandbox, program: str, words: str):
    result = await sandbox.run({"code": program})
    assert result.status == "error"
    assert result.content.startswith("SyntaxError: ")
    assert words in result.content.splitlines()[1]


async def test_error_comes_with_the_last_line_of_its_traceback_first(sandbox: PythonSandbox):
    result = await sandbox.run({"code": "print('so far')\nx = 0\n1 / x"})
    assert result.status == "error"
    assert result.content == (
        "ZeroDivisionError: division by zero\n"
        "Traceback (most recent call last):\n"
        '  File "<python>", line 3, in <module>\n'
        "    1 / x\n"
        "    ~~^~~\n"
        "Printed before:\nso far\n"
    )


@pytest.mark.parametrize(
    ("program", "first_line"),
    [
        ("x = = 1", "SyntaxError: invalid syntax"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("input()", "EOFError: EOF when reading a line"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("import os; os._exit(7)", "The program ended with exit code 7."),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("'\0'", "SyntaxError: source code string cannot contain null bytes"),
        ("import json; json.loads('{')", "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes"),
    ],
)
async def test_failures_say_why(program: str, first_line: str, sandbox: PythonSandbox):
    result = await sandbox.run({"code": program})
    assert result.status == "error"
    assert result.content.startswith(first_line)
    assert sys.base_prefix not in result.content  # where libraries lie on this machine


async def test_streams_error_and_cuts_are_told_apart(sandbox: PythonSandbox):
    both = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n"
    good, bad = await sandbox.run({"code": both + "3"}), await sandbox.run({"code": both + "1 / 0"})
    assert (good.status, good.content) == ("success", "out\n3\nStandard error:\nerr")
    assert bad.content.startswith("ZeroDivisionError: division by zero\nTraceback")
    assert bad.content.endswith("\nPrinted before:\nout\n\nStandard error:\nerr\n")
    long = await sandbox.run({"code": "import sys\nprint('x' * 99999)\nprint('err', file=sys.stderr)"})
    assert long.content == "x" * 65_536 + "\n[cut at 65536 bytes]\nStandard error:\nerr"
    assert long.truncated


async def test_half_a_line_printed_before_an_error_is_kept(sandbox: PythonSandbox):
    assert "Printed before:\nhalf" in (await sandbox.run({"code": "print('half', end='')\n1 / 0"})).content


async def test_wrong_arguments_are_an_error(sandbox: PythonSandbox):
    assert (await sandbox.run({})).status == "error"
    assert (await sandbox.run({"code": 3})).status == "error"


async def test_random_numbers_and_sets_come_out_the_same_in_another_sandbox(sandbox: PythonSandbox):
    program = {"code": "import random; random.random(), list({'ab', 'cd', 'ef', 'gh'}), hash('x')"}
    other = open_sandbox()
    assert await sandbox.run(program) == await sandbox.run(program) == await other.run(program)
    await other.aclose()


async def test_long_output_is_cut_and_marked():
    tool = open_sandbox(max_output_bytes=10)
    exact, long = await tool.run({"code": "print('x' * 9)"}), await tool.run({"code": "print('é' * 6)"})
    assert (exact.content, exact.truncated) == ("x" * 9, False)
    assert (long.content, long.truncated) == ("é" * 5 + "\n[cut at 10 bytes]", True)  # two bytes each
    await tool.aclose()


async def test_preloaded_module_is_there_and_others_too():
    tool = open_sandbox(preload=("numpy",))
    program = "import sys\npreloaded = 'numpy' in sys.modules\nimport numpy, sqlite3\nprint(preloaded, numpy.ones(3).sum())"
    assert (await tool.run({"code": program})).content == "True 3.0"
    await tool.aclose()


def test_module_that_cannot_be_preloaded_is_named():
    with pytest.raises(ToolError, match="no_such_module"):
        PythonSandbox(PythonSandboxConfig(preload=("no_such_module",)))


def test_demanded_isolation_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match="apt install bubblewrap"):
        PythonSandbox(PythonSandboxConfig(isolation="bubblewrap"))


def test_isolation_is_described_as_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    bubblewrap, landlock = describe_isolation()
    assert bubblewrap[:2] == ("bubblewrap", False)
    assert "install" in bubblewrap[2]
    assert landlock[0] == "landlock"


async def test_it_is_a_tool_without_state_whose_version_follows_its_limits(sandbox: PythonSandbox):
    assert isinstance(sandbox, Tool)
    assert sandbox.fork() is sandbox
    other = open_sandbox(wall_s=1.0)
    assert other.version != sandbox.version
    await other.aclose()


async def test_dead_zygote_is_replaced():
    tool = open_sandbox()
    first = zygote_of(tool)
    os.kill(first, signal.SIGKILL)
    assert [(await tool.run({"code": code})).content for code in "123"] == ["1", "2", "3"]
    assert zygote_of(tool) != first
    await tool.aclose()


async def test_calls_under_way_when_the_zygote_dies_are_run_again():
    tool = open_sandbox()
    zygote = zygote_of(tool)
    calls = [asyncio.create_task(tool.run({"code": f"import time; time.sleep(0.3); {i}"})) for i in range(2)]
    await asyncio.sleep(0.1)
    os.kill(zygote, signal.SIGKILL)
    assert [r.content for r in await asyncio.gather(*calls)] == ["0", "1"]
    assert (await tool.run({"code": "2"})).content == "2"
    await tool.aclose()


async def test_call_whose_zygotes_all_die_is_an_error_and_the_next_one_works():
    tool = open_sandbox()

    async def kill_every_zygote() -> None:
        while True:
            for process in descendants(os.getpid()):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if str(PACKAGE).encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                        os.kill(process, signal.SIGKILL)
            await asyncio.sleep(0.02)

    call = asyncio.create_task(tool.run({"code": "import time; time.sleep(5)"}))
    killer = asyncio.create_task(kill_every_zygote())
    assert (await call).status == "error"
    killer.cancel()
    assert (await tool.run({"code": "2"})).content == "2"
    await tool.aclose()


async def test_closing_ends_every_process_and_deletes_every_file():
    tool = open_sandbox(isolation="landlock")
    root = tool.host.zygote.scratch_folder
    processes = processes_of(tool)
    assert root is not None
    assert Path(root).exists()
    await tool.aclose()
    await tool.aclose()
    assert not Path(root).exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    assert (await tool.run({"code": "1"})).status == "error"


def test_zygote_ends_with_its_owner(tmp_path: Path):
    program = (
        "import os, asyncio\n"
        "from arpo.tools.python_sandbox import PythonSandbox, PythonSandboxConfig\n"
        "tool = PythonSandbox(PythonSandboxConfig(preload=()))\n"
        "print(tool.host.zygote._process.pid, flush=True)\n"
        "os._exit(0)\n"  # no clean-up of any kind
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    if not done.stdout:
        pytest.skip(done.stderr.splitlines()[-1])
    subprocess.run(["tail", f"--pid={int(done.stdout)}", "-f", "/dev/null"], timeout=30, check=True)


def test_filter_without_landlock_refuses_to_write(tmp_path: Path):
    program = f"""
import sys, os
sys.path.insert(0, {str(PACKAGE)!r})
from jail import seccomp, system
open('old', 'w').write('kept')
system.drop_privileges()
seccomp.install(seccomp.build_filter(may_write=False))
attempts = [lambda: open('new', 'w'), lambda: open('old', 'a'), lambda: open('old', 'r+'), lambda: os.unlink('old'),
            lambda: os.rename('old', 'new'), lambda: os.open('.', os.O_TMPFILE | os.O_RDWR), lambda: os.open('old', os.O_TRUNC)]
for i, attempt in enumerate(attempts):
    try: attempt(); print('ESCAPED', i)
    except PermissionError: pass
print(open('old').read())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    if "Errno" in done.stderr and not done.stdout:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.stdout == "kept\n"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
