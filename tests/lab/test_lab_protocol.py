"""The rules: equal budgets, nested lists, seeds that never meet, pairing, how settings and targets are chosen."""

import itertools
import math
import re

import numpy as np
import pytest

from hammer.lab import config, datasets, optimizers, problems, protocol
from hammer.lab.config import Config
from hammer.lab.protocol import Trial
from hammer.lab.seeds import ROLES, Streams, indices, phase_of
from hammer.lab.store import key_of

CONFIG = Config(
    workloads=("quadratic", "rosenbrock"),
    optimizers=tuple(name for name, entry in optimizers.ENTRIES.items() if entry.space),
    trials=5,
    tuning_seeds=2,
    seeds=4,
)


def trial(losses: list[float], every: int = 10, status: str = "finished") -> Trial:
    """A trial with these judged losses."""
    arrays = {
        "loss": np.array(losses),
        "eval_step": every * np.arange(len(losses)),
        "seconds": 0.5 * np.arange(len(losses)),
    }
    return Trial({"status": status}, arrays)


def test_every_optimizer_gets_the_same_points_and_the_same_budget() -> None:
    points = protocol.halton(CONFIG.trials)[:, 0]
    for name in CONFIG.optimizers:
        space = optimizers.get(name).space
        found = [c["lr"] for c in protocol.candidates(name, CONFIG.trials)]
        assert found == pytest.approx(
            [space["lr"].low * (space["lr"].high / space["lr"].low) ** u for u in points], rel=1e-5
        )
        assert all(space["lr"].low <= lr <= space["lr"].high for lr in found)
        for workload in CONFIG.workloads:
            tuning = protocol.tuning_specs(CONFIG, workload, name)
            assert [len(setting) for setting in tuning] == [2] * 5
            assert {spec.steps for setting in tuning for spec in setting} == {problems.get(workload).steps}


def test_more_trials_keep_the_first_ones() -> None:
    assert protocol.candidates("adam", 12)[:5] == protocol.candidates("adam", 5)
    assert (protocol.halton(12)[:5] == protocol.halton(5)).all()
    eighths = np.sort(np.floor(8 * protocol.halton(8)[:, 0]))
    assert eighths.tolist() == list(range(8))  # spread evenly: one point in each eighth


def test_tuning_scoring_and_control_seeds_never_meet() -> None:
    phases = {phase: set(indices(phase, 1000)) for phase in ("scoring", "tuning", "control")}
    for a, b in itertools.combinations(phases.values(), 2):
        assert not a & b
    assert all(phase_of(index)[0] == phase for phase, found in phases.items() for index in found)


def test_streams_differ_by_role_index_problem_and_root_and_not_otherwise() -> None:
    def first(*key: object, role: str) -> int:
        return int(Streams(*key)(role).integers(2**62))  # type: ignore[arg-type]

    roles = [role for role in ROLES if role != "split"]
    keys = [
        (root, problem, index)
        for root in (0, 1)
        for problem in ("quadratic", "rosenbrock")
        for index in (0, 1, 1_000_000)
    ]
    draws = [first(*key, role=role) for key in keys for role in roles]
    assert len(set(draws)) == len(draws)
    assert first(0, "quadratic", 1, role="init") == first(0, "quadratic", 1, role="init")
    splits = {first(root, "quadratic", index, role="split") for root in (0, 1) for index in (0, 7)}
    assert len(splits) == 1 and splits != {first(0, "rosenbrock", 0, role="split")}


@pytest.mark.parametrize("name", problems.names())
def test_one_seed_is_one_start_and_one_sequence_of_batches(name: str) -> None:
    problem = problems.get(name)

    def beginning(index: int) -> list[np.ndarray]:
        task = problem.start(Streams(0, name, index), problem.dtype)
        start = [p.numpy().copy() for p in task.parameters]
        assert all(p.dtype == problem.dtype for p in start)
        return [*start, np.array([task.loss().item() for _ in range(3)])]

    again, other = beginning(0), beginning(1)
    assert all((a == b).all() for a, b in zip(beginning(0), again, strict=True))
    assert not all((a == b).all() for a, b in zip(again, other, strict=True))


def test_an_epoch_shows_every_example_once() -> None:
    problem = problems.get("digits_logistic")
    task = problem.start(Streams(0, problem.name, 0), problem.dtype)
    assert problem.batch_size is not None
    whole = len(task.parts.x) // problem.batch_size  # type: ignore[attr-defined]
    seen = np.concatenate([next(task._batches) for _ in range(whole)])  # type: ignore[attr-defined]
    assert len(set(seen.tolist())) == len(seen) == whole * problem.batch_size


def test_held_out_examples_are_never_trained_on() -> None:
    data = datasets.digits()
    marked = datasets.Dataset("marked", "", np.arange(len(data.x))[:, None], data.y)
    parts = datasets.split(marked, np.random.default_rng(0), held=400, dtype="float64")
    assert not set(parts.x.ravel()) & set(parts.x_held.ravel())
    assert len(parts.x) + len(parts.x_held) == len(data.x)
    assert (marked.y[parts.x_held.ravel().astype(int)] == parts.y_held).all()


def test_standardising_uses_the_training_part_only() -> None:
    parts = datasets.Split(np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]]), np.array([[4.0]]), np.array([[3.0]]))
    done = datasets.standardised(parts)
    assert done.x.ravel().tolist() == [-1.0, 1.0] and done.x_held.ravel().tolist() == [3.0]
    assert done.y.ravel().tolist() == [-1.0, 1.0] and done.y_held.ravel().tolist() == [0.0]


