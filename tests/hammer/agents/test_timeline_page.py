"""The timeline's page in a real browser."""

import pytest
from chromium import CHROMIUM, Browser
from test_timeline import notes

from hammer.agents.timeline import Timeline

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_draws_lanes_and_says_what_is_under_the_pointer(tmp_path, browser: Browser, width):
    page = tmp_path / "t.html"
    Timeline([notes([(2, 2.5, 3, 8)], steps=[(9.0, 100)]), notes([(7, 7, 7, 8)])]).save_html(page)
    browser.open(page, width, "dark")
    assert browser.requests() == [page.as_uri()] and browser.complaints() == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    colour = "[...canvas.getContext('2d').getImageData(Math.round(X), Y, 1, 1).data].slice(0, 3).join()"
    at = lambda seconds, rank: browser.value(
        colour.replace("X", f"x({1e6 * seconds})").replace("Y", str(rank * 26 + 12))
    )
    assert [at(1, 0), at(5, 0), at(7.5, 0), at(5, 1)] == ["0,158,115", "213,94,0", "0,114,178", "0,158,115"]
    move = """{ const box = canvas.getBoundingClientRect();
      canvas.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + x(5e6), clientY: box.top + 12})); }"""
    browser.value(move)
    assert browser.value("told.textContent") == "rank 0: wait in all_reduce, for rank 1, 4.000 s from 3.000 s"
    browser.value("canvas.dispatchEvent(new KeyboardEvent('keydown', {key: '+'}))")
    assert browser.value("[from, to]") == [1e6, 9e6]
