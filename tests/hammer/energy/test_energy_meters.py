"""Meters over simulated hardware: the real code paths, with every fault that real hardware has shown. None may crash, none may
make up joules."""

import ctypes
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from hammer.energy import Meter, NotMeasured, Unavailable, counter_file, find, hwmon, nvml, rapl, zeus
from hammer.energy.counters import SOURCES, Counter, Counters, Together
from hammer.energy.meter import grams
from hammer.energy.simulate import SimulatedNvml, SimulatedRapl


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def machine(tmp_path: Path) -> SimulatedRapl:
    return SimulatedRapl(tmp_path / "powercap", packages=2)


def metered(machine: SimulatedRapl, clock: Clock) -> Meter:
    return Meter(rapl(machine.root, machine.read, clock), clock=clock)


# ---- what is measured ----


def test_packages_and_memory_are_added_and_cores_are_not_counted_twice(machine: SimulatedRapl, clock: Clock) -> None:
    meter = metered(machine, clock)
    for joules, domain in ((30.0, "package-0"), (20.0, "core-0"), (5.0, "dram-0"), (7.0, "package-1")):
        machine.spend(joules, domain)
    clock.now += 2.0
    reading = meter.read()
    assert (
        reading.joules == pytest.approx(42.0, abs=1e-9)
        and reading.seconds == 2.0
        and reading.watts == pytest.approx(21.0)
    )
    assert reading.domains == pytest.approx({"package-0": 30.0, "dram-0": 5.0, "package-1": 7.0, "dram-1": 0.0})
    assert reading.kind == "measured" and reading.source == "RAPL (package-0, dram-0, package-1, dram-1)"
    # a millisecond at each end of the window at the mean power of each domain, and two counts of each
    assert reading.uncertainty == pytest.approx(2e-3 * 21.0 + 4 * 2e-6, rel=1e-9)
    assert str(reading).startswith("42 ± 0.042 J, measured: RAPL")


def test_windows_nest_and_their_totals_add_up(machine: SimulatedRapl, clock: Clock) -> None:
    meter = metered(machine, clock)
    with meter.window("epoch") as epoch:
        for joules in (3.0, 4.0):
            with meter.window("step") as step:
                machine.spend(joules)
                clock.now += 1.0
            assert step.reading is not None and step.reading.joules == pytest.approx(joules)
        machine.spend(1.0)
    assert epoch.reading is not None and epoch.reading.joules == pytest.approx(8.0)
    totals = meter.totals()
    assert set(totals) == {"epoch", "epoch/step"}
    assert (totals["epoch/step"].count, totals["epoch/step"].joules) == (2, pytest.approx(7.0))
    with pytest.raises(KeyError), meter.window("failing"):
        raise KeyError("x")
    assert meter.totals()["failing"].count == 1  # it ended, and names after it are not inside it
    with meter.window("after"):
        pass
    assert "after" in meter.totals()


def test_windows_of_threads_do_not_nest_in_one_another(machine: SimulatedRapl, clock: Clock) -> None:
    meter = metered(machine, clock)
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with meter.window("other"):
            entered.set()
            leave.wait(5.0)

    thread = threading.Thread(target=other)
    with meter.window("outer"):
        thread.start()
        entered.wait(5.0)
        with meter.window("mine"):
            leave.set()
            thread.join()
    assert set(meter.totals()) == {"outer", "outer/mine", "other"}


def test_a_meter_is_polled_until_its_outermost_block_ends(machine: SimulatedRapl, clock: Clock) -> None:
    meter = metered(machine, clock)
    with meter:
        with meter:
            thread = meter._thread
        assert thread is not None and thread.is_alive()
    assert not thread.is_alive() and meter._thread is None


def test_nothing_measures_nothing(clock: Clock) -> None:
    meter = Meter(clock=clock)
    with meter.window("w") as window:
        clock.now += 1.0
    reading = window.reading
    assert reading is not None and reading.joules is None and reading.carbon(400.0) is None and reading.watts is None
    assert (reading.kind, reading.seconds) == ("not measured", 1.0) and "not measured" in str(reading)
    assert meter.totals()["w"].joules is None


