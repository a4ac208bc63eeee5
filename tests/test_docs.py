"""The Python examples of the README and of the pages in docs/ run, those of a page one after the other, in a fresh process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("interchange",)
"""Pages whose examples use PyTorch and JAX."""
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list:
    found = [
        p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if BLOCK.search(p.read_text("utf-8"))
    ]
    return [pytest.param(p, id=p.stem, marks=[pytest.mark.peers] * (p.stem in PEERS)) for p in found]


def test_pages_with_examples_are_found() -> None:
    assert {"README", "interchange", "testing", "transforms", "tutorial"} <= {p.id for p in pages()}


@pytest.mark.parametrize("page", pages())
def test_the_examples_run(page: Path, tmp_path: Path) -> None:
    if page.stem in PEERS:
        pytest.importorskip("torch")
        pytest.importorskip("jax")
    text, lines = page.read_text("utf-8"), ""
    for block in BLOCK.finditer(text):  # each at its own line, so that an error names the line of the page
        lines += "\n" * (text[: block.start(1)].count("\n") - lines.count("\n")) + block[1]
    (tmp_path / f"{page.stem}.py").write_text(lines, "utf-8")
    done = subprocess.run(
        [sys.executable, f"{page.stem}.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