def test_shapes_and_sources_of_the_data() -> None:
    assert datasets.digits().x.shape == (1797, 64) and datasets.diabetes().y.shape == (442, 1)
    images = datasets.mnist()
    assert images.x.shape == (5000, 1, 28, 28) and (np.bincount(images.y) == 500).all()
    assert images.x.min() == 0.0 and images.x.max() == 1.0


def test_time_to_target_is_the_first_evaluation_at_or_below_it() -> None:
    run = trial([9.0, 4.0, 2.0, 3.0])
    assert [run.to_target(loss) for loss in (2.0, 4.5, 1.0, None)] == [20.0, 10.0, math.inf, math.inf]
    assert [run.to_target(loss, "seconds") for loss in (2.0, 4.5, 1.0)] == [1.0, 0.5, math.inf]
    assert (run.final_loss, run.best_loss(), run.best_loss(0.5)) == (3.0, 2.0, 4.0)


def test_divergence_and_errors_count_as_infinity() -> None:
    diverged = trial([9.0, 1.0, math.inf, math.inf], status="diverged")
    raised = Trial({"status": "error"}, {})
    assert diverged.final_loss == diverged.best_loss() == raised.final_loss == raised.best_loss() == math.inf
    assert raised.to_target(1.0) == raised.to_target(1.0, "joules") == math.inf


def test_what_was_not_measured_is_no_number() -> None:
    run = trial([9.0, 4.0, 2.0])
    run.arrays.update(flops=np.array([0.0, 1e12, 2e12]), joules=np.full(3, np.nan))
    assert run.to_target(4.0, "flops") == 1e12
    for cost in ("joules", "joules_estimate", "cpu_seconds"):  # NaN; bytes are lacking; there is no such array
        assert math.isnan(run.to_target(4.0, cost))
    run.arrays["bytes_moved"] = np.array([0.0, 8e11, 1e12])
    assert run.to_target(4.0, "joules_estimate") == pytest.approx(2.3 + 10.0)
    assert run.to_target(1.0, "joules_estimate") == math.inf


def test_the_winner_is_fastest_to_the_target_then_lowest_at_the_end() -> None:
    fast, low, tie = [trial([9.0, 1.0, 1.0])], [trial([9.0, 5.0, 0.5])], [trial([9.0, 1.0, 0.9])]
    assert protocol.winner([low, fast], target=2.0) == 1
    assert protocol.winner([low, fast], target=None) == 0
    assert protocol.winner([low, fast, tie], target=2.0) == 2
    one_of_two_diverged = [trial([9.0, 1.0, 1.0]), trial([math.inf] * 3, status="diverged")]
    assert protocol.winner([one_of_two_diverged, low], target=2.0) == 1
    assert protocol.winner([[Trial({"status": "error"}, {})], low], target=2.0) == 1


def test_a_derived_target_is_reached_by_four_of_five_seeds_of_the_best_baseline_at_half_time() -> None:
    adam = [trial([9.0, loss, 0.0]) for loss in (0.5, 0.1, 0.3, 0.2, 0.4)]
    others = {"momentum": [trial([9.0, 0.6, 0.0])] * 5, "vortex": [trial([9.0, 0.01, 0.01])] * 5}
    assert protocol.derived_target({"adam": adam, **others}) == (0.4, "adam")  # vortex is no baseline
    assert protocol.derived_target({"adam": adam, "sgd": [trial([9.0, 0.39, 5.0])] * 5}) == (0.39, "sgd")
    diverged = [trial([9.0, 1.0, math.inf], status="diverged")] * 2
    assert protocol.derived_target({"adam": adam[:3] + diverged}) is None
    assert protocol.derived_target({}) is None


def test_a_key_names_everything_that_decides_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    (spec,) = protocol.specs(config.override(CONFIG, {"seeds": 1}), "quadratic", "adam", {"lr": 0.1}, "scoring")
    base = protocol.key(spec)
    assert protocol.key(spec) == base
    fields = {
        "problem": "rosenbrock",
        "optimizer": "adamw",
        "hyper": {"lr": 0.2},
        "root": 1,
        "index": 1,
        "steps": 3,
        "eval_every": 7,
        "dtype": "float32",
    }
    changed = [protocol.key(type(spec)(**{**spec.__dict__, name: value})) for name, value in fields.items()]
    assert set(fields) == set(spec.__dict__)
    monkeypatch.setattr(protocol, "code_version", lambda problem: "other")
    changed.append(protocol.key(spec))
    monkeypatch.undo()
    monkeypatch.setattr(protocol, "arithmetic", lambda: {"blas": "other"})
    changed.append(protocol.key(spec))
    assert len({base, *changed}) == len(changed) + 1
    assert key_of({"a": 1, "b": [1.5]}) == key_of({"b": [1.5], "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        key_of({"a": math.nan})


def test_problems_and_optimizers_describe_themselves() -> None:
    targets = config.shipped("targets")
    for name in problems.names():
        problem = problems.get(name)
        assert problem.steps % problem.eval_every == 0
        assert problem.target is not None
        seeds, half = targets.seeds, problem.steps // 2
        said = rf"targets.yaml: {math.ceil(0.8 * seeds)} of {seeds} scoring seeds of (\w+), the best baseline, reach it within {half} of {problem.steps} steps"
        found = re.fullmatch(said, problem.target.set_by)
        assert found is not None and found[1] in targets.optimizers and name in targets.workloads
    for name, entry in optimizers.ENTRIES.items():
        assert entry.name == name
        assert hasattr(entry.transform(protocol.candidates(name, 1)[0]), "update")
