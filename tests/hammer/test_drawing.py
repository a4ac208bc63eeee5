"""Pictures: what a PNG's bytes say, colours at their ends, and charts that show their data."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hammer.drawing import Line, Panel, colours, picture, png

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3), (1, 1)])
@pytest.mark.parametrize("scale", [1, 3])
def test_a_png_reads_back_as_its_pixels(shape, scale):
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(png(pixels, scale))) as image:
        read = np.asarray(image)
    assert np.array_equal(read, pixels.repeat(scale, 0).repeat(scale, 1))


def test_pixels_that_are_none_are_refused():
    for wrong in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8)):
        with pytest.raises(ValueError, match="png"):
            png(wrong)


@pytest.mark.parametrize("name", ["heat", "diverging"])
def test_colours(name):
    found = colours(np.array([-9.0, 0.0, 0.25, 1.0, 9.0, np.nan]), 0, 1, name)
    assert found.dtype == np.uint8 and found.shape == (6, 3)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[3], found[4])
    assert np.array_equal(found[5], [128] * 3) and not np.array_equal(found[1], found[3])
    if name == "heat":  # brighter all the way
        light = colours(np.linspace(0, 1, 50)).astype(int) @ [299, 587, 114]
        assert (np.diff(light) > 0).all()
    with pytest.raises(ValueError, match="no map"):
        colours(np.zeros(2), name="jet")


def test_a_picture_shows_every_point_once_and_keeps_labels_apart():
    x = np.arange(1.0, 6.0)
    drawn = picture([
        Panel("first <&>", "steps", [Line("a", x, x**2), Line("b", x, [1, np.nan, -1, 3, 4], dots=True)], log_y=True),
        Panel("second", "steps", [Line("a", x, x, low=x - 1, high=x + 1)], marks=[(2.0, "here")], levels=[(3.0, "goal")]),
    ], note="a note")  # fmt: skip
    root = ET.fromstring(drawn)
    text = [e.text for e in root.iter(f"{SVG}text")]
    assert {"first <&>", "second", "a", "b", "a note", "here", "goal"} <= set(text)
    curves = [e for e in root.iter(f"{SVG}path") if "curve" in e.get("class", "")]
    assert [e.get("d").count("L") for e in curves[2:]] == [4, 4]  # after the key's two: five points each
    assert {e.get("class") for e in curves[2:]} == {"curve s0"}
    assert len([*root.iter(f"{SVG}circle")]) == 3  # what a logarithmic axis cannot show is left out
    assert len([e for e in root.iter(f"{SVG}path") if e.get("class") == "band s0"]) == 1


def test_bad_lines_and_pictures_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        Line("a", [1, 2], [1])
    with pytest.raises(ValueError, match="both low and high"):
        Line("a", [1], [1], low=[0])
    with pytest.raises(ValueError, match="no panel"):
        picture([])
    with pytest.raises(ValueError, match="9 different labels"):
        picture([Panel("p", "x", [Line(str(i), [1, 2], [1, 2]) for i in range(9)])])


def test_a_chart_without_points_says_so():
    assert "nothing to show" in picture([Panel("p", "x", [Line("a", [0.0], [1.0])], log_x=True)])
