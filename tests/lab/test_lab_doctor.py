"""`hammer doctor`: it runs, and says what is wrong with a GPU library, an MPI library or a meter that does not work."""

import subprocess
import sys
from pathlib import Path

import pytest

from hammer.lab import doctor, environment
from hammer.lab.cli import main


def test_doctor_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    labels = [line.split()[0] for line in lines]
    assert labels[:8] == ["Hammer", "Python", "Processor", "NumPy", "BLAS", "GPU", "MPI", "Energy"]
    assert {"[lab]", "[cuda]", "[mpi]"} <= set(labels)
    assert "threads" in lines[4] and all(len(line.split()) > 1 for line in lines)


def test_doctor_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hammer.lab", "doctor"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("Hammer") and done.stderr == ""


def test_doctor_says_what_a_comparison_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "find", lambda module: False)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "rich, ruamel.yaml, sklearn, mlxtend, threadpoolctl" in out and 'pip install "hammer-grad[lab]"' in out
    assert (
        'CuPy not installed: pip install "hammer-grad[cuda]"' in out
        and 'mpi4py not installed: pip install "hammer-grad[mpi]"' in out
    )


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a module that stands in for a library: ``pretend(name, source, **submodules)``."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, source: str, **submodules: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
        for submodule, text in submodules.items():
            (tmp_path / name / f"{submodule}.py").write_text(text)
        for module in (name, *(f"{name}.{submodule}" for submodule in submodules)):
            monkeypatch.delitem(sys.modules, module, raising=False)

    yield make
    for module in [
        m
        for m in sys.modules
        if m.partition(".")[0] in ("mpi4py", "cupy") and str(tmp_path) in str(sys.modules[m].__file__)
    ]:
        del sys.modules[module]


RC = "__version__ = '4.1.2'\nclass rc: initialize = True\n"


def test_mpi_without_a_library(pretend) -> None:
    pretend("mpi4py", RC, MPI="raise RuntimeError('cannot load MPI library\\nlong list')")
    assert doctor.mpi().startswith("mpi4py 4.1.2, but no MPI library (cannot load MPI library): pip install")


def test_mpi_with_a_library_is_not_initialised(pretend) -> None:
    check = "import mpi4py\nassert mpi4py.rc.initialize is False\ndef Get_library_version(): return 'Open MPI v5.0.11, package: x'\n"
    pretend("mpi4py", RC, MPI=check)
    assert doctor.mpi() == "mpi4py 4.1.2 with Open MPI v5.0.11"


@pytest.mark.parametrize(
    "source, said",
    [
        (
            "__version__ = '14.2'\nclass cuda: is_available = staticmethod(lambda: False)",
            "CuPy 14.2, but no usable GPU",
        ),
        ("raise OSError('libcuda.so: not found')", "CuPy does not work: OSError: libcuda.so: not found"),
    ],
)
def test_gpu_libraries_that_find_no_gpu(pretend, source: str, said: str) -> None:
    pretend("cupy", source)
    assert doctor.gpu() == said


def test_energy_meters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.energy(tmp_path) == "no meter found; energy is not measured here"
    for name in ("intel-rapl:0", "intel-rapl:1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("1")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: "rapl:0" in str(path))
    assert (
        doctor.energy(tmp_path)
        == "RAPL readable: intel-rapl:0; RAPL there but not readable (needs root or a udev rule): intel-rapl:1"
    )
