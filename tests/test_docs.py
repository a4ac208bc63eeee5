"""The Python examples of the pages in docs/ and of the README run, those of a page one after the other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("interchange",)
"""Pages whose examples use PyTorch and JAX."""
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list:
    found = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if BLOCK.search(p.read_text("utf-8"))]
    return [pytest.param(p, id=p.stem, marks=[pytest.mark.peers] * (p.stem in PEERS)) for p in found]


def test_pages_with_examples_are_found() -> None:
    assert {"README", "interchange", "testing", "tutorial"} <= {p.id for p in pages()}


@pytest.mark.parametrize("page", pages())
def test_the_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.stem in PEERS:
        pytest.importorskip("torch")
        pytest.importorskip("jax")
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    names: dict = {"__name__": "example"}
    for block in BLOCK.finditer(text):
        before = "\n" * text[: block.start(1)].count("\n")  # so that an error names the line of the page
        exec(compile(before + block[1], str(page), "exec"), names)