def test_carbon_is_joules_times_what_the_reader_states() -> None:
    assert grams(3.6e6, 400.0) == 400.0
    with pytest.raises(ValueError, match="grams of CO2-equivalent per kWh"):
        grams(1.0, -1.0)


# ---- RAPL's faults ----


def test_wrap_around(tmp_path: Path, clock: Clock) -> None:
    machine = SimulatedRapl(tmp_path, start=262_143_000_000)
    meter = metered(machine, clock)
    machine.spend(40.0)
    assert int(machine.read(tmp_path / "intel-rapl:0" / "energy_uj")) < 262_143_000_000  # it did wrap
    clock.now += 1.0
    assert meter.read().joules == pytest.approx(40.0, abs=1e-6)


def test_polling_keeps_several_wrap_arounds(tmp_path: Path) -> None:
    clock, machine = Clock(), SimulatedRapl(tmp_path, span=65_536_000_000)
    source = rapl(machine.root, machine.read, clock)
    assert source.poll_every == pytest.approx(65_536 / 1000 / 4)
    with Meter(source, clock=clock, poll=1e-3) as meter:
        for _ in range(5):
            with meter._lock:  # at once, for the thread that polls
                before = source.domains[0].joules
                machine.spend(40_000.0)
                clock.now += 50.0
            deadline = time.monotonic() + 5.0
            while source.domains[0].joules == before and time.monotonic() < deadline:
                time.sleep(1e-3)
        assert meter.read().joules == pytest.approx(200_000.0)


def test_a_gap_in_which_it_may_have_wrapped_twice_is_not_measured(machine: SimulatedRapl, clock: Clock) -> None:
    meter = metered(machine, clock)
    machine.spend(10.0)
    clock.now += 3600.0  # the machine slept, or the process was stopped
    reading = meter.read()
    assert reading.joules is None and any("more than once" in fault for fault in reading.faults)


def test_permission_denied_at_the_start(machine: SimulatedRapl, clock: Clock) -> None:
    for domain in ("package-0", "dram-0", "package-1", "dram-1"):
        machine.deny(domain)
    with pytest.raises(Unavailable, match=r"Permission denied.*udev rule"):
        rapl(machine.root, machine.read, clock)


def test_permission_denied_for_one_domain_is_told(machine: SimulatedRapl, clock: Clock) -> None:
    machine.deny("dram-0")
    meter = metered(machine, clock)
    machine.spend(1.0)
    reading = meter.read()
    assert set(reading.domains) == {"package-0", "package-1", "dram-1"} and "dram-0" not in reading.source
    assert any("intel-rapl:0:1: Permission denied" in fault for fault in reading.faults)


@pytest.mark.parametrize("fault", ["denied", "removed", "garbage", "empty", "reset"])
def test_a_domain_that_fails_stays_lost(machine: SimulatedRapl, clock: Clock, fault: str) -> None:
    machine.spend(500.0)
    meter = metered(machine, clock)
    machine.spend(3.0, "dram-0")
    with meter.window("before"):
        clock.now += 1.0
    {
        "denied": machine.deny, "removed": machine.remove, "garbage": lambda: machine.set("12x"), "empty": lambda: machine.set(""),
        "reset": lambda: machine.set("0"),
    }[fault]()  # fmt: skip
    clock.now += 1.0
    with meter.window("after") as after:
        clock.now += 1.0
    reading = after.reading
    assert reading is not None and reading.joules is None and reading.domains["package-0"] is None
    assert reading.domains["dram-0"] == 0.0  # the others go on
    assert any(f.startswith("package-0 is not measured any more") for f in reading.faults)
    assert meter.read().domains["dram-0"] == pytest.approx(3.0)
    clock.now += 1.0
    assert len(meter.read().faults) == len(reading.faults)  # told once
    assert meter.totals()["before"].joules is not None and meter.totals()["after"].joules is None


