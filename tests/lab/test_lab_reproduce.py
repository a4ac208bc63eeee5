"""The canary, trials run again, archives, damaged stores and killed sweeps."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hammer.lab import canary, environment, reproduce, runs, trial
from hammer.lab.cli import main
from hammer.lab.errors import UsageError
from hammer.lab.runs import Stored
from hammer.lab.store import Store
from hammer.lab.trial import TIMES, TrialSpec

CONFIG = """
workloads: [quadratic, rosenbrock]
optimizers: [momentum, adam]
trials: 2
tuning_seeds: 1
seeds: 2
steps: 200
targets: derived
resamples: 100
"""
TOTAL = 2 * 2 * (2 + 2) + 2 * 2 * 2


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "small.yaml").write_text(CONFIG)
    assert compare(folder) == 0
    return folder


def compare(folder: Path) -> int:
    options = ["--out", str(folder / "reports"), "--store", str(folder / "runs"), "--jobs", "2"]
    return main(["compare", str(folder / "small.yaml"), *options])


def results(store: Path) -> dict[str, Any]:
    """All that is not a time, of every trial in a store."""
    found = {}
    for key in Store(store).all_keys():
        loaded = Store(store).load(key)
        assert loaded is not None
        record, arrays = loaded
        kept = {name: a.tobytes() for name, a in arrays.items() if name not in TIMES}
        found[key] = (record["spec"], record["bits"], record["code"], kept)
    return found


# ---- the canary ----


def test_distances_in_ulp_by_hand() -> None:
    for dtype in (np.float32, np.float64):
        one = dtype(1.0)
        a = np.array([one, one, 0.0, -0.0, one, np.nan, np.nan, np.inf], dtype)
        tiny = np.nextafter(dtype(0), dtype(1))
        b = np.array([one, np.nextafter(one, dtype(2)), tiny, 0.0, -one, np.nan, one, np.finfo(dtype).max], dtype)
        places = 2.0 * int(one.view(np.int32 if dtype is np.float32 else np.int64))  # from -1 through 0 to 1
        assert canary.ulps(a, b).tolist() == [0, 1, 1, 0, places, 0, np.inf, 1]
        assert canary.ulps(b, a).tolist() == canary.ulps(a, b).tolist()
    extremes = np.array([-np.finfo(np.float64).max]), np.array([np.finfo(np.float64).max])
    assert canary.ulps(*extremes)[0] == pytest.approx(2.0 * 0x7FEFFFFFFFFFFFFF)


def test_the_canary_says_what_differs_and_by_how_much() -> None:
    mine, other = canary.results(), canary.results()
    assert len(mine) >= 12 and {a.dtype.name for a in mine.values()} == {"float32", "float64"}
    assert canary.digest_of(other) == canary.digest() == environment.arithmetic()["canary"]
    assert canary.compare(mine, other) == "no result differs"
    other["exp float32"] = np.nextafter(np.nextafter(other["exp float32"], np.float32(9e9)), np.float32(9e9))
    assert canary.digest_of(other) != canary.digest()
    assert canary.compare(mine, other) == f"1 of {len(mine)} results differ, by up to 2 ulp (exp float32)"
    del other["exp float32"]
    assert "different versions" in canary.compare(mine, other)


_CHILD = """
from hammer.lab import canary, trial
from hammer.lab.trial import TrialSpec
bits = [trial.run(TrialSpec(p, "adam", {"lr": 0.01}, 0, 0, 40, 10, d))[0]["bits"]
        for p, d in (("digits_mlp", "float32"), ("digits_mlp", "float64"), ("quadratic", "float64"))]
