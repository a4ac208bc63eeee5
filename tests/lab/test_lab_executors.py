"""Trials come out with the same bytes wherever they run, and two sweeps may share a store."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hammer.lab import environment, executors
from hammer.lab.cli import main
from hammer.lab.store import Store, opened, sealed
from hammer.lab.trial import TIMES, TrialSpec
from hammer.lab.worker import Task, Worker

CONFIG = """
workloads: [quadratic, digits_logistic]
optimizers: [momentum, vortex_adamw]
trials: 2
tuning_seeds: 1
seeds: 2
steps: 20
targets: derived
resamples: 100
"""
TOTAL = 2 * 2 * (2 * 1 + 2) + 2 * 2 * 2
ENV = {name: value for name, value in os.environ.items() if name not in environment.THREAD_VARIABLES}
MPI = {  # for Open MPI as root and with more ranks than cores; MPICH needs the last one only
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_mtl": "^ofi",
    "OMPI_MCA_btl": "^ofi",
    "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1",
}


def command(folder: Path, *options: str) -> list[str]:
    (folder / "small.yaml").write_text(CONFIG)
    return [sys.executable, "-m", "hammer.lab", "compare", "small.yaml", *options]


def content(store: Path) -> dict[str, Any]:
    """All that is not a time, of every trial in a store."""
    found = {}
    for key in Store(store).all_keys():
        loaded = Store(store).load(key)
        assert loaded is not None
        record, arrays = loaded
        threads = {pool["threads"] for pool in record["environment"]["blas"]}
        found[key] = (record["bits"], threads, {n: a.tobytes() for n, a in arrays.items() if n not in TIMES})
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The trials of a small comparison, run in worker processes."""
    folder = tmp_path_factory.mktemp("done")
    subprocess.run(command(folder, "--jobs", "2"), cwd=folder, env=ENV, check=True, capture_output=True, timeout=120)
    found = content(folder / "runs")
    assert len(found) == TOTAL and all(threads == {1} for _, threads, _ in found.values())
    return found


def test_the_serial_executor_gives_equal_bytes(done: dict[str, Any], tmp_path: Path) -> None:
    threads = environment.blas()
    (tmp_path / "small.yaml").write_text(CONFIG)
    options = ["--executor", "serial", "--out", str(tmp_path), "--store", str(tmp_path / "runs")]
    assert main(["compare", str(tmp_path / "small.yaml"), *options]) == 0
    assert content(tmp_path / "runs") == done
    assert environment.blas() == threads  # one thread while it ran, and as before afterwards


def test_mpi_gives_equal_bytes(done: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    found = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip("there is no mpiexec")
    run = [found, "-n", "3", *command(tmp_path, "--executor", "mpi")]
    said = subprocess.run(run, cwd=tmp_path, env={**ENV, **MPI}, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    assert f"{TOTAL} of {TOTAL} trials" in said.stdout
    assert content(tmp_path / "runs") == done


def test_mpi_without_mpi4py_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executors, "find", lambda module: module != "mpi4py")
    assert main(["compare", "--executor", "mpi", "--out", str(tmp_path)]) == 2
    assert 'mpi4py; install with: pip install "hammer-grad[mpi]"' in capsys.readouterr().err


def test_an_error_of_the_command_stops_the_workers(tmp_path: Path) -> None:
    for kind in (executors.Serial, executors.Processes):
        workers = kind(1, tmp_path / kind.__name__, environment.describe())
        workers.folder.mkdir()
        for key, steps in (("a", 5), ("b", 20_000), ("c", 5)):  # the second takes seconds, and is left half-way
            workers.submit(key, TrialSpec("quadratic", "adam", {"lr": 0.1}, 0, 0, steps, 5, "float64"))

        def refuse(record: dict[str, Any]) -> None:
            raise ZeroDivisionError(record["key"])

        with pytest.raises(ZeroDivisionError, match="a"):
            workers.run(refuse)
        assert Store(workers.folder).all_keys() == ["a"]


def test_two_sweeps_share_a_store(done: dict[str, Any], tmp_path: Path) -> None:
    sweeps = [
        subprocess.Popen(
            command(tmp_path, "--name", name, "--jobs", "2"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for sweep in sweeps:
        said, _ = sweep.communicate(timeout=120)
        assert sweep.returncode == 0, said
        assert f"{TOTAL} of {TOTAL} trials" in said and "damaged" not in said and "error" not in said
    assert content(tmp_path / "runs") == done
    one, two = (json.loads((tmp_path / "reports" / name / "results.json").read_text()) for name in ("one", "two"))
    for cell in one["cells"] + two["cells"]:
        cell["to_target"] = {name: e for name, e in cell["to_target"].items() if name in ("steps", "flops")}
        del cell["costs"]  # where both ran a trial at the same moment, each reports what it has measured
    assert one == two


def test_what_another_sweep_has_finished_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TrialSpec("quadratic", "adam", {"lr": 0.1}, 0, 0, 5, 5, "float64")
    first = Worker(tmp_path, environment.describe()).run(Task("a", spec, "code"))
    assert first is not None and first["status"] == "finished" and first["elapsed_seconds"] >= first["wall_seconds"]
    monkeypatch.setattr("hammer.lab.trial.run", lambda *_: pytest.fail("it was run again"))
    assert Worker(tmp_path, environment.describe()).run(Task("a", spec, "code")) == Store(tmp_path).record("a")


def test_a_trial_is_one_sealed_file() -> None:
    arrays = {"loss": np.arange(4.0), "seconds": np.zeros(2)}
    data = sealed({"key": "a"}, arrays)
    with opened(data) as file:
        assert file["record.json"] == b'{\n "key": "a"\n}' and (file["loss"] == arrays["loss"]).all()
    assert sealed({"key": "a"}, arrays) == data
    for at in range(0, len(data), 7):
        with pytest.raises(ValueError, match="checksum"):
            opened(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            opened(data[:at])
