"""Pictures, stored diagrams and the page: what they show is what the diagrams say, and in a browser what can be done with it."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM, Browser, contrasts
from hypothesis import given, settings
from hypothesis import strategies as st

from hammer import topology
from hammer.topology import Diagram, Landscape, basins, pictures

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
SEEDS = st.integers(0, 2**32 - 1)
RING = Diagram(1, np.array([[0.3, 1.7], [0.1, 0.2]]))
PARTS = Diagram(0, np.array([[0.0, 0.5], [0.0, 0.25]]), np.zeros(1))


def data_of(page: str) -> dict:
    return json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])


def landscape(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = rng.standard_normal(rng.integers(1, 14, 2))
    return grid if seed % 2 else np.round(grid)


def drawn(svg: str, kind: str, css: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    return [e for e in root.iter() if e.tag.endswith(kind) and css in e.get("class", "").split()]


# ---- pictures ----


def test_a_barcode_has_a_bar_of_the_right_length_for_each_feature():
    svg = pictures.barcode((RING, PARTS))
    bars = {s: [re.findall(r"[\d.]+", e.get("d")) for e in drawn(svg, "path", f"s{s}") if "bar" in e.get("class")] for s in (0, 1)}  # fmt: skip
    lengths = {s: sorted(float(b[2]) - float(b[0]) for b in found) for s, found in bars.items()}
    assert len(lengths[0]) == 3 and len(lengths[1]) == 2
    unit = 304 / (1.06 * 1.7)
    assert lengths[1] == pytest.approx([0.1 * unit, 1.4 * unit], abs=0.2)
    assert lengths[0] == pytest.approx([0.25 * unit, 0.5 * unit, 1.06 * 1.7 * unit], abs=0.2)  # the last never dies
    assert "components: 3 of 3" in svg
    assert "components: 2 of 3" in pictures.barcode(PARTS, most=1)


def test_a_persistence_diagram_has_its_points_above_the_diagonal():
    svg = pictures.persistence_diagram((PARTS, RING))
    points = [(float(e.get("cx")), float(e.get("cy"))) for e in drawn(svg, "circle", "s1") if e.get("r") == "3.2"]
    assert len(points) == 2
    (bx, by), (sx, sy) = points  # the longest first
    assert (
        bx > sx and by < sy and (sy - by) / (bx - sx) == pytest.approx(1.5 / 0.2 * (196 / 304) * (1.08 / 1.2), rel=0.02)
    )
    assert "never dies" in svg and "never dies" not in pictures.persistence_diagram(RING)


def test_betti_curves_images_and_empty_diagrams():
    assert pictures.betti_curves((PARTS, RING)).count('class="curve s') == 4  # two in the key
    png = pictures.image(np.arange(6.0).reshape(2, 3), scale=4)
    assert png[:4] == b"\x89PNG" and (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (12, 8)
    assert pictures.image(np.zeros((2, 2))) != pictures.image(np.eye(2))
    nothing = Diagram(1, np.empty((0, 2)))
    for draw in (pictures.barcode, pictures.persistence_diagram, pictures.betti_curves):
        ElementTree.fromstring(draw(nothing))


def test_a_landscape_has_its_marks_at_their_places():
    """A bowl with two minima: two dots, a cross, and the path from corner to corner of the cells' centres."""
    values = np.array([[3.0, 3, 3, 3], [3, 0, 2, 1], [3, 3, 3, 3]])
    shape = Landscape(values, (np.array([0.0, 1, 2]), np.array([0.0, 10, 20, 30])), np.array([[0.0, 0], [2, 30]]))
    drawing = pictures.landscape(shape)
    root = ElementTree.fromstring(drawing)
    (image,) = (e for e in root.iter() if e.tag.endswith("image"))
    left, top, wide, high = (float(image.get(k)) for k in ("x", "y", "width", "height"))
    spot = lambda row, column: pytest.approx(
        (left + (column + 0.5) * wide / 4, top + high - (row + 0.5) * high / 3), abs=0.06
    )
    dots = [
        (float(e.get("cx")), float(e.get("cy"))) for e in root.iter() if e.tag.endswith("circle") and e.get("r") == "3"
    ]
    assert dots == [spot(1, 1), spot(1, 3)]
    ring = [
        (float(e.get("cx")), float(e.get("cy"))) for e in root.iter() if e.tag.endswith("circle") and e.get("r") == "6"
    ]
    assert ring == [spot(2, 3)] * 2
    ways = [[tuple(map(float, p.split())) for p in re.split("[ML]", e.get("d"))[1:]] for e in root.iter() if e.tag.endswith("path") and "linejoin" in e.get("style", "")]  # fmt: skip
    assert ways == [[spot(0, 0), spot(2, 3)]] * 2
    assert "2 basins" in drawing and "1 basin<" in pictures.landscape(shape, depth=1.5)
    assert 'linejoin:round"' not in pictures.landscape(values)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_branches_of_a_merge_tree_do_not_cross(seed):
    tree = basins(landscape(seed))
    order = pictures.tree_order(tree)
    assert sorted(order) == np.nonzero(tree.depths > 0)[0].tolist()
    place = {b: k for k, b in enumerate(order)}
    for b in order[1:]:  # below the line from b to its parent no branch reaches as high as that line
        parent, height = tree.parents[b - 1], tree.deaths[b - 1]
        assert place[parent] < place[b]
        for other in order[place[parent] + 1 : place[b]]:
            assert tree.deaths[other - 1] <= height
    deep = float(np.median(tree.depths))
    kept = pictures.tree_order(tree, deep) if np.isfinite(deep) else [0]
    assert kept == [b for b in order if b in kept]
    ElementTree.fromstring(pictures.merge_tree(tree))