print(canary.digest(), *bits)
"""


def test_equal_canaries_mean_equal_bits() -> None:
    """Processes with other kernels, threads and vector instructions: those with one canary have one set of bits."""
    settings = [
        {"OPENBLAS_CORETYPE": "Nehalem"},
        {"NPY_DISABLE_CPU_FEATURES": "X86_V4"},
        {"OPENBLAS_CORETYPE": "Haswell"},
    ]
    if os.uname().machine != "x86_64":
        settings = [{}]
    found: dict[str, set[str]] = {}
    for setting in ({}, *settings):
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **setting}
        child = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _CHILD], env=env, capture_output=True, text=True, check=False
        )
        if child.returncode == 0:  # a kernel that this processor cannot run ends the child
            digest, *bits = child.stdout.split()
            found.setdefault(digest, set()).add(" ".join(bits))
    assert found and all(len(bits) == 1 for bits in found.values()), found


# ---- comparing a trial with what was stored ----


def stored_and_again() -> tuple[Stored, dict[str, Any], dict[str, np.ndarray]]:
    spec = TrialSpec("quadratic", "adam", {"lr": 0.05}, 0, 0, 12, 5, "float64")
    outcome, arrays = trial.run(spec)
    kept = {name: a.copy() for name, a in arrays.items() if name not in TIMES}
    return Stored("k", spec, "scoring", "finished", None, outcome["bits"], "", "", "", kept), outcome, arrays


def test_a_difference_is_located_and_measured() -> None:
    stored, record, arrays = stored_and_again()
    assert reproduce.difference(stored, record, arrays) == reproduce.Finding(True, "bit-identical 12/12 steps")
    train = stored.arrays["train_loss"]
    train[7] = np.nextafter(train[7], 1e9)
    train[9] += 40 * np.spacing(train[9])
    assert reproduce.difference(stored, record, arrays).said == (
        "7/12 steps are bit-identical; the loss of step 7 differs by 1 ulp, and by 40 ulp at most (step 9)"
    )
    stored, *_ = stored_and_again()
    stored.arrays["loss"][1] = np.nextafter(stored.arrays["loss"][1], 1e9)
    assert "the judged loss differs by 1 ulp at step 5" in reproduce.difference(stored, record, arrays).said
    stored, *_ = stored_and_again()
    assert "final parameters differ" in reproduce.difference(replace(stored, bits="0"), record, arrays).said
    assert (
        "the data differ"
        in reproduce.difference(replace(stored, data="a" * 16), {**record, "data": "b" * 64}, arrays).said
    )
    shorter = {**arrays, "train_loss": arrays["train_loss"][:9]}
    assert (
        "the stored train_loss is float64(12,), this one float64(9,)"
        in reproduce.difference(stored, record, shorter).said
    )


def test_a_divergence_is_reproduced_too() -> None:
    spec = TrialSpec("rosenbrock", "momentum", {"lr": 1.0}, 0, 0, 50, 5, "float64")
    outcome, arrays = trial.run(spec)
    at = outcome["diverged_at"]
    stored = Stored("k", spec, "", "diverged", at, outcome["bits"], "", "", "", arrays)
    assert (
        reproduce.difference(stored, outcome, arrays).said
        == f"bit-identical {at}/{at} steps, then it diverges as it did (step {at})"
    )


# ---- the commands ----


def test_reproduce_from_report_archive_and_store(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, archive = done / "reports/small", tmp_path / "small.zip"
    assert main(["export", str(report), "--out", str(archive), "--store", str(done / "runs")]) == 0
    assert f"{TOTAL} trials ({TOTAL} records from" in capsys.readouterr().out
    key = runs.open_run(str(report)).keys[3]
    assert main(["reproduce", f"{archive}@{key[:9]}"]) == 0
    out = capsys.readouterr().out
    assert f"{key} " in out and "bit-identical 200/200 steps" in out and "1 of 1 trial bit-identical" in out
    assert f"canary {canary.digest()}: the same arithmetic, so equal bits are promised" in out
    for source in (report, archive, done / "runs"):  # all three say the same of a trial
        loaded = runs.open_run(str(source)).load(key)
        assert loaded is not None and loaded.spec.steps == 200 and loaded.canary == canary.digest()
        first = runs.open_run(str(report)).load(key)
        assert first is not None and (loaded.spec, loaded.bits, loaded.code, loaded.data) == (
            first.spec,
            first.bits,
            first.code,
            first.data,
        )
        assert all(loaded.arrays[name].tobytes() == first.arrays[name].tobytes() for name in runs.ARRAYS)
    with zipfile.ZipFile(archive) as content:
        assert len(content.read("records.jsonl").splitlines()) == TOTAL
        record = json.loads(content.read("records.jsonl").splitlines()[0])
    about = record["environment"]
    assert (
        about["canary"] == canary.digest()
        and about["blas"][0]["threads"] == 1
        and {"diff", "git", "command", "load", "simd", "cpu"} <= set(about)
    )


def test_reproduce_finds_a_changed_loss(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (done / "reports/small").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with np.load(tmp_path / "curves.npz", allow_pickle=False) as file:
        curves = dict(file)
    curves["rosenbrock.train_loss"][:, 150] = np.nextafter(curves["rosenbrock.train_loss"][:, 150], 0.0)
    np.savez(tmp_path / "curves.npz", allow_pickle=False, **curves)  # type: ignore[arg-type]
    environment_ = json.loads((tmp_path / "environment.json").read_text())
    with np.load(tmp_path / "canary.npz", allow_pickle=False) as file:
        results = dict(file)
    results["gemm float64"] *= 1.0 + 2.0**-50
    np.savez(tmp_path / "canary.npz", allow_pickle=False, **results)  # type: ignore[arg-type]
    (tmp_path / "environment.json").write_text(json.dumps({**environment_, "canary": "0123456789abcdef"}))
    run = runs.open_run(str(tmp_path))
    finished = next(
        k for k in run.keys if (s := run.load(k)) and s.spec.problem == "rosenbrock" and s.status == "finished"
    )
    assert main(["reproduce", f"{tmp_path}@{finished}"]) == 1
    out = capsys.readouterr().out
    assert (
        "150/200 steps are bit-identical; the loss of step 150 differs by 1 ulp" in out
        and "0 of 1 trial bit-identical" in out
    )
    assert "0123456789abcdef in the run: the arithmetic differs (1 of 14 results differ, by up to " in out


def test_draws_are_seeded_and_damaged_trials_skipped(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (done / "runs").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    ran: list[list[str]] = []

    def pretend(chosen: list[Stored], jobs: int) -> dict[str, reproduce.Finding]:
        ran.append([stored.key for stored in chosen])
        return {stored.key: reproduce.Finding(True, "same") for stored in chosen}

    monkeypatch.setattr(reproduce, "again", pretend)
    for _ in range(2):
        assert main(["reproduce", str(tmp_path), "--trials", "4", "--seed", "7"]) == 0
    assert ran[0] == ran[1] and len(set(ran[0])) == 4
    (tmp_path / f"{ran[0][1]}.npz").write_bytes(b"nonsense")
    assert main(["reproduce", str(tmp_path), "--trials", "4", "--seed", "7"]) == 0
    assert f"skipped: {tmp_path / ran[0][1]}.npz: damaged" in capsys.readouterr().out
    assert len(ran[2]) == 4 and ran[2][:3] == [ran[0][0], ran[0][2], ran[0][3]]  # another one takes its place


def test_archives_are_deterministic_and_damage_is_named(done: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for path in paths:
        assert main(["export", str(done / "reports/small"), "--out", str(path), "--store", str(tmp_path / "none")]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as content:
        files = {name: content.read(name) for name in content.namelist()}
    assert not any(name.endswith((".pkl", ".pickle")) for name in files)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as out:
        for name, data in files.items():
            out.writestr(name, data.replace(b"quadratic", b"quadratik") if name == "trials.csv" else data)
    with pytest.raises(UsageError, match=r"bad\.zip: the file trials\.csv in it is damaged"):
        runs.open_run(str(tmp_path / "bad.zip"))
    whole = paths[0].read_bytes()
    for content_ in (b"", b"PK", whole[: len(whole) // 2], whole[:200] + b"\xff" * 60 + whole[260:]):
        (tmp_path / "broken.zip").write_bytes(content_)
        with pytest.raises(UsageError, match=r"broken\.zip: "):
            runs.open_run(str(tmp_path / "broken.zip"))
    (tmp_path / "other.zip").write_bytes(_zip({"a": b"b"}))
    with pytest.raises(UsageError, match="not an archive of `hammer export`"):
        runs.open_run(str(tmp_path / "other.zip"))


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, data in files.items():
            out.writestr(name, data)
    return buffer.getvalue()


def test_what_cannot_be_reproduced_is_said_in_one_line(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = done / "reports/small"
    for arguments, said in (
        ([f"{report}@zzz"], "unknown trial 'zzz'"),
        ([str(report), "--trials", "0"], "--trials: must be a whole number of at least 1; got 0"),
        ([str(tmp_path / "nothing")], "no such file or folder"),
        ([str(tmp_path)], "neither a report"),
    ):
        assert main(["reproduce", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["export", str(tmp_path)]) == 2
    assert "not a report's folder" in capsys.readouterr().err


# ---- damaged stores, killed sweeps ----


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file in one of several ways; returns which."""
    data = path.read_bytes()
    kind = rng.choice(["flip", "cut", "empty", "gone", "folder", "noise", "json", "nested", "zeros"])
    path.unlink()
    if kind == "flip":
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    elif kind == "cut":
        path.write_bytes(data[: rng.randrange(1, len(data))])
    elif kind == "folder":
        path.mkdir()
    elif kind != "gone":
        content = {
            "empty": b"",
            "noise": rng.randbytes(len(data)),
            "json": b'{"key": 1}',
            "nested": b"[" * 100_000,
            "zeros": bytes(len(data)),
        }
        path.write_bytes(content[kind])
    return kind


