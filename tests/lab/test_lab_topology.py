"""``hammer topology``: the page of a run, of stored diagrams and of numbers; and what it says of other things."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml")
pytest.importorskip("safetensors")
pytest.importorskip("sklearn")

from autograd.train import CheckpointFolder, load_state, save_state
from hammer import topology
from hammer.lab.cli import main

SMALL = """
task: classification
device: cpu
data: {dataset: digits, batch_size: 200}
model: {architecture: {name: mlp, hidden: [8]}}
training: {epochs: 4, lr: 0.01, save_every_epoch: true, checkpoint_dir: runs/small}
logging: {console: false}
"""


def data_of(path: Path) -> dict:
    return json.loads(path.read_text("utf-8").split('<script type="application/json">')[1].split("</script>")[0])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("small.yaml").write_text(SMALL)
        assert main(["run", "small.yaml"]) == 0
    return folder


def test_the_page_of_a_run(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(trained)
    before = sorted(Path("runs/small").iterdir())
    assert main(["topology", "runs/small", "--landscape", "5", "--pictures", "figures"]) == 0
    assert sorted(Path("runs/small").iterdir()) == sorted([*before, Path("runs/small/topology.html")])
    page = data_of(Path("runs/small/topology.html"))
    path, *layers = page["sets"]
    assert path["name"] == "path of the model" and len(path["moments"]) == 2  # from the third checkpoint on
    assert [one["name"] for one in layers] == ["graph of 1.weight", "graph of 4.weight"]
    states = [load_state(one.path) for one in CheckpointFolder("runs/small").saved()]
    assert layers[0]["moments"] == [f"epoch {k}, step {8 * k}" for k in (1, 2, 3, 4)]
    for frame, state in zip(layers[0]["frames"], states, strict=True):
        wanted = topology.layer_components(state["model"]["1.weight"])
        assert frame[0]["total"] == pytest.approx(float(topology.total_persistence(wanted)), rel=1e-4)
        assert frame[0]["count"] == len(wanted)
    assert [frame[0]["count"] for frame in path["frames"]] == [3, 4]
    flat = [topology.flat([state["model"][k] for k in sorted(state["model"])]) for state in states]
    (wanted,) = topology.rips(np.stack(flat), (0,))
    assert path["frames"][-1][0]["longest"] == pytest.approx(wanted.lifetimes.max(), rel=1e-4)

    values = np.array(page["landscape"]["values"])
    assert (
        values.shape == (5, 5)
        and 0 < values[2, 2] < 2.3
        and values[2, 2] < values[[0, 0, -1, -1], [0, -1, 0, -1]].min()
    )
    assert "4 checkpoints of small: epoch 1, step 8 to epoch 4, step 32" in capsys.readouterr().out
    assert {"graph_of_1_weight_barcode.svg", "landscape.svg", "merge_tree.svg"} <= {
        p.name for p in Path("figures").iterdir()
    }


def test_the_middle_of_the_slice_is_the_loss_of_the_run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    assert main(["topology", "runs/small", "--landscape", "3", "--examples", "5000", "--out", "all.html"]) == 0
    from autograd.train.config import parse
    from hammer.lab.training import setup

    *_, last = CheckpointFolder("runs/small").saved()
    state = load_state(last.path)
    prepared = setup.prepare(parse(state["about"]["config"], "here"))
    prepared.trainer.model.load_state_dict(state["model"])
    wanted = prepared.trainer.evaluate(prepared.train.dataset)["loss"]
    assert data_of(Path("all.html"))["landscape"]["values"][1][1] == pytest.approx(wanted, rel=1e-4)


def test_a_slice_in_the_plane_of_the_path(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(trained)
    command = ["topology", "runs/small", "--plane", "trajectory", "--landscape", "4", "--out", "plane.html"]
    assert main(command) == 0
    assert "in the plane of the path, in which" in capsys.readouterr().out
    seen = data_of(Path("plane.html"))["landscape"]
    states = [load_state(one.path)["model"] for one in CheckpointFolder("runs/small").saved()]
    weights = [{k: v for k, v in s.items() if k.endswith(("weight", "bias"))} for s in states]
    plane = topology.trajectory_plane(np.stack([topology.flat(w) for w in weights]), weights[-1])
    ends = [[c[0], c[-1]] for c in seen["coordinates"]]
    np.testing.assert_allclose(ends, plane.box(), rtol=1e-4)
    cells = [(p - low) / (high - low) * 3 for p, (low, high) in zip(plane.path.T, ends, strict=True)]
    np.testing.assert_allclose(np.transpose(seen["path"]), cells, atol=1e-3)
    assert len(seen["path"]) == 4 and np.ptp(seen["values"]) > 0
    assert main([*command, "--radius", "2"]) == 2
    assert "--radius" in capsys.readouterr().err
    (last,) = [one.path for one in CheckpointFolder("runs/small").saved()][-1:]
    assert main(["topology", str(last), "--plane", "trajectory"]) == 2
    assert "3 checkpoints" in capsys.readouterr().err


def test_pictures_as_png(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(trained)
    topology.save_diagrams("one.json", topology.rips(np.random.default_rng(0).standard_normal((9, 2)), (0,)), np.eye(4))
    assert main(["topology", "one.json", "--pictures", "printed", "--format", "png"]) == 0
    found = {p.name: p.read_bytes()[:4] for p in Path("printed").iterdir()}
    assert len(found) == 5 and {"landscape.png", "merge_tree.png", "diagrams_barcode.png"} <= set(found)
    assert set(found.values()) == {b"\x89PNG"}


def test_one_checkpoint_without_a_config(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    *_, last = CheckpointFolder(trained / "runs/small").saved()
    state = load_state(last.path)
    del state["about"]["config"]
    save_state(tmp_path / "one.safetensors", state)
    assert main(["topology", str(tmp_path / "one.safetensors")]) == 0
    said = capsys.readouterr().err
    assert "no landscape: the checkpoint keeps no config" in said and "one checkpoint only" in said
    page = data_of(tmp_path / "one.html")
    assert page["landscape"] is None and len(page["sets"]) == 2
    save_state(tmp_path / "other.safetensors", {"a": 1})
    assert main(["topology", str(tmp_path / "other.safetensors")]) == 2
    assert "is no checkpoint of a training run" in capsys.readouterr().err


def test_a_checkpoint_alone_imports_nothing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that a checkpoint names runs only if the person gives a config that names it too."""
    monkeypatch.chdir(tmp_path)
    Path("mycode.py").write_text(
        "from pathlib import Path\nfrom autograd import nn\nPath('imported').touch()\n"
        "def net(in_features, out_features, rng):\n    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, out_features, rng=rng))\n"
    )
    Path("own.yaml").write_text(SMALL.replace("{name: mlp, hidden: [8]}", "{name: 'mycode:net'}"))
    *_, last = CheckpointFolder(trained / "runs/small").saved()
    state = load_state(last.path)
    state["about"]["config"]["model"]["architecture"] = {"name": "mycode:net"}
    save_state("one.safetensors", state)
    assert main(["topology", "one.safetensors", "--landscape", "3"]) == 0
    assert "no landscape" in capsys.readouterr().err and not Path("imported").exists()
    assert main(["topology", "one.safetensors", "--landscape", "3", "--config", "own.yaml"]) == 0
    assert Path("imported").exists()


