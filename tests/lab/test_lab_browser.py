"""The report's page in a real browser: Chromium without a window and without a network, driven over its debugging pipe.

Skipped where no Chromium is installed.
"""

from pathlib import Path

import pytest
from chromium import CHROMIUM, Browser, contrasts

from hammer.lab import cli

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

TEXT = "main p, main td, main th, main dt, main dd, main h1, main h2, main pre, main figcaption"
CONFIG = """workloads: [quadratic, rosenbrock]
optimizers: [momentum, adam]
trials: 2
tuning_seeds: 1
seeds: 2
steps: 60
targets: derived
resamples: 100
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "tiny.yaml").write_text(CONFIG)
    arguments = [
        "compare",
        str(folder / "tiny.yaml"),
        "--jobs",
        "2",
        "--out",
        str(folder),
        "--store",
        str(folder / "store"),
    ]
    assert cli.main(arguments) == 0
    return folder / "tiny/index.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_needs_no_network_and_does_not_scroll_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width, "light")
    assert browser.value("document.querySelector('h1').textContent") == "tiny"
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert page.stat().st_size < 5_000_000


def test_a_phone_shows_figures_beside_every_name(browser: Browser, page: Path) -> None:
    """The columns that a phone has no room for are left out, and what a line is about stays in sight when a table is scrolled."""
    left = "[...document.querySelectorAll('.wide table')].map(t => [...t.tHead.rows[0].cells, ...t.tBodies[0].rows[0].cells]"
    left += ".filter(c => c.getClientRects().length).map(c => Math.round(c.getBoundingClientRect().left)))"
    browser.open(page, 390, "light")
    columns = [[x for x in table if 0 <= x < 300] for table in browser.value(left)]
    assert len(columns) >= 7 and all(len(seen) >= 4 for seen in columns)  # heads and cells of two columns at least
    heads = "[...document.querySelectorAll('th')].filter(h => h.getClientRects().length).map(h => h.textContent)"
    assert {"Hit", "Peak memory"} < set(browser.value(heads)) and "Interval" not in browser.value(heads)
    first = "document.querySelectorAll('.wide')[4].querySelector('td.name').getBoundingClientRect().left"
    before = browser.value(first)
    assert "Ill-conditioned quadratic" in browser.value(
        "document.querySelectorAll('.wide')[4].querySelector('td.name').innerText"
    )
    browser.value("document.querySelectorAll('.wide')[4].scrollLeft = 150")
    assert browser.value(first) == before
    browser.open(page, 1280, "light")
    assert "Interval" in browser.value(heads)


def test_paper_shows_all_of_every_table(browser: Browser, page: Path) -> None:
    """The width between the margins of A4 at 96 dots an inch, and a light page also from a dark screen."""
    browser.open(page, 718, "dark")
    browser.ask(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    wide = "[...document.querySelectorAll('.wide, pre, main')].every(e => e.scrollWidth <= e.clientWidth)"
    assert browser.value(wide) and browser.value("document.documentElement.scrollWidth") <= 718
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.ask("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: Browser, page: Path, scheme: str) -> None:
    """WCAG 2.1, success criterion 1.4.3: a contrast of at least 4.5."""
    browser.open(page, 390, scheme)
    count, least = browser.value(contrasts(TEXT))
    assert count > 50
    assert least >= 4.5
    dark = browser.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(v => v < 80)")
    assert dark == (scheme == "dark")


def test_tables_sort_the_legend_hides_curves_and_the_axis_can_be_chosen(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, "light")
    column = "[...document.querySelector('th button').closest('table').tBodies[0].rows].map(r => r.cells[0].innerText)"
    click = "document.querySelector('th button').click()"
    browser.value(click)
    once = browser.value(column)
    browser.value(click)
    assert browser.value(column) == once[::-1]
    assert sorted(set(once)) != [once[0]]
    shown = "[...document.querySelectorAll('.charts svg *')].filter(e => e.getClientRects().length && e.tagName == 'path').length"
    before = browser.value(shown)
    browser.value("document.querySelector('.legend button').click()")
    assert browser.value(shown) < before
    browser.value("document.querySelector('.legend button').click()")
    assert browser.value(shown) == before
    axes = browser.value("[...document.querySelectorAll('.axes button')].map(b => b.dataset.by)")
    assert axes[:3] == ["steps", "cpu_seconds", "flops"]
    assert axes[3] in ("joules", "joules_estimate")
    for axis in [*axes[::-1], *axes]:
        browser.value(f"document.querySelector('.axes [data-by={axis}]').click()")
        seen = "[...document.querySelectorAll('.by')].filter(e => e.getClientRects().length).map(e => e.dataset.by)"
        assert browser.value(seen) == [axis, axis]  # one chart for each of the two workloads
        pressed = "[...document.querySelectorAll('.axes [aria-pressed=true]')].map(b => b.dataset.by)"
        assert browser.value(pressed) == [axis]
    assert browser.complaints() == []
