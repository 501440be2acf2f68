"""A real browser, for pages."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def needs_browser(test: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a test that opens a page in Chromium, and skips it where there is none."""
    return pytest.mark.browser(pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")(test))


def load(page: Path, tmp_path: Path, script: str = "", wait_ms: int = 0, width: int = 1300) -> tuple[str, list[str]]:
    """The page's DOM after `script` ran in it and `wait_ms` of its time went by, and what the browser's console said."""
    copy = tmp_path / "copy.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-quic", f"--window-size={width},900",
            f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
            *([f"--virtual-time-budget={wait_ms}"] if wait_ms else []), "--dump-dom", copy.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def look(page: Path, tmp_path: Path, *, width: int, is_dark: bool = False) -> dict[str, Any]:
    """What a reader sees at a width: see the script below. Every part that opens is open.

    The dark scheme is that of a reader whose system asks for it: its rules are made to hold for everybody.
    """
    text = page.read_text(encoding="utf-8")
    if is_dark:
        text, count = re.subn(r"@media \(prefers-color-scheme: dark\)", "@media all", text)
        assert count == 1
    shown = tmp_path / "shown.html"
    shown.write_text(text, encoding="utf-8")
    dom, console = load(shown, tmp_path, _LOOK, wait_ms=3000, width=width)
    assert console == []
    found = re.search(r"<title>(\{.*?\})</title>", dom, re.DOTALL)
    assert found is not None, dom[:500]
    return json.loads(html.unescape(found[1]))


_LOOK = """
for (const part of document.querySelectorAll("details")) part.open = true;
const parts = (color) => { const m = color.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const color = parts(getComputedStyle(at).backgroundColor);
    if (color[3]) layers.push(color);
    if (color[3] === 1) break;
  }
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const light = (color) => {
  const [r, g, b] = color.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const report = () => {
  const faint = [], page = document.documentElement;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own.length || !element.getClientRects().length || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), back = behind(element);
    const ink = over(parts(element instanceof SVGElement ? style.fill : style.color), back);
    const ratio = contrast(ink, back), size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.5 && style.fontWeight >= 600) ? 3 : 4.5;
    const name = `${element.tagName}.${element.className.baseVal ?? element.className}`;
    if (ratio < least) faint.push(`${name} ${ratio.toFixed(2)} ${own[0].textContent.trim().slice(0, 30)}`);
  }
  const canvases = [...document.querySelectorAll(".canvas")];
  document.title = JSON.stringify({
    width: page.clientWidth, beyond: page.scrollWidth - page.clientWidth, faint: [...new Set(faint)].slice(0, 12),
    trees: canvases.map((canvas) => canvas.scrollWidth - canvas.clientWidth),
    outside: canvases.filter((c) => c.getBoundingClientRect().right > page.clientWidth + 0.5).length,
    zoom: canvases.map((canvas) => Number(canvas.querySelector(".nodes").style.zoom)),
  });
};
addEventListener("load", () => setTimeout(report, 200));
"""
"""Writes to the title: `beyond`, pixels the page is wider than the window; `faint`, texts whose contrast is below WCAG AA (4.5,
and 3 for large ones); per tree `trees`, pixels it is wider than its frame, and `zoom`; `outside`, frames beyond the window."""
