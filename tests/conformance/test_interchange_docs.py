"""The examples of docs/interchange.md run, one after the other, and their assertions hold."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "interchange.md"


@pytest.mark.peers
def test_the_examples_run() -> None:
    pytest.importorskip("torch"), pytest.importorskip("jax")
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 5
    names: dict = {}
    for block in blocks:
        before = "\n" * text[: block.start(1)].count("\n")  # so that an error names the line of the page
        exec(compile(before + block[1], str(PAGE), "exec"), names)
    assert names["z"].grad.shape == (3,) and names["z"].grad.abs().min() > 0
