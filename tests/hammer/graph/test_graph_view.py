"""The page of a graph: where its nodes are, what it says of them, and in a browser what can be done with it."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM, Browser, contrasts
from hypothesis import given
from hypothesis import strategies as st

from autograd import nn, ops
from hammer.graph import Peaks, UniversalGraph
from hammer.graph.layout import columns_of, rows_of, spaced
from hammer.graph.view import live_bytes

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def data_of(page: str) -> dict:
    return json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])


def mlp() -> UniversalGraph:
    model = nn.Sequential(nn.Linear(6, 5, rng=1), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3, rng=2))

    def loss(x, y):
        return ops.mean(ops.cross_entropy(model(x), y))

    return UniversalGraph.trace(loss, np.ones((4, 6), np.float32), np.arange(4) % 3)


# ---- places ----


@st.composite
def drawings(draw):
    """For each node those before it that it is computed from."""
    count = draw(st.integers(1, 30))
    return [draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else [] for i in range(count)]


@given(drawings())
def test_lines_go_down_and_nodes_do_not_overlap(inputs):
    rows = rows_of(inputs)
    assert min(rows) >= 0
    assert all(rows[j] < rows[i] for i, given in enumerate(inputs) for j in given)
    columns = columns_of(rows, inputs)
    assert min(columns) == 0
    for row in set(rows):
        places = sorted(x for x, r in zip(columns, rows, strict=True) if r == row)
        assert all(b - a >= 1 - 1e-9 for a, b in itertools.pairwise(places))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_spaced_places_are_the_nearest_in_order(wanted):
    """Against a solver of the same least squares problem."""
    from scipy.optimize import lsq_linear

    found = spaced(wanted, 2.0)
    n = len(wanted)
    steps = np.tril(np.ones((n, n)))  # places are a start and steps of 2 or more
    due = steps @ lsq_linear(steps, wanted, ([-np.inf] + [2.0] * (n - 1), np.inf), tol=1e-12).x
    np.testing.assert_allclose(found, due, atol=1e-4)


def test_an_input_stands_just_above_its_use_and_what_is_split_off_at_its_step():
    split, step = [[], [0], [0], [0], [1], [4, 2], [5, 3]], 2  # a chain that takes another part of node 0 at each step
    rows = rows_of(split)
    assert rows[5] - rows[2] == 1
    assert rows[6] - rows[3] == 1
    assert rows[step] > rows[1]
    late = [[], [0], [1], [2], [], [3, 4]]
    assert rows_of(late)[4] == 3


# ---- what is said ----


def test_the_page_tells_the_costs_of_each_operation_and_where_it_comes_from():
    graph = mlp()
    data = data_of(graph.to_html())
    rows = {n["name"]: n for n in data["nodes"]}
    cost = graph.cost()
    assert data["operations"] == len(graph) == sum(n["flops"] > 0 or n["bytes"] > 0 for n in data["nodes"])
    assert sum(n["flops"] for n in data["nodes"]) == cost.flops
    assert sum(n["bytes"] for n in data["nodes"]) == cost.bytes
    assert rows["x"]["kind"] == "input"
    assert rows["0.weight"]["kind"] == "parameter"
    assert [n["op"] for n in data["nodes"] if n["kind"] == "output"] == ["mean"]
    assert all("in loss" in n["source"] or "in forward" in n["source"] for n in data["nodes"] if n["op"] == "mean")
    for i, n in enumerate(data["nodes"]):
        assert all(j < i and data["nodes"][j]["y"] < n["y"] for j in n["inputs"])
    assert not any(n["backward"] for n in data["nodes"])


def test_the_backward_part_stands_beside_and_goes_upwards():
    graph = mlp()
    data = data_of(graph.to_html(graph.grad()))
    forward, backward = ([n for n in data["nodes"] if n["backward"] is side] for side in (False, True))
    assert len(forward) == len(data_of(graph.to_html())["nodes"])
    assert max(n["x"] for n in forward) + data["node"][0] < min(n["x"] for n in backward)
    assert {n["y"] >= 0 for n in data["nodes"]} == {True}
    crossing = 0
    for n in backward:
        for j in n["inputs"]:
            if data["nodes"][j]["backward"]:
                assert n["y"] < data["nodes"][j]["y"]
            else:
                crossing += 1
    assert crossing > 3
    assert max(n["y"] for n in forward) == pytest.approx(max(n["y"] for n in backward))


def test_measured_times_are_shown():
    graph = mlp()
    values = [np.ones((4, 6), np.float32), np.arange(4) % 3]
    both = graph.grad(value=True)
    profile = both.profile(*values, repeats=1, peaks=Peaks(1e9, 1e9))
    data = data_of(graph.to_html(graph.grad(), profile))
    assert data["measures"][-1] == ["seconds", "time", "s"]
    shown = {n["name"]: n["seconds"] for n in data["nodes"] if n["flops"]}
    assert all(shown.values())
    assert sum(n["seconds"] for n in data["nodes"]) == pytest.approx(profile.seconds, rel=0.01)
    assert ["seconds", "time", "s"] not in data_of(graph.to_html())["measures"]


def test_bytes_that_are_held():
    def f(x):
        a = ops.exp(x)  # held to the end of its use in the product
        b = ops.sin(a)
        c = ops.cos(b)  # b goes
        return ops.sum(a * c)

    graph = UniversalGraph.trace(f, np.ones(1000, np.float32))
    held = live_bytes(graph.nodes, set(graph.outputs))
    assert [held[n] // 4000 for n in graph.nodes if n.is_operation] == [1, 2, 3, 3, 1]
    assert held[graph.outputs[0]] == 4004


def test_names_cannot_become_html(tmp_path: Path):
    from hammer.graph import Builder

    name = "</script><script>alert('x')</script><!--"
    builder = Builder()
    x = builder.input(name, (2, 2))
    graph = builder.build(builder.add("exp", x))
    graph = graph.with_outputs(graph.tree, name)
    page = graph.to_html()
    assert page.count("</script>") == 2
    assert "<!--" not in page
    assert data_of(page)["nodes"][0]["name"] == name


# ---- in a browser ----


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("view") / "graph.html"
    graph = mlp()
    profile = graph.profile(np.ones((4, 6), np.float32), np.arange(4) % 3, repeats=1, peaks=Peaks(1e9, 1e9))
    graph.save_html(path, graph.grad(), profile)
    return path


CHOSEN = "document.querySelector('.node.chosen')?.querySelector('text').textContent"


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_needs_no_network_and_can_be_read(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, 1280, scheme)
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.value("document.querySelector('h1').textContent") == "loss"
    assert browser.value("document.querySelectorAll('.node').length") == len(data_of(page.read_text())["nodes"])
    count, least = browser.value(contrasts("h1, output, label, aside h2, aside p, aside button, aside dt, aside dd"))
    assert count > 10
    assert least >= 4.5
    assert browser.value("[...document.querySelectorAll('.part')].map(t => t.textContent)") == [
        "forward ↓",
        "backward ↑",
    ]
    dark = browser.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(v => v < 80)")
    assert dark == (scheme == "dark")


@in_a_browser
def test_search_keys_and_mouse(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, "light")
    key = lambda name: browser.value(f"document.querySelector('svg').dispatchEvent(new KeyboardEvent('keydown', {{key: '{name}', bubbles: true}}))")  # fmt: skip
    transform = "document.querySelector('svg > g').getAttribute('transform')"

    key("/")
    assert browser.value("document.activeElement.tagName") == "INPUT"
    browser.ask("Input.insertText", text="cross 4")
    assert browser.value("document.querySelectorAll('.node.found').length") == 2
    assert browser.value("document.getElementById('count').textContent") == "2 found"
    for _ in range(2):
        browser.value(
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))"
        )
    assert browser.value(CHOSEN).startswith("cross_entropy")
    aside = browser.value("document.querySelector('aside').textContent")
    assert "test_graph_view.py" in aside
    assert "FLOP per byte" in aside
    key("Escape")
    assert browser.value(CHOSEN) is None
    assert browser.value("document.querySelectorAll('.node.found').length") == 0

    key("ArrowDown")
    assert browser.value(CHOSEN) == "x"
    key("ArrowDown")
    assert browser.value(CHOSEN) == "linear"
    assert browser.value("document.querySelectorAll('.edge.near').length") >= 4
    key("ArrowUp")
    key("Escape")

    before = browser.value(transform)
    key("+")
    assert browser.value(transform) != before
    key("f")
    fitted = browser.value(transform)
    inside = browser.value("""(() => { const all = document.querySelector('main').getBoundingClientRect();
      return [...document.querySelectorAll('.node')].every(n => { const r = n.getBoundingClientRect();
        return r.left >= all.left && r.right <= all.right && r.top >= all.top && r.bottom <= all.bottom }) })()""")
    assert inside
    browser.ask("Input.dispatchMouseEvent", type="mouseWheel", x=500, y=400, deltaX=0, deltaY=-200)
    assert browser.value(transform) != fitted
    key("f")
    x, y = browser.value("""(() => { const r = document.querySelectorAll('.node.output')[0].getBoundingClientRect();
      return [r.left + r.width / 2, r.top + r.height / 2] })()""")
    for kind in ("mousePressed", "mouseReleased"):
        browser.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert browser.value("document.querySelector('.node.chosen').classList.contains('output')")
    before = browser.value(transform)
    for kind, far in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):  # with an input under it
        x, y = browser.value("(r => [r.left + r.width / 2, r.top + r.height / 2])(document.querySelector('.node.input').getBoundingClientRect())") if not far else (x, y)  # fmt: skip
        browser.ask("Input.dispatchMouseEvent", type=kind, x=x + far, y=y, button="left", buttons=1, clickCount=1)
    assert browser.value(transform) != before
    assert browser.value("document.querySelector('.node.chosen').classList.contains('output')")
    browser.value("document.querySelector('aside button').click()")
    assert browser.value("document.querySelectorAll('.node.chosen').length") == 1
    options = "[...document.querySelectorAll('select option')].map(o => o.textContent)"
    assert browser.value(options) == ["FLOPs", "bytes moved", "bytes of the result", "bytes held meanwhile", "time"]
    heat = "[...document.querySelectorAll('.heat')].map(r => r.getAttribute('fill-opacity')).join()"
    by_flops = browser.value(heat)
    browser.value(
        "(s => { s.value = 'result'; s.dispatchEvent(new Event('change')) })(document.querySelector('select'))"
    )
    assert browser.value(heat) != by_flops
    assert browser.complaints() == []


@in_a_browser
def test_a_thousand_operations_can_be_read(browser: Browser, tmp_path: Path) -> None:
    """The text of the nodes in sight has 7 pixels or more, and no two of them overlap."""

    def f(x):
        for i in range(250):
            x = ops.sin(x) + x * (i + 0.5)
        return ops.sum(x)

    graph = UniversalGraph.trace(f, np.ones(3))
    graph.save_html(tmp_path / "long.html", graph.grad())
    browser.open(tmp_path / "long.html", 1280, "light")
    assert browser.value("document.querySelectorAll('.node').length") > 1000
    overlaps, seen, size = browser.value("""(() => { const all = document.querySelector('main').getBoundingClientRect();
      const seen = [...document.querySelectorAll('.node')].map(n => n.querySelector('rect').getBoundingClientRect())
        .filter(r => r.right > all.left && r.left < all.right && r.bottom > all.top && r.top < all.bottom);
      const over = seen.filter((a, i) => seen.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom));
      return [over.length, seen.length, document.querySelector('.node text').getBoundingClientRect().height] })()""")
    assert overlaps == 0
    assert seen > 5
    assert size >= 7
    assert browser.complaints() == []
