"""The attacks once more as an ordinary user, where the suite runs as root."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[3]
NOBODY = 65534

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="the suite itself runs as an ordinary user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder everybody can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow  # every attack once more, each in two isolations
def test_every_attack_is_blocked_for_an_ordinary_user_too(folder: Path):
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("needs unshare and setpriv (util-linux)")
    home = folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    which = "blocked or raw or doors or forged or reply or poison"
    pytest_options = ["-p", "no:cacheprovider", "--basetemp", str(home / "tests"), "-k", which]
    attacks = [sys.executable, "-m", "pytest", *pytest_options, str(HERE / "test_attacks.py")]
    commands = [
        *_opened(Path(sys.base_prefix), folder),
        *_opened(CHECKOUT, folder),
        shlex.join(["cd", str(CHECKOUT)]),
        shlex.join(["exec", "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", *attacks]),
    ]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", "\n".join(commands)],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(done.stdout.split(" passed")[0].split()[-1]) >= 40, done.stdout[-4000:]


def _opened(wanted: Path, keep: Path) -> list[str]:
    """Commands that show `wanted` to everybody, in a mount namespace: a parent closed to others is replaced by an open one."""
    closed = next((p for p in reversed(wanted.parents) if not p.stat().st_mode & 0o001), None)
    if closed is None:
        return []
    keep_text, wanted_text, closed_text = (shlex.quote(str(p)) for p in (keep / wanted.name, wanted, closed))
    return [
        f"mkdir {keep_text}",
        f"mount --rbind {wanted_text} {keep_text}",
        f"mount -t tmpfs -o mode=755 tmpfs {closed_text}",
        f"mkdir -p {wanted_text}",
        f"mount --rbind {keep_text} {wanted_text}",
    ]
