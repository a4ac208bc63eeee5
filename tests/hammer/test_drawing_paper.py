"""Charts as PNG and PDF: every shape where the SVG has it and in its colour, and nothing left out unseen."""

import base64
import builtins
import io

import numpy as np
import pytest

from hammer.drawing import Line, Panel, picture, png, printed, save
from hammer.drawing.panels import document

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")


def pixels(chart, scale=2.0):
    with Image.open(io.BytesIO(printed(chart, scale=scale))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def near(pixel, colour):
    return np.abs(pixel - np.array(colour)).max() <= 3


def test_shapes_are_where_the_svg_has_them():
    heat = base64.b64encode(png(np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8))).decode()
    chart = document(100, 60, (
        '<rect width="100" height="60" style="fill:var(--page)"/><g transform="translate(10,20)">'
        '<circle class="mark s0" cx="10" cy="10" r="5"/><g transform="translate(0,5)"><path class="band s1" style="opacity:1" d="M30 0L50 0L50 10L30 10Z"/></g></g>'
        '<path class="curve s2" style="stroke-dasharray:none" d="M5 50L95 50"/>'
        f'<image x="70" y="10" width="20" height="10" preserveAspectRatio="none" href="data:image/png;base64,{heat}"/>'
        '<circle style="fill:none;stroke:#000;stroke-width:2" cx="85" cy="35" r="6"/>'
    ), "shapes")  # fmt: skip
    seen = pixels(chart)
    assert seen.shape == (120, 200, 3)
    at = lambda x, y: seen[int(2 * y), int(2 * x)]
    assert near(at(20, 30), (0x00, 0x72, 0xB2)) and near(at(27, 30), (255, 255, 255))
    assert (
        near(at(50, 30), (0xD5, 0x5E, 0x00)) and near(at(50, 22), (255, 255, 255)) and near(at(50, 38), (255, 255, 255))
    )
    assert (
        near(at(50, 50), (0x00, 0x9E, 0x73)) and near(at(50, 46), (255, 255, 255)) and near(at(2, 50), (255, 255, 255))
    )
    assert near(at(74, 15), (255, 0, 0)) and near(at(86, 15), (0, 255, 0))
    assert near(at(85, 35), (255, 255, 255)) and near(at(79, 35), (0, 0, 0))


def test_dashes_words_and_opacity():
    box = '<rect width="60" height="40" style="fill:#fff"/>'
    one = lambda inner: pixels(document(60, 40, box + inner, "one"))
    dark = lambda seen: (seen.sum(axis=2) < 700).sum()
    line = '<path style="fill:none;stroke:#000;stroke-width:2{}" d="M0 20L60 20"/>'
    whole, dashed = dark(one(line.format(""))), dark(one(line.format(";stroke-dasharray:6 6")))
    assert dashed == pytest.approx(whole / 2, rel=0.15)
    assert near(one('<rect width="60" height="40" style="fill:#000;opacity:.5"/>')[40, 60], (127, 127, 127))
    start, end = (one(f'<text class="name" x="30" y="25" text-anchor="{a}">√½ a_b$</text>') for a in ("start", "end"))
    assert dark(start[:, 62:]) > 60 and dark(start[:, :58]) == 0
    assert dark(end[:, :58]) > 60 and dark(end[:, 62:]) == 0


def test_a_chart_is_printed_whole_and_alike(tmp_path):
    x = np.arange(5.0)
    chart = picture(
        [Panel("p", "x", [Line("a", x, x**2, x, x**2 + 1), Line("b", x, x, dots=True)], levels=[(3.0, "goal")])],
        note="n",
    )
    for kind, head in (("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        save(tmp_path / f"c.{kind}", chart)
        first = (tmp_path / f"c.{kind}").read_bytes()
        save(tmp_path / f"c.{kind}", chart)
        assert first.startswith(head) and (tmp_path / f"c.{kind}").read_bytes() == first
    seen = pixels(chart, 1.0).reshape(-1, 3)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (np.abs(seen - colour).max(axis=1) <= 3).sum() > 20


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("<ellipse/>", "cannot draw <ellipse>"),
        ('<path d="M0 0C1 1 2 2 3 3"/>', "not 'C'"),
        ('<g transform="rotate(3)"/>', "moved only"),
        ('<image href="http://example.org/a.png"/>', "inside the SVG"),
    ],
)
def test_what_it_cannot_draw_is_refused(inner, message):
    with pytest.raises(ValueError, match=message):
        printed(document(10, 10, inner, "odd"))


def test_bad_names_kinds_and_a_missing_library(tmp_path, monkeypatch):
    chart = document(10, 10, "", "nothing")
    with pytest.raises(ValueError, match=r"not as \.jpg"):
        save(tmp_path / "a.jpg", chart)
    with pytest.raises(ValueError, match="kind"):
        printed(chart, "eps")
    with pytest.raises(ValueError, match="width and a height"):
        printed("<svg/>")
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError("gone", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"hammer-grad\[figures\]"):
        save(tmp_path / "a.png", chart)
    save(tmp_path / "a.svg", chart)
