"""Axes, shapes and printed numbers of the report."""

import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hammer.drawing import svg
from hammer.lab.analysis import Estimate
from hammer.lab.report import text

POSITIVE = st.floats(1e-12, 1e12)


@given(st.lists(POSITIVE, min_size=1, max_size=5), st.booleans())
@example([0.09765625], False)
def test_an_axis_shows_its_values_and_has_a_few_round_ticks(values: list[float], log: bool) -> None:
    low, high = svg.span(values, log)
    axis = svg.Axis(low, high, 300.0, 20.0, log)
    ticks = axis.ticks()
    assert low < high
    assert 1 <= len(ticks) <= 7
    assert ticks == sorted(ticks) and len(set(ticks)) == len(ticks)
    first, last = (low * 0.998, high * 1.002) if log else (low - 1e-6 * (high - low), high + 1e-6 * (high - low))
    assert all(first <= tick <= last for tick in ticks)  # 1 % of a negative end would lie inside the axis
    top = max(values)
    shown = [v for v in values if not log or v >= top * 10.0**-svg.MOST_DECADES]
    for value in shown:
        assert 20.0 <= axis.at(value) <= 300.0
    assert [axis.at(v) for v in sorted(values)] == sorted((axis.at(v) for v in values), reverse=True)


def test_what_lies_outside_an_axis_is_put_on_its_end() -> None:
    axis = svg.Axis(1.0, 100.0, 0.0, 10.0, log=True)
    assert (axis.at(math.inf), axis.at(0.0), axis.at(10.0), axis.at(math.nan)) == (10.0, 0.0, 5.0, 0.0)


@pytest.mark.parametrize(
    "low, high, log, ticks",
    [
        (0.0, 500.0, False, [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]),
        (1e-4, 10.0, True, [1e-4, 1e-2, 1.0]),
        (0.01, 100.0, True, [0.01, 0.1, 1.0, 10.0, 100.0]),
        (0.2, 4.0, True, [0.3, 1.0, 3.0]),
        (0.5, 0.7, True, [0.5, 0.55, 0.6, 0.65, 0.7]),
    ],
)  # fmt: skip
def test_ticks(low: float, high: float, log: bool, ticks: list[float]) -> None:
    assert svg.Axis(low, high, 0.0, 1.0, log).ticks() == pytest.approx(ticks)


def test_spans_of_nothing_and_of_one_value() -> None:
    assert svg.span([math.inf, math.nan, -1.0], log=True) == (0.1, 1.0)
    assert svg.span([], log=False) == (0.0, 1.0)
    low, high = svg.span([2.0], log=False)
    assert low < 2.0 < high


def test_words_and_titles_are_escaped() -> None:
    assert svg.words(0, 0, "<a&b>", "x") == '<text class="x" x="0.0" y="0.0" text-anchor="start">&lt;a&amp;b&gt;</text>'
    assert "<title>&lt;a&gt;</title>" in svg.dot(0, 0, 1, "x", "<a>")
    assert svg.line((0, 1), (2, 3), "x") == '<path class="x" d="M0.0 2.0L1.0 3.0"></path>'


@given(st.integers(1, 3000), st.integers(2, 200))
def test_thinning_keeps_the_ends(count: int, most: int) -> None:
    kept = svg.every(np.zeros(count), most)
    assert kept[0] == 0 and kept[-1] == count - 1 and len(kept) <= most + 1 and len(set(kept.tolist())) == len(kept)


@pytest.mark.parametrize(
    "value, printed",
    [(0.0, "0"), (0.123456, "0.123"), (12345.6, "12,346"), (1234567.0, "1.23·10⁶"), (1e-7, "1·10⁻⁷"), (-2.5, "-2.5"), (math.inf, "∞"), (math.nan, "–")],
)  # fmt: skip
def test_numbers(value: float, printed: str) -> None:
    assert text.number(value) == printed


def test_estimates() -> None:
    assert text.estimate(Estimate(0.5, 0.25, 1.0), "score") == "0.50 [0.25, 1.00]"
    assert text.estimate(Estimate(120.0, 95.0, math.inf)) == "120 [95, ∞]"
    assert text.estimate(Estimate(math.inf, math.inf, math.inf)) == "missed"
    assert text.estimate(Estimate(math.inf, 90.0, math.inf)) == "∞ [90, ∞]"
    assert text.estimate(Estimate(0.0123, 0.01, 1.5), "seconds") == "12.3 ms [10, 1,500]"  # in the unit of the value
    assert text.estimate(None) == "–"


def test_settings_read_as_words() -> None:
    said = text.settings({"momentum": 0.9, "nesterov": True, "vortex": {"gains": (5.0, 20.0), "gate": "tensor"}})
    assert said == "momentum 0.9, nesterov True, vortex (gains 5 and 20, gate tensor)"
    assert not re.search(r"[{}']", said)
