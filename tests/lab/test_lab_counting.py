"""What a trial costs: counts worked out by hand, energy counters that wrap."""

from pathlib import Path

import numpy as np
import pytest

from hammer.energy.simulate import SimulatedRapl
from hammer.lab import counting, meters


def test_updates_cost_what_a_pencil_says() -> None:
    cost = counting.step_cost("quadratic", "sgd", "float32")
    n = 32
    assert cost.period == 1
    assert np.array_equal(cost.optimizer[:, 0], np.full(counting.WINDOW, 2.0 * n))  # times -lr, added
    assert np.array_equal(cost.optimizer[:, 1], np.full(counting.WINDOW, 4.0 * n * (2 + 3)))
    model = counting.step_cost("quadratic", "adam", "float32").model
    assert cost.model == model
    assert cost.total(100) == (100 * (model[0] + 2 * n), 100 * (model[1] + 20 * n))


def test_a_pattern_goes_on_after_the_window() -> None:
    cost = counting.step_cost("quadratic", "shampoo", "float32")
    assert cost.period == 10
    dear = [t for t in range(counting.WINDOW) if cost.optimizer[t, 0] > cost.optimizer[1, 0]]
    assert dear == [0, 10, 20, 30]
    flops = [cost.total(t)[0] for t in range(101)]
    assert [t for t in range(100) if flops[t + 1] - flops[t] > flops[2] - flops[1]] == list(range(0, 100, 10))


def test_what_has_no_row_is_named() -> None:
    x = counting._counted(np.ones(3), counting.Tally())
    with pytest.raises(counting.Uncountable, match=r"numpy\.nanmedian has no row"):
        np.nanmedian(x)


def test_an_energy_counter_may_wrap(tmp_path: Path) -> None:
    machine = SimulatedRapl(tmp_path, start=262_143_000_000)
    with meters.Joules(tmp_path) as meter:
        machine.spend(40.0)
        assert meter.read() == pytest.approx(40.0) and meter.source == "RAPL (package-0, dram-0)"
        machine.set("no number")
        assert np.isnan(meter.read())
    assert meters.Joules(tmp_path / "nothing").source is None and np.isnan(meters.Joules(tmp_path / "nothing").read())
