"""``hammer run``: what a config builds, going on after Ctrl-C, a person's own code, and messages."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ruamel.yaml")
pytest.importorskip("safetensors")
pytest.importorskip("sklearn")

from autograd import DiffTensor
from autograd.train import CheckpointFolder, DataError, load_state
from autograd.train.config import Config, ConfigError, load_config, parse
from hammer.energy import EnergyOptimizer
from hammer.lab.cli import main
from hammer.lab.training import models, names, setup, text

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
task: classification
device: cpu
data: {dataset: digits, batch_size: 100}
model: {architecture: {name: mlp, hidden: [16]}, dropout: 0.1}
training: {epochs: 2, lr: 0.01, save_every_steps: 4}
logging: {every_steps: 5}
scheduler: {type: StepLR, step_size: 1}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    names.register_all()
    (tmp_path / "small.yaml").write_text(SMALL, "utf-8")
    return tmp_path


def config(**sections: Any) -> Config:
    base: dict[str, Any] = {"device": "cpu", "data": {"dataset": "digits"}, "training": {}}
    for name, values in sections.items():
        base[name] = {**base.get(name, {}), **values} if isinstance(values, dict) else values
    return parse(base, "test")


def test_a_run_trains_logs_and_saves(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["run", "small.yaml", "training.epochs=3", "logging.csv=true"]) == 0
    out, err = capsys.readouterr()
    assert "epoch 3/3" in err and "1438 examples to train on, 359 to validate on" in err
    assert out.startswith("3 epochs, 45 steps: train_loss")
    rows = [json.loads(line) for line in (here / "checkpoints" / "metrics.jsonl").read_text().splitlines()]
    epochs = [r for r in rows if "val_accuracy" in r]
    assert [round(r["lr"], 9) for r in epochs] == [0.005, 0.0025, 0.00125] and epochs[-1]["val_accuracy"] > 0.8
    assert len((here / "checkpoints" / "metrics.csv").read_text().splitlines()) == len(rows) + 1
    found = CheckpointFolder(here / "checkpoints").latest()
    assert found is not None and found[1]["about"]["config"]["training"]["epochs"] == 3
    assert main(["run", "small.yaml"]) == 2
    assert "has checkpoints of an earlier run; go on with it by training.resume_from=" in capsys.readouterr().err
    assert main(["run", "small.yaml", "training.epochs=4", "training.resume_from=checkpoints"]) == 0
    out, err = capsys.readouterr()
    assert (
        "epoch 3, step 45" in err
        and "changed since then: training.epochs" in err
        and out.startswith("4 epochs, 60 steps")
    )


def test_ctrl_c_saves_and_says_how_to_go_on(here: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [
        sys.executable,
        "-m",
        "hammer.lab",
        "run",
        "small.yaml",
        "training.epochs=200",
        "early_stopping.enabled=false",
    ]
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    log, until = here / "checkpoints" / "metrics.jsonl", time.monotonic() + 60
    while time.monotonic() < until and not (log.exists() and log.read_bytes().count(b"\n") > 3):
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130 and "to go on:\n  hammer run small.yaml training.epochs=200" in err
    assert "training.resume_from=./checkpoints" in err
    found = CheckpointFolder(here / "checkpoints").latest()
    assert found is not None
    last = f"training.epochs={found[1]['place']['epoch'] + 2}"
    settings = ["logging.console=false", "early_stopping.enabled=false", last]
    assert main(["run", "small.yaml", *settings, "training.resume_from=checkpoints"]) == 0
    assert main(["run", "small.yaml", *settings, "training.checkpoint_dir=whole"]) == 0
    resumed, whole = (CheckpointFolder(here / f).latest() for f in ("checkpoints", "whole"))
    assert resumed is not None and whole is not None
    for name, value in whole[1]["model"].items():
        assert value.tobytes() == resumed[1]["model"][name].tobytes(), name


def test_config_and_schema_are_printed(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["run", "--print-config", "small.yaml", "training.lr=0.5"]) == 0
    (here / "printed.yaml").write_text(capsys.readouterr().out, "utf-8")
    assert load_config(here / "printed.yaml").training.lr == 0.5
    assert main(["run", "--print-config"]) == 0
    assert "task: classification" in capsys.readouterr().out
    assert main(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert "mnist" in json.dumps(printed) and "next_word" in json.dumps(printed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "none.yaml"),
        ([], "give a config file"),
        (["small.yaml", "training.lrr=1"], "did you mean lr?"),
        (["small.yaml", "data.dataset=minst"], "did you mean mnist?"),
        (["small.yaml", "data.dataset=null"], "the config names no data"),
        (["small.yaml", "device=cuda:7"], "device: cuda:7 cannot be used"),
        (["small.yaml", "model.architecture=cnn"], "cnn needs images (channels, height, width)"),
        (["small.yaml", "model.architecture=nowhere_to_be_found:net"], "cannot import 'nowhere_to_be_found'"),
        (["small.yaml", "training.monitor=val_f2"], "training.monitor: there is no val_f2; there are"),
        (["small.yaml", "training.resume_from=nowhere"], "there is no such file or folder"),
    ],
)
def test_bad_input_is_one_clear_line(
    here: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert main(["run", *arguments]) in (1, 2)
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_a_loss_that_is_not_finite_ends_the_run(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "own_nan.py").write_text(
        "import numpy as np\n\ndef data():\n    return np.full((20, 3), np.nan), np.arange(20) % 2\n", "utf-8"
    )
    assert main(["run", "small.yaml", "data.dataset=own_nan:data", "data.batch_size=4"]) == 1
    assert "the loss of batch 1 of epoch 1 (step 1) is nan" in capsys.readouterr().err


def test_a_persons_own_code(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "own_code.py").write_text(
        "import numpy as np\nfrom autograd import nn\n\n"
        "def points(n=50, *, seed):\n"
        "    x = np.random.default_rng(seed).normal(size=(n, 2))\n    return x, x.sum(axis=1)\n\n"
        "def net(width=4, *, shape, outputs, rng):\n"
        "    return nn.Sequential(nn.Linear(*shape, width, rng=rng), nn.Tanh(), nn.Linear(width, outputs, rng=rng))\n\n"
        "def loss(power=2):\n    return lambda p, t: ((p - t) ** power).mean()\n",
        "utf-8",
    )
    (here / "own.yaml").write_text(
        "task: regression\ndevice: cpu\ndata: {dataset: {name: 'own_code:points', n: 80}}\n"
        "model: {architecture: {name: 'own_code:net', width: 8}}\n"
        "training: {loss: 'own_code:loss', epochs: 30, lr: 0.03}\n",
        "utf-8",
    )
    assert main(["run", "own.yaml"]) == 0
    out, err = capsys.readouterr()
    assert "64 examples to train on, 16 to validate on" in err and "model: 33 parameters" in err
    assert float(out.partition("val_r2 ")[2].partition(";")[0]) > 0.8
    assert main(["run", "own.yaml", "model.architecture.depth=3"]) == 2
    assert "depth" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mnist", "diabetes", "number_words"])
def test_the_examples_run(here: Path, name: str) -> None:
    settings = ["training.max_steps=2", "logging.console=false", "data.batch_size=8"]
    settings += {
        "number_words": ["data.dataset.sums=120", "data.sequence_length=16"],
        "mnist": ["data.val_split=0.002"],  # validation takes the time
    }.get(name, [])
    assert main(["run", str(ROOT / "experiments" / f"{name}.yaml"), *settings]) == 0
    found = CheckpointFolder(here / "runs" / name).latest()
    assert found is not None and found[1]["place"]["step"] == 2


def test_settings_reach_the_trainer(here: Path) -> None:
    run = setup.prepare(
        config(
            training={
                "grad_clip": 2.0,
                "accumulate": 3,
                "nonfinite": "skip",
                "save_every_steps": 9,
                "keep_last": 4,
                "lr": 0.5,
            },
            precision={"dtype": "fp16", "loss_scale": 512.0},
            scheduler={"warmup_steps": 10, "patience": 0},
            metrics={"names": [{"name": "top_k", "k": 2}, "f1"]},
            compression={"method": {"name": "top_k", "amount": 0.1}} if "amount" in _options("top_k") else {},
            vortex={},
            checkpointing={"segments": 2},
            data={"val_split": 0.5, "balance": True},
            early_stopping={"patience": 7, "track_overfitting": False},
        )
    )
    t = run.trainer
    assert (t.accumulate, t.nonfinite, t.save_every, t.checkpoints.keep_last) == (3, "skip", 9, 4)
    assert t.scaled and t.before.state[0]["loss_scale"] == 512.0
    assert [m.name for m in t.metrics] == ["top_2", "f1_macro"]
    assert t.optimizer.lr == pytest.approx(0.05)
    assert "CheckpointSequential" in type(t.model).__name__
    first = run.train.order(0)
    assert len(set(first.tolist())) < len(first)  # drawn with replacement
    run.trainer.fit(run.train, run.val, 1, max_steps=2)
    assert t.step == 2


def _options(codec: str) -> Any:
    from autograd.train.config import registered

    return registered("compressor")[codec].options


def test_a_pretrained_encoder_has_its_own_rate_or_is_frozen(here: Path) -> None:
    def prepared(**training: Any) -> setup.Run:
        fine, scheduler = training.pop("fine", True), training.pop("scheduler", {})
        return setup.prepare(
            config(
                training={"lr": 0.1, "finetune": ["1"], **training},
                model={"encoder_fine_tune": fine},
                scheduler=scheduler,
            )
        )

    run = prepared(lr_mode="finetune", finetune_lr=0.01)
    assert sorted(place["lr"] for place in run.trainer.rates()) == [0.01, 0.1]
    moving = prepared(lr_mode="finetune", finetune_lr=0.01, scheduler={"type": "constant", "warmup_steps": 4})
    assert sorted(place["lr"] for place in moving.trainer.rates()) == pytest.approx([0.0025, 0.025])
    frozen = prepared(fine=False)
    before = frozen.trainer.model[1].weight.numpy().copy()
    frozen.trainer.fit(frozen.train, None, 1, max_steps=3)
    assert np.array_equal(before, frozen.trainer.model[1].weight.numpy())
    assert any("stay as they are" in line for line in frozen.said)
    with pytest.raises(ConfigError, match="no module nothing"):
        prepared(lr_mode="finetune", finetune=["nothing"])


def test_vocabularies(here: Path) -> None:
    known = text.vocabulary(text.words("A b b, c c c\n"), 2, here / "v" / "vocab.json")
    assert known == {"<UNK>": 0, "c": 1, "b": 2}
    assert json.loads((here / "v" / "vocab.json").read_text())["freq_threshold"] == 2
    assert text.vocabulary(["other"], 1, here / "v" / "vocab.json") == known
    (here / "vocab.pkl").write_bytes(b"\x80\x04}q\x00.")
    with pytest.raises(DataError, match="pickles are never read"):
        text.vocabulary([], 1, here / "vocab.pkl")


def test_sequences_shift_by_one_word(here: Path) -> None:
    (here / "story.txt").write_text("one two three four five six seven eight nine ten eleven", "utf-8")
    c = config(
        task="language_modelling",
        data={"dataset": None, "text_file": "story.txt", "sequence_length": 3, "freq_threshold": 1, "val_split": 0.4},
    )
    train, val, known = text.sequences(text.read(Path("story.txt")), c, "story.txt")
    back = {i: w for w, i in known.items()}
    assert [[back[i] for i in row] for row in train[0]] == [["one", "two", "three"], ["two", "three", "four"]]
    assert len(train) == 2 and len(val) == 1 and val[0][0].tolist() == [0, 0, 0]  # words that training never saw
    assert setup.prepare(c).trainer.evaluate([(train[0][0][None], train[0][1][None])])["perplexity"] > 1
    assert text.in_words(999) == "nine hundred and ninety nine" and text.in_words(40) == "forty"
    assert text.number_words(2, seed=1) == text.number_words(2, seed=1) != text.number_words(2, seed=2)


def test_a_language_model_sees_only_the_words_before(here: Path) -> None:
    model = models.next_word(context=3, hidden=8, outputs=5, rng=np.random.default_rng(0), dropout=0.0, embed_size=4)
    ids = np.array([[0, 1, 2, 3, 4, 0]])
    changed = ids.copy()
    changed[0, 3] = 0
    a, b = (model.infer(x) for x in (ids, changed))
    assert a.shape == (1, 5, 6)
    same = [np.array_equal(a[:, :, t], b[:, :, t]) for t in range(6)]
    assert same == [True] * 3 + [False] * 3


@pytest.mark.parametrize(("kernel", "size"), [(3, 28), (5, 9), (4, 13)])
def test_the_cnn_fits_every_size(kernel: int, size: int) -> None:
    options: dict[str, Any] = {"outputs": 3, "rng": np.random.default_rng(0), "dropout": 0.5}
    model = models.cnn((2, 3), 4, kernel, True, shape=(1, size, size), **options)
    out = model(DiffTensor(np.ones((2, 1, size, size), np.float32))).numpy()
    assert out.shape == (2, 3) and np.allclose(np.exp(out).sum(1), 1)
    with pytest.raises(ValueError, match="too small to be halved"):
        models.cnn((2, 3, 4, 5, 6), shape=(1, 8, 8), **options)


def test_states_on_disk_name_their_versions(here: Path) -> None:
    assert main(["run", "small.yaml", "training.max_steps=1", "logging.console=false"]) == 0
    (file,) = here.joinpath("checkpoints").glob("*.safetensors")
    assert set(load_state(file)["about"]["versions"]) == {"hammer", "numpy", "python"}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_images_by_a_csv_file(here: Path, capsys: pytest.CaptureFixture, task: str) -> None:
    image = pytest.importorskip("PIL.Image")
    (here / "pictures").mkdir()
    lines = ["image,label"]
    for i in range(12):
        bright = i % 2
        image.fromarray(np.full((12, 12, 3), 40 + 170 * bright, np.uint8)).save(here / "pictures" / f"{i}.png")
        lines.append(f"{i}.png,{bright}")
    (here / "list.csv").write_text("\n".join(lines), "utf-8")
    settings = [
        "device=cpu",
        f"task={task}",
        "data.images_dir=pictures",
        "data.labels_file=list.csv",
        "data.image_size=8",
    ]
    settings += [
        f"data.num_workers={int(task == 'regression')}",
        "training.epochs=2",
        "data.batch_size=4",
        "data.val_split=0.25",
        "logging.console=false",
    ]
    (here / "images.yaml").write_text("seed: 1\n", "utf-8")
    assert main(["run", "images.yaml", *settings]) == 0
    assert "2 epochs, 6 steps" in capsys.readouterr().out
    lines[3] = "nothing.png,1"
    (here / "list.csv").write_text("\n".join(lines), "utf-8")
    assert main(["run", "images.yaml", *settings, "training.checkpoint_dir=other"]) == 2
    assert "list.csv, line 4: there is no image 'nothing.png'" in capsys.readouterr().err


def test_energy_is_booked_and_reported(here: Path) -> None:
    options = {"source": "model", "table": "7nm", "static_watts": 2.0, "report": "energy", "budget": 1e6}
    run = setup.prepare(config(energy=options))
    history = run.trainer.fit(run.train, run.val, 2)
    assert 0 < history.rows[0]["joules"] < history.rows[1]["joules"]
    found = json.loads(Path("energy/energy.json").read_text("utf-8"))
    assert found["whole"]["source"] == "cost model, 7 nm, static 2 W" and found["steps"] == run.trainer.step
    assert (
        json.loads(Path("energy/decisions.json").read_text("utf-8")) == []
        and Path("energy/energy.html").stat().st_size > 2000
    )
    again = setup.prepare(config(energy=options))
    again.trainer.resume()
    (steering,) = [c for c in again.trainer.callbacks if isinstance(c, EnergyOptimizer)]
    assert again.trainer.step == run.trainer.step and steering.state["used"] > 0
    assert setup.prepare(config(energy={})).trainer.fit(
        run.train, None, 1, max_steps=1
    )  # without a counter nothing is measured
    for wrong, said in (
        ({"table": "1nm", "source": "model"}, "energy: technology: '1nm'"),
        ({"budget": -1.0}, "energy: .*budget must be above 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            setup.prepare(config(energy=wrong))