# ---- files ----


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_stored_diagrams_come_back_to_the_last_digit(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("stored") / "d.json"
    rng = np.random.default_rng(seed)
    one = lambda: Diagram(0, np.sort(rng.standard_normal((rng.integers(0, 5), 2))), rng.standard_normal(2))
    given_ = {"a <b>": {"1": (one(),), "2": (one(),)}, "c": {"x": (one(), RING)}}
    topology.save_diagrams(path, given_, landscape(seed))
    sets, shape = topology.load_diagrams(path)
    assert np.array_equal(shape.values, landscape(seed)) and shape.path is None
    walked = Landscape(landscape(seed), shape.coordinates, rng.standard_normal((4, 2)))
    topology.save_diagrams(path, landscape=walked)
    assert np.array_equal(topology.load_diagrams(path)[1].path, walked.path)
    topology.save_diagrams(path, given_, landscape(seed))
    assert {name: list(moments) for name, moments in sets.items()} == {"a <b>": ["1", "2"], "c": ["x"]}
    for name, moments in given_.items():
        for label, diagrams in moments.items():
            for before, after in zip(diagrams, sets[name][label], strict=True):
                assert np.array_equal(before.array(), after.array()) and before.dimension == after.dimension


def test_damaged_files_and_what_is_no_diagram_are_refused(tmp_path):
    path = tmp_path / "d.json"
    topology.save_diagrams(path, RING)
    good = path.read_text()
    for bad in ("[]", "{}", good.replace("0.3", '"x"'), good.replace("[0.3, 1.7]", "[0.3]"), good[:-9]):
        path.write_text(bad)
        with pytest.raises(ValueError, match="save_diagrams"):
            topology.load_diagrams(path)
    for bad, message in (({"a": {}}, "no moments"), ({"a": {"1": RING, "2": PARTS}}, "different dimensions"), ((RING, RING), "same dimension")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            topology.to_html(bad)
    with pytest.raises(TypeError, match="Diagram"):
        topology.to_html(np.ones((3, 2)))
    with pytest.raises(ValueError, match="nothing to show"):
        topology.to_html()
    with pytest.raises(ValueError, match="two axes"):
        topology.to_html(landscape=np.ones(5))


# ---- the page ----


def test_the_page_holds_what_the_diagrams_say():
    other = Diagram(1, np.array([[0.3, 1.5]]))
    page = data_of(topology.to_html({"first": (RING,), "then": (other,)}))
    (one,) = page["sets"]
    assert one["moments"] == ["first", "then"] and (one["low"], one["high"]) == (0.1, 1.7)
    (before,), (after,) = one["frames"]
    assert before["pairs"] == [[0.1, 0.2], [0.3, 1.7]] and before["change"] is None
    assert before["total"] == pytest.approx(1.5) and before["longest"] == pytest.approx(1.4)
    assert after["change"] == pytest.approx(topology.bottleneck(RING, other)) == pytest.approx(0.2)
    assert after["entropy"] == 0.0


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_the_page_has_the_basins_of_the_landscape(seed):
    values = landscape(seed)
    page, tree = data_of(topology.to_html(landscape=values))["landscape"], basins(values)
    assert page["count"] == tree.count() and len(page["basins"]) == min(tree.count(), 60)
    np.testing.assert_allclose(page["values"], values, rtol=1e-5)
    for one in page["basins"]:
        assert one["birth"] == values[tuple(one["cell"])]
        assert one["saddle"] is None or one["death"] == values[tuple(one["saddle"])]
    assert sorted(page["order"]) == list(range(len(page["basins"])))
    assert all(one["parent"] is None or one["parent"] < k for k, one in enumerate(page["basins"]))


def test_the_page_has_the_path_in_cells():
    coordinates = (np.array([0.0, 0.5, 1.0]), np.array([-1.0, 1.0]))
    path = np.array([[0.25, 1.0], [1.0, 0.0], [7.0, -1.0]])
    page = data_of(topology.to_html(landscape=Landscape(np.eye(3)[:, :2], coordinates, path)))["landscape"]
    assert page["path"] == [[0.5, 1.0], [2.0, 0.5], [2.0, 0.0]]  # what is outside is put on the edge
    assert data_of(topology.to_html(landscape=np.eye(3)))["landscape"]["path"] is None


def test_names_are_data_and_the_page_asks_for_nothing():
    evil = "</script><img src=x onerror=alert(1)>{{data}}"
    page = topology.to_html({evil: {evil: RING}}, title=evil, about=evil)
    assert "<img" not in page and "//" not in re.sub(r"http://www.w3.org|  // .*|^// .*", "", page, flags=re.MULTILINE)
    assert data_of(page)["sets"][0]["name"] == evil


def page_for_looking(path: Path) -> None:
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 40)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    clouds = {f"epoch {k}": topology.rips(circle * k + 0.1 * rng.standard_normal((40, 2)), (0,)) for k in range(4)}
    line = np.linspace(-2, 2, 31)
    a, b = np.meshgrid(line, line)
    slice_ = Landscape((a**2 - 1) ** 2 + b**2 + 0.2 * a, (line, line), np.array([[1.5, 1.5], [0.3, 0.9], [0.0, -1.0]]))
    topology.save_html(path, {"cloud": clouds, "ring": {"": RING}}, slice_)


@in_a_browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_the_page_can_be_used(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    page_for_looking(tmp_path / "page.html")
    browser.open(tmp_path / "page.html", width, scheme)
    bars = "document.querySelectorAll('#bars [data-i]').length"
    assert browser.value("document.getElementById('label').textContent") == "epoch 3"
    assert browser.value(bars) == 40
    first = browser.value("document.getElementById('bars').innerHTML")
    change = "(id, value, kind) => { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event(kind)) }"
    browser.value(f"({change})('moment', 1, 'input')")
    assert browser.value("document.getElementById('label').textContent") == "epoch 1"
    assert browser.value("document.getElementById('bars').innerHTML") != first
    browser.value(
        "document.getElementById('bars').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}))"
    )
    assert browser.value("document.getElementById('said').textContent") == "components: born 0, never dies"
    assert browser.value("document.querySelectorAll('.chosen').length") == 2  # the bar and its point
    browser.value(
        "(s => { s.value = 1; s.dispatchEvent(new Event('change')) })(document.querySelector('#sets select'))"
    )
    assert browser.value(bars) == 2 and browser.value("document.getElementById('play').hidden")

    ways = "[...document.querySelectorAll('#marks [data-path]')].map(e => e.getAttribute('d')).join('|')"
    map_of_it = browser.value(ways)
    assert map_of_it.count("|") == 1 and map_of_it.count("L") == 4  # three places, drawn twice
    assert not browser.value("document.getElementById('way').hidden")
    counted = "document.getElementById('counted').textContent"
    assert "basins: 2, shown: 2, separate up to the level: 1." in browser.value(counted)
    browser.value(f"({change})('level', 100, 'input')")
    assert "shown: 2, separate up to the level: 2." in browser.value(counted)
    browser.value(f"({change})('depth', 1, 'input')")
    assert "basins: 2, shown: 1, separate up to the level: 1." in browser.value(counted)
    assert browser.value("document.querySelectorAll('#tree .branch').length") == 1
    browser.value(f"({change})('view', 'surface', 'change')")
    pixels = "document.getElementById('map').toDataURL()"
    surface = browser.value(pixels)
    assert browser.value(ways) != map_of_it and "NaN" not in browser.value(ways)
    browser.value(
        "document.getElementById('map').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    )
    assert browser.value(pixels) != surface
    assert browser.value("document.documentElement.scrollWidth") <= width
    count, least = browser.value(contrasts("p, h1, h2, h3, label, output, button, td, th"))
    assert count > 10 and least >= 4.5
    assert browser.complaints() == [] and len(browser.requests()) == 1
