"""Starting ranks: what mpiexec is told, `hammer agents launch`, and real jobs where MPI is installed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from mpi_jobs import ROOT, needs_mpi, run
from test_team import fit

from autograd.train import Trainer
from autograd.train.config import ConfigError, load_config
from autograd.train.folder import load_checkpoint
from hammer import agents
from hammer.agents import launch
from hammer.lab.cli import main
from hammer.lab.errors import UsageError
from hammer.lab.training import command, names, setup

PROGRAM = ["python", "-m", "hammer.lab", "run", "a b.yaml"]


def planned(kind, ranks=4, cores=2, root=True, environment=()):
    return launch.plan(
        ranks, PROGRAM, path="/bin/mpiexec", kind=kind, cores=cores, root=root, environment=dict(environment)
    )


def test_open_mpi_is_told_about_root_cores_and_transports():
    plan = planned("openmpi")
    assert plan.command == ["/bin/mpiexec", "-n", "4", *PROGRAM]
    assert plan.settings["OMPI_ALLOW_RUN_AS_ROOT"] == plan.settings["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"
    assert plan.settings["PRTE_MCA_rmaps_default_mapping_policy"] == ":oversubscribe"
    assert plan.settings["OMPI_MCA_mpi_yield_when_idle"] == "1"
    assert plan.settings["OMPI_MCA_btl"] == "^ofi" and plan.why["OMPI_MCA_btl"].startswith("one machine")
    calm = planned("openmpi", ranks=2, root=False).settings
    assert not [name for name in calm if "ROOT" in name or "mapping" in name or "yield" in name]
    assert planned("openmpi4").settings["OMPI_MCA_rmaps_base_oversubscribe"] == "1"


def test_mpich_yields_where_ranks_share_cores():
    assert planned("mpich").settings["MPIR_CVAR_ENABLE_HEAVY_YIELD"] == "1"
    assert "MPIR_CVAR_ENABLE_HEAVY_YIELD" not in planned("mpich", ranks=2).settings
    assert set(planned("other").settings) == set(launch.THREADS)


def test_what_is_set_already_stays():
    assert "OMP_NUM_THREADS" not in planned("other", environment={"OMP_NUM_THREADS": "2"}.items()).settings


def test_the_line_can_be_pasted_into_a_shell():
    assert planned("mpich", ranks=1).line() == (
        "OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 /bin/mpiexec -n 1 python -m hammer.lab run 'a b.yaml'"
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("HYDRA build details: Version: 5.0.2", "mpich"), ("mpiexec (Open MPI) 5.0.11", "openmpi"), ("prterun (PRRTE) 3.0.2", "openmpi"),
        ("mpirun (Open MPI) 4.1.6", "openmpi4"), ("Intel(R) MPI Library", "mpich"), ("something", "other"),
    ],
)  # fmt: skip
def test_implementations_are_told_apart(tmp_path, said, kind):
    script = tmp_path / "mpiexec"
    script.write_text(f"#!/bin/sh\necho '{said}'\n")
    script.chmod(0o755)
    assert launch.implementation(str(script)) == kind


def test_an_mpiexec_that_does_not_start_is_named(tmp_path):
    script = tmp_path / "mpiexec"
    script.write_text("#!/bin/sh\necho 'no libpmix' >&2\nexit 127\n")
    script.chmod(0o755)
    with pytest.raises(agents.AgentsError, match=r"does not start: .*no libpmix"):
        launch.implementation(str(script))


def test_the_command_prints_the_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(launch, "mpiexec", lambda: "/bin/mpiexec")
    monkeypatch.setattr(launch, "implementation", lambda path: "mpich")
    assert main(["agents", "launch", "-n", "2", "--dry-run", "x.yaml", "training.lr=1e-3"]) == 0
    assert (
        capsys.readouterr()
        .out.rstrip()
        .endswith(f"/bin/mpiexec -n 2 {sys.executable} -m hammer.lab run x.yaml training.lr=1e-3")
    )
    assert main(["agents", "launch", "-n", "0", "x.yaml"]) == 2
    assert "at least one rank" in capsys.readouterr().err


def test_without_mpiexec_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["agents", "launch", "x.yaml"]) == 2
    assert 'pip install "hammer-grad[mpi]"' in capsys.readouterr().err


# ---- `hammer run` ----

CONFIG = """
task: regression
seed: 1
data: {dataset: diabetes, batch_size: 64}
model: {architecture: {name: mlp, hidden: [8]}, dropout: 0.2}
training: {epochs: 1, lr: 1e-2}
logging: {console: false}
"""


def started(tmp_path, *settings):
    (tmp_path / "c.yaml").write_text(CONFIG)
    return ["run", str(tmp_path / "c.yaml"), f"training.checkpoint_dir={tmp_path / 'runs'}", *settings]


def test_a_run_of_micro_batches_and_what_goes_with_them(tmp_path, capsys):
    pytest.importorskip("sklearn")
    for number, (steps, *settings) in enumerate(
        [
            (6, "training.micro_batches=4"),
            (3, "training.micro_batches=4", "training.accumulate=2", "training.compile=true"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert main(started(folder, *settings)) == 0
        assert f"1 epochs, {steps} steps" in capsys.readouterr().out


@pytest.mark.parametrize("settings", [[], ["training.micro_batches=4", "training.accumulate=3"]])
def test_a_timeline_of_one_process(tmp_path, capsys, settings):
    pytest.importorskip("sklearn")
    page, trace = tmp_path / "run.html", tmp_path / "run.json"
    assert main(started(tmp_path, *settings, f"training.timeline={page}")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"timeline: {page}, {trace}"
    steps = 2 if settings else 6
    assert f"{steps} steps; parallel efficiency" in page.read_text("utf-8")
    events = json.loads(trace.read_text())["traceEvents"]
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} == {"rank 0"}


def test_a_timeline_does_not_change_what_is_trained(tmp_path):
    """Also of a single process that is told of none: its random streams and whole batches stay."""
    pytest.importorskip("sklearn")
    kept = []
    for name in ("without", "with"):
        folder = tmp_path / name
        folder.mkdir()
        timeline = [f"training.timeline={folder / 'trace.json'}"] if name == "with" else []
        assert main(started(folder, *timeline)) == 0
        _, state = load_checkpoint(folder / "runs")
        kept.append({name: a.tobytes() for name, a in state["model"].items()})
        assert sorted(p.name for p in folder.glob("*.html")) == []
    assert kept[0] == kept[1] and (tmp_path / "with" / "trace.json").exists()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("run.svg", "must end in .html (a page and a trace) or .json (a trace); got"),
        ("away/run.html", "there is no folder"),
    ],
)
def test_a_timeline_that_could_not_be_written_is_refused_before_training(tmp_path, capsys, file, said):
    pytest.importorskip("sklearn")
    assert main(started(tmp_path, f"training.timeline={tmp_path / file}")) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.glob("runs/*"))


def test_a_run_that_is_interrupted_has_its_timeline(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(Trainer, "_to_stop", lambda trainer: trainer.step == 2)
    assert main(started(tmp_path, f"training.timeline={tmp_path / 'run.html'}")) == 130
    assert "interrupted after step 2" in capsys.readouterr().err
    assert " 2 steps; parallel efficiency" in (tmp_path / "run.html").read_text("utf-8")


def test_the_first_of_several_ranks_writes_the_timeline(tmp_path):
    pytest.importorskip("sklearn")
    names.register_all()
    _, path, folder, *settings = started(tmp_path, "training.timeline=" + str(tmp_path / "run.json"))

    def train(comm):
        prepared = setup.prepare(load_config(path, [folder, *settings]), comm)
        prepared.fit()
        return prepared.save_timeline()

    assert agents.run(3, train) == [[tmp_path / "run.json"], [], []]
    events = json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert {e["tid"] for e in events if e["ph"] == "X"} == {0, 1, 2}


@pytest.mark.parametrize("survives", [False, True])
def test_every_rank_that_may_write_the_timeline_looks_for_its_folder(tmp_path, survives):
    """After the loss of the first rank another one writes."""
    pytest.importorskip("sklearn")
    names.register_all()
    _, path, folder, *settings = started(tmp_path, "training.timeline=" + str(tmp_path / "away" / "run.json"))

    def start(comm):
        comm.survives = survives
        config = load_config(path, [folder, *settings])
        try:
            return command._start(setup.prepare(config, comm), config)
        except UsageError as error:
            return str(error)

    first, second = agents.run(2, start)
    assert "there is no folder" in first and (second == first if survives else second == [])


def test_energy_that_would_be_decided_by_every_rank_is_refused_before_training(tmp_path):
    pytest.importorskip("sklearn")
    names.register_all()
    _, path, *settings = started(tmp_path, "energy={source: model, budget: 1.0}")
    with pytest.raises(ConfigError, match=r"energy: .*each decide by their own meter"):
        agents.run(2, lambda comm: setup.prepare(load_config(path, settings), comm))
    setup.prepare(load_config(path, settings))

    def train(comm):
        booked = f"energy={{source: model, report: {tmp_path / str(comm.rank)}}}"
        setup.prepare(load_config(path, [*settings, booked]), comm).fit()

    agents.run(2, train)
    assert json.loads((tmp_path / "0" / "energy.json").read_text("utf-8"))["steps"] == 6
    assert not (tmp_path / "1").exists(), "the first rank's figures are reported"


@needs_mpi
def test_a_timeline_of_mpi_ranks(tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "c.yaml").write_text(CONFIG)
    settings = [f"training.checkpoint_dir={tmp_path / 'runs'}", f"training.timeline={tmp_path / 'run.html'}"]
    command = [sys.executable, "-m", "hammer.lab", "agents", "launch", "-n", "2", str(tmp_path / "c.yaml"), *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("timeline: ") == 1 and f"{tmp_path / 'run.html'}, {tmp_path / 'run.json'}" in done.stdout
    assert "6 steps; parallel efficiency" in (tmp_path / "run.html").read_text("utf-8")
    events = json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} == {"rank 0", "rank 1"}
    assert sum(e["name"] == "all_to_all" or e["name"] == "all_reduce" for e in events if e["ph"] == "b") > 6


@needs_mpi
def test_a_config_that_cannot_be_used_is_said_once(tmp_path):
    program = "import sys; from hammer.lab.cli import main; sys.exit(main(sys.argv[1:]))"
    done = run(2, program, *started(tmp_path, "training.micro_batches=1"))
    assert done.returncode != 0 and done.stderr.count("1 parts of a batch are too few for 2 ranks") == 1


# ---- real jobs ----

TRAIN = """
import os, signal, sys
from pathlib import Path
import numpy as np
from autograd.train import Callback
from hammer import agents
from test_team import fit

