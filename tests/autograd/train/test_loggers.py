"""Loggers: what they write, and that a run which was killed and goes on has every row once."""

import csv
import importlib
import importlib.util
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograd import nn
from autograd.train import (
    ConsoleLogger,
    CSVLogger,
    JSONLLogger,
    Statistics,
    TensorBoardLogger,
    Trainer,
    WandbLogger,
)

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def trainer(*loggers: Any, **options: Any) -> Trainer:
    return Trainer(nn.Linear(3, 2, rng=0), loggers=loggers, metrics=["accuracy"], **options)


def run(t: Trainer, epochs: int = 3, **options: Any) -> Trainer:
    t.fit((X, Y), (X, Y), epochs=epochs, batch_size=5, **options)
    return t


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_have_every_row(tmp_path: Path) -> None:
    t = run(trainer(CSVLogger(tmp_path / "logs" / "m.csv"), JSONLLogger(tmp_path / "m.jsonl"), log_every=3))
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    epochs = [r for r in rows if "val_loss" in r]
    assert epochs == t.history.rows and [r["step"] for r in rows if "step_loss" in r] == [3, 6, 9, 12]
    assert t.logged == len(rows) == 7
    written = table(tmp_path / "logs" / "m.csv")
    assert [r["step"] for r in written] == [str(r["step"]) for r in rows]
    assert [float(r["val_accuracy"]) for r in written if r["val_accuracy"]] == t.history["val_accuracy"]
    assert [float(r["step_loss"]) for r in written if r["step_loss"]] == [
        r["step_loss"] for r in rows if "step_loss" in r
    ]


@pytest.mark.parametrize("torn", ["", '{"step": 9', "1,2"])
def test_a_killed_run_goes_on_without_rows_twice(tmp_path: Path, torn: str) -> None:
    def loggers(name: str) -> tuple:
        return CSVLogger(tmp_path / f"{name}.csv"), JSONLLogger(tmp_path / f"{name}.jsonl")

    whole = run(trainer(*loggers("whole"), Statistics(4), log_every=2))
    killed = trainer(*loggers("killed"), Statistics(4), log_every=2)
    run(killed, max_steps=5)
    state = killed.state_dict()
    run(killed, max_steps=9)  # these rows come after the checkpoint
    for name in ("killed.csv", "killed.jsonl"):
        with open(tmp_path / name, "a", encoding="utf-8") as file:
            file.write(torn)
    after = trainer(*loggers("killed"), Statistics(4), log_every=2)
    after.load_state_dict(state)
    run(after)
    read = lambda name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    timeless = lambda rows: [{k: v for k, v in r.items() if "second" not in k} for r in rows]
    part = lambda r: r["step"] == 5 and "val_loss" in r  # the row of the part of an epoch at which max_steps ended
    assert timeless(r for r in read("killed") if not part(r)) == timeless(read("whole"))
    assert timeless(r for r in table(tmp_path / "killed.csv") if not (r["step"] == "5" and r["val_loss"])) == [
        {**r} for r in timeless(table(tmp_path / "whole.csv"))
    ]
    assert whole.logged + 1 == after.logged


def test_a_fresh_run_moves_older_files_aside(tmp_path: Path) -> None:
    for _ in range(3):
        run(trainer(JSONLLogger(tmp_path / "m.jsonl"), CSVLogger(tmp_path / "m.csv")), epochs=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "m.csv",
        "m.csv.1",
        "m.csv.2",
        "m.jsonl",
        "m.jsonl.1",
        "m.jsonl.2",
    ]
    assert len(table(tmp_path / "m.csv")) == 1


def test_json_is_json(tmp_path: Path) -> None:
    t = trainer(JSONLLogger(tmp_path / "m.jsonl"))
    t.log({"a": float("nan"), "b": float("inf"), "c": 1.5})
    t.callbacks[0].on_fit_end(t)
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {"epoch": 0, "step": 0, "a": None, "b": None, "c": 1.5}


def test_console(capsys: pytest.CaptureFixture) -> None:
    out = io.StringIO()
    t = run(trainer(ConsoleLogger(out)), epochs=2)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 and lines[1].startswith("epoch 2/2  train_loss ")
    assert f"val_accuracy {t.history.final['val_accuracy']:.4g}" in lines[1]
    t.stopped = "because"
    run(t, epochs=3)
    assert out.getvalue().endswith("stopped: because\n")


def test_progress_bar() -> None:
    pytest.importorskip("rich")
    out = io.StringIO()
    run(trainer(ConsoleLogger(out, progress=True)), epochs=1)
    assert "epoch 1/1  train_loss" in out.getvalue()


def test_tensorboard(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboardX") is None:
        with pytest.raises(ImportError, match="pip install tensorboardX"):
            TensorBoardLogger(tmp_path)
        return
    run(trainer(TensorBoardLogger(tmp_path)), epochs=2)
    (file,) = tmp_path.iterdir()
    assert b"val/accuracy" in file.read_bytes() and b"train/loss" in file.read_bytes()


class FakeWandb(types.ModuleType):
    """What WandbLogger uses of the package."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict[str, Any]] = []
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, **options: Any) -> Any:
        self.started.append(options)
        run = types.SimpleNamespace(id=options["id"] or "abc")
        run.log = lambda row, step: self.rows.append((step, row))
        run.finish = lambda: setattr(self, "finished", self.finished + 1)
        return run


def test_wandb_goes_on_as_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="WandbLogger needs the package wandb"):
        WandbLogger("p")
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    first = run(trainer(WandbLogger("p", "me", {"lr": 1})), epochs=1)
    second = trainer(WandbLogger("p", "me"))
    second.load_state_dict(first.state_dict())
    run(second, epochs=2)
    assert [(s["id"], s["resume"]) for s in fake.started] == [(None, None), ("abc", "must")]
    assert [step for step, _ in fake.rows] == [4, 8] and fake.finished == 2
    assert fake.started[0]["project"] == "p" and "val_loss" in fake.rows[0][1]
