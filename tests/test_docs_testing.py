"""The examples of docs/testing.md run, in order."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "testing.md"


def test_every_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    space: dict = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), space)
