"""Every Python and JSON block of the documents runs, page by page, or says above it why it does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from .blocks import PAGES, ROOT, Block, blocks


def blocks_of(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


@pytest.mark.parametrize("page", sorted({block.page for block in blocks_of("python")}), ids=lambda p: str(p.relative_to(ROOT)))
def test_python_in_a_document_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The blocks of a page one after the other, in a folder of their own, where those with a name are files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            if block.name:
                Path(block.name).write_text(block.text)
            code = compile("\n" * block.line + block.text, str(page), "exec")
            if not block.reason:
                exec(code, names)


@pytest.mark.parametrize("block", blocks_of("json", "jsonl"), ids=lambda b: b.place)
def test_json_in_a_document_is_json(block: Block):
    for text in block.text.splitlines() if block.language == "jsonl" else [block.text]:
        json.loads(text)