class Kill(Callback):
    def on_step_end(self, trainer):
        if trainer.step == 7 and trainer.agents.comm.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
with agents.world() as comm:
    bits, rows, _, step = fit(comm, folder, 2, save_every=2, callbacks=[Kill()] if "kill" in sys.argv else [])
    assert step == 10
    (folder / f"bits{comm.rank}").write_bytes(b"".join(bits[name] for name in sorted(bits)))
"""


@pytest.fixture(scope="module")
def bits():
    found = fit(agents.Alone())[0]
    return b"".join(found[name] for name in sorted(found))


def same_threads() -> bool:
    return os.environ.get("OPENBLAS_NUM_THREADS") == "1"


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_mpi_ranks_have_the_bits_of_one_process(tmp_path, bits, ranks):
    assert same_threads()
    done = run(ranks, TRAIN, tmp_path)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"bits{r}").read_bytes() == bits for r in range(ranks)] == [True] * ranks


@needs_mpi
def test_a_killed_rank_ends_the_job_and_the_run_goes_on_exactly(tmp_path, bits):
    """kill -9 of a rank after step 7: the job ends by itself, and a run on more ranks goes on from step 6 to the same bits."""
    done = run(2, TRAIN, tmp_path, "kill")
    assert done.returncode != 0 and not list(tmp_path.glob("bits*"))
    assert np.any([int(p.stem.rpartition("-")[2]) >= 6 for p in tmp_path.glob("*.safetensors")])
    again = run(3, TRAIN, tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "bits2").read_bytes() == bits