def test_a_hundred_damaged_stores(tmp_path: Path) -> None:
    """Each damaged file is named, no damaged trial is used, and no sound one is lost."""
    whole = {}
    for i in range(5):
        record = {
            "key": f"{i:024x}",
            "status": "finished",
            "spec": {"hyper": {"lr": 10.0**-i}},
            "wall_seconds": 0.1 * i,
        }
        whole[record["key"]] = (record, {"loss": np.arange(20.0) + i, "seconds": np.arange(3.0)})
    for number in range(100):
        rng = random.Random(number)
        folder = tmp_path / str(number)
        folder.mkdir()
        store = Store(folder)
        for record, arrays in whole.values():
            store.save(record, arrays)
        chosen = rng.sample(sorted(folder.iterdir()), rng.randint(1, 4))
        kinds = {path: damage(path, rng) for path in chosen}
        for key, (record, arrays) in whole.items():
            loaded, path = store.load(key), folder / f"{key}.npz"
            if path not in kinds:
                assert loaded is not None and loaded[0] == record
                assert all(loaded[1][name].tobytes() == a.tobytes() for name, a in arrays.items())
            else:
                assert loaded is None
                named = any(line.startswith(f"{path}: damaged (") for line in store.complaints)
                assert named or kinds[path] == "gone", (kinds, store.complaints)  # a file that is gone says nothing
        assert len(store.complaints) <= len(kinds)


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_a_killed_sweep_resumes_with_equal_bits(done: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "hammer.lab", "compare", "small.yaml", "--jobs", "2"]
    for kept in (1, 7):  # killed twice, each time after some more trials
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while (
            len(Store(tmp_path / "runs").all_keys()) < kept and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        process.kill()  # the command alone: its workers have to notice
        process.wait()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
        else:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail("a worker outlived the command that was killed")
    killed = results(tmp_path / "runs")
    assert 7 <= len(killed) < TOTAL
    assert compare(tmp_path) == 0
    assert results(tmp_path / "runs") == results(done / "runs")
