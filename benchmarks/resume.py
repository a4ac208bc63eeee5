"""Kills a training run again and again, and compares the bits at the end with those of a run that was never stopped.

The run: an MLP with batch normalisation and dropout on scikit-learn's 1,797 digits; AdamW in mixed precision (fp16 with
dynamic loss scaling), two batches a step, clipping, a rate that falls on a plateau, shuffling, metrics, early stopping that never
comes, a log of every step, and a checkpoint every third step, in the middle of epochs and of their metrics.

Each of the kills is SIGKILL to a fresh process of that run: every other one at a random step (when the log has so many rows),
the others at the moment when the temporary file of a random checkpoint is seen, that is during a save. The run then goes on in
another process from what is on the disk, and one in four is killed a second time on its way. At its end everything must be
equal, bit for bit, to the run that was not stopped: parameters, running statistics, optimizer, loss scale, random streams,
metrics, history, and the log, which must have every row once.

The last line is JSON: ``kills`` (runs that were killed), ``during_a_save``, ``killed_again``, and ``bit_exact``, how many of the runs ended with the same bits.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import workers

EPOCHS, TIMES = 4, ("seconds", "examples_per_second")


def train(folder: Path, epochs: int) -> None:
    """The run, from its newest checkpoint if there is one; at the end its whole state is in ``final.safetensors``."""
    from sklearn.datasets import load_digits

    from autograd import nn, optim
    from autograd.train import (
        ArrayDataset,
        CheckpointFolder,
        EarlyStopping,
        JSONLLogger,
        Loader,
        ReduceLROnPlateau,
        Trainer,
        save_state,
        split,
    )

    bunch = load_digits()
    data = ArrayDataset((bunch.data / 16).astype(np.float32), bunch.target)
    training, val = split(data, 0.2, seed=0, stratify=True)
    rng = np.random.default_rng(0)
    hidden = [nn.Linear(64, 64, rng=rng), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3, rng=rng)]
    model = nn.Sequential(*hidden, nn.Linear(64, 10, rng=rng))
    trainer = Trainer(
        model,
        "cross_entropy",
        optim.AdamW(model.parameters(), lr=3e-3),
        metrics=["accuracy", "f1"],
        precision="fp16",
        accumulate=2,
        clip=1.0,
        callbacks=[EarlyStopping(patience=100, track_overfitting=True), ReduceLROnPlateau(0.5, 0, threshold=0.3)],
        loggers=[JSONLLogger(folder / "log.jsonl")],
        log_every=1,
        checkpoints=CheckpointFolder(folder / "checkpoints", keep_last=2),
        save_every=3,
    )
    trainer.fit(Loader(training, 32, shuffle=True, seed=1), Loader(val, 100), epochs, resume=True)
    save_state(folder / "final.safetensors", trainer.state_dict())


def start(folder: Path, epochs: int) -> subprocess.Popen:
    command = [sys.executable, __file__, "--worker", str(folder), "--epochs", str(epochs)]
    paths = [str(workers.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # the code beside this script
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})


def rows(folder: Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def saving(folder: Path) -> bool:
    """Whether a checkpoint is being written."""
    found = folder / "checkpoints"
    return found.is_dir() and any(
        not p.name.endswith(".safetensors") or p.name.startswith(".") for p in found.iterdir()
    )


def kill(folder: Path, epochs: int, when: Callable[[], bool]) -> bool:
    """Start the run, and kill it at the first moment for which ``when()``; whether it was killed before its end."""
    process = start(folder, epochs)
    while process.poll() is None:
        if when():
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0005)
    return process.wait() == -signal.SIGKILL


def finish(folder: Path, epochs: int) -> None:
    if start(folder, epochs).wait():
        raise SystemExit(f"the run in {folder} failed; its message is above")


def timeless(value: Any) -> Any:
    """A state without times, its arrays as their dtype, shape and bytes."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    if isinstance(value, (list, tuple)):
        return [timeless(v) for v in value]
    return (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def outcome(folder: Path) -> tuple[Any, Any]:
    """What must be equal: the state at the end, and the log."""
    from autograd.train import load_state

    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    return timeless(load_state(folder / "final.safetensors")), [timeless(json.loads(line)) for line in lines]


def main() -> None:
    sys.path.insert(0, str(workers.ROOT))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="few kills of a shorter run, and no report unless --out is given"
    )
    parser.add_argument("--kills", type=int, help="runs to kill (default 20; with --quick 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="folder for the report (default reports/benchmarks)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    epochs = options.epochs or (2 if options.quick else EPOCHS)
    if options.worker is not None:
        train(options.worker, epochs)
        return
    kills = options.kills or (3 if options.quick else 20)
    rng, table, began = np.random.default_rng(options.seed), [], time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary, "whole")
        finish(whole, epochs)
        expected, total = outcome(whole), rows(whole)
        for k in range(kills):
            folder, moment = Path(temporary, str(k)), int(rng.integers(1, total - 1))
            during, again = k % 2 == 1, k % 4 == 3
            when = lambda: rows(folder) >= moment and (not during or saving(folder))  # noqa: B023
            killed = kill(folder, epochs, when)
            left = rows(folder)
            in_save = saving(folder)
            second = None
            if again and killed:
                second = int(rng.integers(0, total))
                kill(folder, epochs, lambda: rows(folder) >= second)  # noqa: B023
            finish(folder, epochs)
            table.append([k + 1, left, killed, in_save, second, outcome(folder) == expected])
            print(
                f"kill {k + 1}: after row {left} of {total}, during a save: {in_save}, the same bits: {table[-1][-1]}"
            )
    figures = {
        "kills": sum(row[2] for row in table),
        "during_a_save": sum(row[3] for row in table),
        "killed_again": sum(row[4] is not None for row in table),
        "bit_exact": sum(row[5] for row in table if row[2]),
        "seconds": round(time.perf_counter() - began, 1),
    }
    say = lambda value: "yes" if value is True else "no" if value is False else "–" if value is None else str(value)
    lines = [(__doc__ or "").strip().rpartition("\n\n")[0], ""]
    about = common.machine()
    lines += [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['system']}; Python {platform.python_version()}, NumPy "
        f"{np.__version__}, all threads of BLAS. Rows of the log of the whole run: {total}. Seconds for all: {figures['seconds']:.0f}.",
        "",
    ]
    lines += common.table(
        [
            "kill",
            "rows logged when killed",
            "killed",
            "a file half written",
            "second kill at row",
            "same bits at the end",
        ],
        [[say(cell) for cell in row] for row in table],
    )
    options.command = f"python benchmarks/resume.py --seed {options.seed}" + (
        f" --kills {kills}" if options.kills else ""
    )
    common.finish(options, "resume", lines, figures)
    if figures["kills"] != kills or figures["bit_exact"] != kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