def test_a_clock_that_goes_backwards(machine: SimulatedRapl) -> None:
    wrong, right = Clock(), Clock()
    meter = Meter(rapl(machine.root, machine.read, right), clock=wrong)
    machine.spend(2.0)
    wrong.now -= 5.0
    right.now += 1.0
    reading = meter.read()
    assert reading.seconds is None and reading.watts is None and reading.uncertainty is None
    assert reading.joules == pytest.approx(2.0) and any("clock went backwards" in f for f in reading.faults)
    right.now -= 50.0  # of the source itself: whether a counter wrapped cannot be told any more
    assert meter.read().joules is None


# ---- other counters ----


def test_hwmon_counters_and_sensors(tmp_path: Path, clock: Clock) -> None:
    for chip, files in {
        "hwmon0": {"name": "amd_energy", "energy1_input": "5000000", "energy1_label": "Esocket0", "power1_input": "9"},
        "hwmon1": {
            "name": "macsmc",
            "power1_input": "20000000",
            "power1_label": "Total System Power",
            "power2_input": "1",
        },
        "hwmon2": {"name": "nvme", "temp1_input": "40000"},
    }.items():
        (tmp_path / chip).mkdir()
        for name, text in files.items():
            (tmp_path / chip / name).write_text(text)
    meter = Meter(hwmon(tmp_path, clock=clock), clock=clock)
    assert meter.source.poll_every == 0.1
    (tmp_path / "hwmon0" / "energy1_input").write_text("6500000")
    (tmp_path / "hwmon1" / "power1_input").write_text("30000000")
    clock.now += 2.0
    reading = meter.read()
    assert reading.domains == pytest.approx({"amd_energy Esocket0": 1.5, "macsmc Total System Power": 50.0})
    # the counter: 10 ms at each end; the sensor: what the two ends of its interval differ by
    assert reading.uncertainty == pytest.approx(2e-6 + 0.02 * 0.75 + 10.0)
    clock.now -= 1.0
    assert meter.read().domains["macsmc Total System Power"] is None
    with pytest.raises(Unavailable, match="no energy counter or power sensor"):
        hwmon(tmp_path / "none")


