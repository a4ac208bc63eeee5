"""``hammer energy``: what it prints, and calibration from a wall meter's log from end to end."""

from pathlib import Path

import pytest

from hammer.energy import counters, technology
from hammer.energy.calibration import load_runs
from hammer.energy.meter import Source
from hammer.lab.cli import main

WATTS = 30.0


class Steady(Source):
    name, kind = "steady", "measured"

    def read(self) -> dict[str, float | None]:
        import time

        return {"all": WATTS * time.perf_counter()}


def test_meters_are_listed_with_reasons(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(counters.SOURCES, "rapl", Steady)
    assert main(["energy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [*dict.fromkeys(line.split()[0] for line in lines)] == ["rapl", "nvml", "hwmon", "zeus", "events", "model"]
    assert lines[0] == "rapl    yes: steady"


def test_calibration(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--seconds", "0.02", "--repeats", "2"]
    assert main(["energy", "calibrate", "--record", "runs.json", *quick]) == 0
    runs = load_runs("runs.json")
    times = [runs[0].start - 1 + 0.5 * k for k in range(int(2 * (runs[-1].end - runs[0].start)) + 8)]
    Path("watts.csv").write_text("time,watts\n" + "".join(f"{t!r},{WATTS}\n" for t in times))
    assert main(["energy", "calibrate", "--runs", "runs.json", "--wall", "watts.csv", "--out", "mine.json"]) == 0
    assert technology("mine.json").static.value == pytest.approx(WATTS, rel=0.05)
    assert "static power" in capsys.readouterr().out
    monkeypatch.setitem(counters.SOURCES, "rapl", Steady)
    assert (
        main(["energy", "calibrate", "--out", "own.json", *quick]) == 0
        and technology("own.json").name == "this machine"
    )


def test_calibration_without_joules_is_refused(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no() -> Source:
        raise counters.Unavailable("RAPL: Permission denied")

    for name in counters.SOURCES:
        monkeypatch.setitem(counters.SOURCES, name, no)
    for options, said in (
        ([], "Permission denied"),
        (["--wall", "x.csv"], "belong together"),
        (["--runs", str(tmp_path / "no.json"), "--wall", "x.csv"], "No such file"),
        (["--record", "r.json", "--seconds", "0"], "seconds must be above 0"),
    ):
        assert main(["energy", "calibrate", *options]) == 2
        assert said in capsys.readouterr().err
