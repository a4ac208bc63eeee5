"""``benchmarks/compiled_step.py``: that its workloads are what they say, that it notices other results, and its figures."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = ("mlp_tiny", "mlp_small", "lstm", "transformer", "ssm", "chain", "layer_norm")


@pytest.fixture(scope="module", autouse=True)
def on_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("workload", SMALL)
def test_the_two_writings_of_a_workload_are_one(workload):
    """The layers' loss against the formulas in NumPy, and the layers' step against a difference quotient along it."""
    from workloads import FUNCTIONS, problem
    from workloads_formulas import LOSSES, Formulas
    from workloads_layers import step_of

    given = problem(workload)
    wide = [w.astype(np.float64) for w in given.weights]
    data = [a.astype(np.float64) if a.dtype == np.float32 else a for a in given.data]
    loss = lambda weights: float(LOSSES[workload](Formulas(np), weights, *data))
    step = step_of("ours_eager", workload)
    assert float(step.run()) == pytest.approx(loss(wide), rel=1e-5)
    found = step.state()
    moved = [0.05 * g for g in found] if workload in FUNCTIONS else [w - f for w, f in zip(wide, found, strict=True)]
    slope = sum(float((m * m).sum()) for m in moved) / 0.05  # the gradient is the move over the rate
    size = 1e-3 / max(float(np.abs(m).max()) for m in moved)
    ahead, back = (loss([w + s * m for w, m in zip(wide, moved, strict=True)]) for s in (size, -size))
    assert (ahead - back) / (2 * size) == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("workload", ["mlp_tiny", "chain"])
def test_compiled_steps_do_what_uncompiled_ones_do(workload):
    from compiled_step import Bench, difference

    made = {library: Bench(library).make(workload) for library in ("ours", "ours_eager")}
    assert difference(made["ours"], made["ours_eager"]) is None
    assert made["ours"]["losses"][0] != made["ours"]["losses"][-1] or workload == "chain"


@pytest.mark.peers
@pytest.mark.parametrize("workload", ["mlp_tiny", "layer_norm"])
def test_pytorch_and_jax_do_the_same(workload):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    from compiled_step import Bench, difference

    made = {library: Bench(library).make(workload) for library in ("ours_eager", "torch", "jax")}
    assert difference(made["torch"], made["ours_eager"]) is None
    assert difference(made["jax"], made["ours_eager"]) is None
    (tmp,) = {len(m["prints"]) for m in made.values()}
    wrong = dict(made["jax"], prints=[[n, p + n] for n, p in made["jax"]["prints"]])
    assert tmp and "weight or gradient 0" in difference(wrong, made["torch"])


def test_other_results_are_noticed():
    from compiled_step import difference

    one = {"losses": [2.0, 1.0], "prints": [[3.0, 1.0]]}
    assert difference(one, one) is None
    assert difference({**one, "losses": [2.0, 1.00009]}, one) is None
    assert "step 1 is 1.0002" in difference({**one, "losses": [2.0, 1.0002]}, one)
    assert "gradient 0" in difference({**one, "prints": [[3.0, 1.1]]}, one)
    assert "gradient 0" in difference({**one, "prints": [[3.01, 1.0]]}, one)
    assert "nan" in difference({**one, "losses": [2.0, float("nan")]}, one)


def test_the_figures_are_ratios_to_the_fastest_peer_and_parts_of_the_roofs():
    from compiled_step import summarise

    seconds = {
        "chain": {"ours": [1e-3, 2e-3, 1e-3], "torch": [4e-3, 8e-3, 4e-3], "jax": [2e-3, 4e-3, 2e-3]},
        "cnn": {"ours": [0.02] * 3, "ours_eager": [0.01] * 3, "torch": [0.01] * 3},
        "lstm": {"torch": [0.1] * 3},
    }
    made = {case: {k: {"first": 2.0, "later": 0.5, "megabytes": 7.0, "note": ""} for k in there} for case, there in seconds.items()}  # fmt: skip
    costs = {"chain": {"flops": 1e7, "bytes": 4e7, "compulsory_bytes": 1e7}}
    figures, lines = summarise(seconds, made, costs, {"1": 50.0, "2": 100.0}, {"1": 10.0, "2": 20.0}, 2)
    assert figures["chain"] == {"ours": 1.0, "torch": 4.0, "jax": 2.0}
    assert figures["ours_by_fastest_peer"] == {"chain": 0.5, "cnn": 2.0}
    assert figures["geometric_mean"] == 1.0
    assert figures["fractions"] == {"chain": {"gemm_peak": 0.1, "copy_bandwidth": 0.5}}  # 10 GFLOP/s and 10 GB/s
    assert figures["compile_seconds"]["lstm"] == {"torch": 1.5}
    assert any(line.startswith("| chain") and line.rstrip(" |").endswith("jax") for line in lines)
    json.dumps(figures)


def test_a_workload_is_weighed():
    from compiled_step import Bench

    weight = Bench("ours_eager").weigh("mlp_tiny")
    products = 2 * 32 * (64 * 64 + 64 * 64 + 64 * 10)
    parameters = 64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    assert (
        3 * products - 2 * 32 * 64 * 64 < weight["flops"] < 3 * products + 2 * parameters + 60_000
    )  # no gradient of x
    assert weight["compulsory_bytes"] == 4 * (2 * parameters + 32 * 64) + 8 * 32


def test_a_pause_ends_when_the_workers_rest():
    import time

    import workers

    class Busy:
        def __init__(self, readings):
            self.readings = iter(readings)

        def ran(self):
            return next(self.readings)

    second = 1_000_000_000
    start = time.monotonic()
    workers.settled([Busy([0, second, 2 * second, 2 * second]), Busy([5, 5, 5, 5])])
    assert time.monotonic() - start < 0.4
    with pytest.raises(StopIteration):  # it has not yet come to rest when the readings end
        workers.settled([Busy([0, second])])


def test_a_whole_run(capsys, tmp_path):
    import compiled_step

    status = compiled_step.main(
        ["--quick", "--libraries", "ours_eager", "--only", "mlp_tiny", "--rounds", "1", "--out", str(tmp_path)]
    )
    figures = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert status == 0
    assert figures["mlp_tiny"]["ours_eager"] > 0
    assert 0 < figures["fractions"]["mlp_tiny"]["gemm_peak"] < 1
    assert (tmp_path / "compiled_step.md").read_text().count("| mlp_tiny") >= 3  # times, roofs, compiling
    with pytest.raises(SystemExit, match="'mlp' is not known"):
        compiled_step.main(["--only", "mlp"])