def test_a_counter_file(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "board_energy"
    with pytest.raises(Unavailable, match="No such file"):
        counter_file(file, 1e-3)
    file.write_text("100")
    meter = Meter(counter_file(file, 1e-3, clock=clock), clock=clock)
    file.write_text("600")
    assert meter.read().joules == pytest.approx(0.5)
    strong = Meter(counter_file(file, 1.0, watts=1e5, clock=clock), clock=clock)
    file.write_text("50600")  # fifty kilojoules in no time
    assert strong.read().joules == 50_000.0
    file.write_text("50")
    assert meter.read().joules is None  # without a span it cannot wrap around


# ---- GPUs ----


def test_gpus_are_counted_one_by_one(clock: Clock) -> None:
    library = SimulatedNvml(2)
    meter = Meter(nvml(library, clock), clock=clock)
    library.millijoules[0] += 1500
    library.millijoules[1] += 250
    clock.now += 10.0
    reading = meter.read()
    assert reading.domains == pytest.approx({"gpu-0": 1.5, "gpu-1": 0.25}) and reading.joules == pytest.approx(1.75)


def test_an_old_gpu_has_a_power_sensor(clock: Clock) -> None:
    library = SimulatedNvml(1, counter=False)
    meter = Meter(nvml(library, clock), clock=clock)
    assert meter.source.poll_every == 0.1
    clock.now += 2.0
    assert meter.read().domains == pytest.approx({"gpu-0 (power)": 100.0})


def test_a_gpu_vanishes(clock: Clock) -> None:
    library = SimulatedNvml(2)
    meter = Meter(nvml(library, clock), clock=clock)
    library.errors[1] = 15
    library.millijoules[0] += 2000
    reading = meter.read()
    assert reading.joules is None and reading.domains == {"gpu-0": pytest.approx(2.0), "gpu-1": None}
    assert any("gpu-1 is not measured any more: the GPU is lost" in fault for fault in reading.faults)


def test_gpus_that_cannot_be_opened(clock: Clock) -> None:
    with pytest.raises(Unavailable, match="NVML: no GPU"):
        nvml(SimulatedNvml(0), clock)
    library = SimulatedNvml(2)
    library.errors[0] = 4
    assert [d.name for d in nvml(library, clock).domains] == ["gpu-1"]
    library.errors[None] = 9
    with pytest.raises(Unavailable, match="driver is not loaded"):
        nvml(library, clock)


def test_a_machine_without_the_drivers_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", none)
    with pytest.raises(Unavailable, match="driver's library is not there"):
        nvml()


# ---- zeus, and the choice ----


class PretendZeus:
    def __init__(self, **options: Any):
        self.options, self.open = options, set[str]()
        self.fails = False

    def begin_window(self, key: str, sync_execution: bool) -> None:
        assert key not in self.open and not sync_execution
        self.open.add(key)

    def end_window(self, key: str, sync_execution: bool) -> Any:
        if self.fails:
            raise RuntimeError("lost")
        self.open.remove(key)
        return types.SimpleNamespace(time=1.0, gpu_energy={0: 2.0}, cpu_energy={0: 1.0}, dram_energy=None)


def test_zeus(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setitem(sys.modules, "zeus", None)
    monkeypatch.delitem(sys.modules, "zeus.monitor", raising=False)
    with pytest.raises(Unavailable, match="pip install zeus"):
        zeus()
    monkeypatch.setitem(sys.modules, "zeus", types.ModuleType("zeus"))
    monkeypatch.setitem(sys.modules, "zeus.monitor", types.SimpleNamespace(ZeusMonitor=PretendZeus))  # type: ignore[arg-type]
    source = zeus(gpu_indices=[0])
    meter = Meter(source, clock=clock)
    with meter.window("w") as window:
        pass
    reading = window.reading
    assert reading is not None and reading.domains == {"gpu-0": 2.0, "cpu-0": 1.0} and reading.joules == 3.0
    source._monitor.fails = True
    lost = meter.read()
    assert lost.joules is None and any("zeus is not measured any more: RuntimeError: lost" in f for f in lost.faults)


def test_sources_are_found_once_and_told(monkeypatch: pytest.MonkeyPatch, machine: SimulatedRapl, clock: Clock) -> None:
    def closed() -> Any:
        raise Unavailable("RAPL: Permission denied")

    monkeypatch.setitem(SOURCES, "rapl", lambda: rapl(machine.root, machine.read, clock))
    monkeypatch.setitem(SOURCES, "nvml", lambda: nvml(SimulatedNvml(), clock))
    monkeypatch.setitem(SOURCES, "hwmon", lambda: pytest.fail("it may show the package again"))
    both = find()
    assert isinstance(both, Together) and list(both.read()) == ["package-0", "dram-0", "package-1", "dram-1", "gpu-0"]
    meter = Meter(both, clock=clock)
    machine.spend(1.0)
    clock.now += 1.0
    assert meter.read().uncertainty == pytest.approx(2e-3 + 4 * 2e-6 + 2e-3)
    assert find("nvml").name == "NVML (gpu-0)"
    for name in ("rapl", "nvml", "hwmon"):
        monkeypatch.setitem(SOURCES, name, closed)
    nothing = find()
    assert isinstance(nothing, NotMeasured) and "Permission denied" in nothing.name
    with pytest.raises(ValueError, match="no source 'solar'"):
        find("solar")


def test_a_counter_that_is_not_read_does_not_hurt_the_others(clock: Clock) -> None:
    values = {"a": 0, "b": 0}
    source = Counters(
        "two", [Counter("a", lambda: values["a"], 1.0), Counter("b", lambda: values["b"], 1.0)], None, clock
    )
    values.update(a=5, b=10**9)  # b: a billion joules in no time
    assert source.read() == {"a": 5.0, "b": None}