def test_stored_diagrams_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (components,) = topology.rips(np.random.default_rng(0).standard_normal((9, 2)), (0,))
    topology.save_diagrams(tmp_path / "d.json", {"a": {"1": components, "2": components}})
    assert main(["topology", str(tmp_path / "d.json")]) == 0
    assert data_of(tmp_path / "d.html")["sets"][0]["moments"] == ["1", "2"]
    np.save(tmp_path / "grid.npy", np.random.default_rng(0).standard_normal((6, 7)))
    assert main(["topology", str(tmp_path / "grid.npy"), "--out", str(tmp_path / "g.html")]) == 0
    page = data_of(tmp_path / "g.html")
    assert page["landscape"]["count"] == page["sets"][0]["frames"][0][0]["count"]
    assert f"page: {tmp_path / 'g.html'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no such file or folder"),
        (["."], "save_every_epoch=true"),
        (["x.txt"], "is no folder of checkpoints"),
        (["x.json"], "no file of save_diagrams"),
        (["line.npy"], "two axes"),
        (["x.npy"], "pickle"),
        ([".", "--landscape", "1"], "--landscape"),
        ([".", "--radius", "0"], "--radius"),
    ],
)
def test_bad_input_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.txt", "x.json", "x.npy"):
        Path(name).write_text("{}")
    np.save("line.npy", np.zeros(3))
    assert main(["topology", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hammer topology: ") and message in said and said.count("\n") == 1
