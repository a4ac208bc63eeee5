"""The rule sets: who is tuned, who may take part, how many steps there are."""

import csv
import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autograd import optim
from hammer.lab import config, discovery, evidence, optimizers, problems, protocol
from hammer.lab.cli import main
from hammer.lab.comparison import Comparison
from hammer.lab.config import Config
from hammer.lab.errors import UsageError
from hammer.lab.optimizers import Entry, LogRange
from hammer.lab.store import Store

TUNED = {"workloads": ["quadratic", "rosenbrock"], "optimizers": ["adam", "sgd"], "seeds": 5}

SELF_TUNED = '''"""Gradient descent by the sign: nothing about it is searched."""

from autograd.optim import lion
from hammer.lab.optimizers import Entry

OPTIMIZER = Entry(name="signed", title="Signed", make=lion, space={}, fixed={"lr": 0.01}, baseline=False)
'''


def read(**more: object) -> Config:
    return config.from_mapping(TUNED | more, "c.yaml")


@pytest.mark.parametrize("rules", ["default", "self-tuning"])
def test_without_tuning_there_is_one_setting_the_published_one(rules: str, tmp_path: Path) -> None:
    untuned = read(rules=rules)
    assert (untuned.trials, untuned.tuning_seeds) == (0, 0)
    assert protocol.settings(untuned, "adam") == [{"lr": 1e-3}] == protocol.settings(untuned, "sgd")
    comparison = Comparison(untuned, Store(tmp_path))
    pair = comparison.pair("quadratic", "adam")
    assert (pair.chosen, pair.tuning, len(pair.scoring), len(pair.handicap)) == (0, [[]], 5, 5)
    assert {spec.hyper["lr"] for _, spec in pair.scoring} == {1e-3} and pair.handicap[0][1].hyper == {"lr": 1e-4}
    # Two workloads, two optimizers and two controls, five seeds each; nothing else.
    assert (
        comparison.total
        == 2 * (2 + 2) * 5
        == len({k for p in comparison.pairs for k, _ in comparison.pair(*p).planned})
    )


def test_what_tunes_itself_has_three_times_the_steps() -> None:
    usual, own = problems.get("quadratic").steps, read(rules="self-tuning")
    assert [protocol.step_limit(read(rules=rules), "quadratic") for rules in config.RULES] == [usual, usual, 3 * usual]
    assert protocol.step_limit(replace(own, steps=7), "quadratic") == 21
    assert {s.steps for s in protocol.specs(own, "quadratic", "adam", {"lr": 1e-3}, "scoring")} == {3 * usual}


def test_the_defaults_are_those_of_the_recipes() -> None:
    for name, entry in optimizers.ENTRIES.items():
        around = {"vortex": "sgd", "vortex_adamw": "adamw", "lookahead": "adam"}
        recipe = {"momentum": "sgd", "nesterov": "sgd", **around}.get(name, name)
        assert entry.without_default == []
        options = inspect.signature(getattr(optim, recipe)).parameters if entry.space else {}
        assert entry.defaults == {key: options[key].default for key in entry.space}
        assert all(space.low <= entry.defaults[key] <= space.high for key, space in entry.space.items())


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"rules": "tunde"}, ["rules", "tuned, default, self-tuning", "did you mean tuned"]),
        ({"rules": "default", "trials": 8}, ["c.yaml: trials", "nothing is tuned", "'rules: tuned'", "got 8"]),
        ({"rules": "self-tuning", "tuning_seeds": 1}, ["tuning_seeds", "nothing is tuned"]),
        ({"trials": 0}, ["trials", "at least 1 under the rules 'tuned'"]),
        ({"rules": "tuned", "tuning_seeds": 0}, ["tuning_seeds", "at least 1"]),
    ],
    ids=str,
)
def test_what_the_rules_forbid_is_refused(fields: dict[str, object], said: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        read(**fields)
    assert all(part in str(error.value) for part in said)


def test_rules_on_the_command_line() -> None:
    untuned = config.override(config.shipped("quick"), {"rules": "default"})
    assert (untuned.rules, untuned.trials) == ("default", 0)
    with pytest.raises(UsageError, match="--trials: nothing is tuned"):
        config.override(config.shipped("quick"), {"rules": "default", "trials": 4})
    with pytest.raises(UsageError, match="--trials: must be at least 1"):
        config.override(untuned, {"rules": "tuned"})


def test_an_untuned_config_reads_back_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    untuned = read(rules="self-tuning")
    path.write_text(untuned.to_yaml())
    assert replace(config.load(path), name=untuned.name) == untuned


def test_an_optimizer_without_defaults_takes_part_only_where_it_is_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(
        "adam", "Adam", lambda **_: None, {"lr": LogRange(1e-4, 1.0), "rho": LogRange(0.1, 1.0)}, defaults={"lr": 1.0}
    )
    monkeypatch.setitem(optimizers.ENTRIES, "adam", entry)
    assert read().rules == "tuned"
    for rules in ("default", "self-tuning"):
        with pytest.raises(UsageError, match=r"optimizers: the rules .* 'adam' declares none for rho"):
            read(rules=rules)


def test_an_optimizer_without_a_space_runs_under_all_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "signed.py").write_text(SELF_TUNED)
    with discovery.looking_in([tmp_path]):
        tuned = read(optimizers=["adam", "signed"], trials=4)
        assert optimizers.get("signed").searched == "nothing is searched"
        assert protocol.settings(tuned, "signed") == [{}]  # nothing to search: one setting, not four times the same
        assert Comparison(tuned, Store(tmp_path / "s")).total == 2 * ((4 + 1) * 2 + (2 + 2) * 5)
    file = tmp_path / "study.yaml"
    file.write_text(
        "workloads: [quadratic]\noptimizers: [adam, signed]\nrules: self-tuning\nseeds: 2\nsteps: 5\ntargets: derived\nresamples: 100\n"
    )
    where = ["--store", str(tmp_path / "s"), "--out", str(tmp_path / "out"), "--from", str(tmp_path), "--jobs", "1"]
    assert main(["compare", str(file), *where]) == 0
    shown = capsys.readouterr().out
    assert "rules self-tuning: published defaults, nothing tuned, three times the step limit; 2 scoring seeds" in shown
    assert "8 of 8 trials" in shown
    rows = list(csv.DictReader((tmp_path / "out" / "study" / "trials.csv").read_text().splitlines()))
    assert {row["step_limit"] for row in rows} == {"15"}
    assert [row["phase"] for row in rows].count("scoring") == 4 and "tuning" not in {row["phase"] for row in rows}
    page = (tmp_path / "out" / "study" / "index.html").read_text()
    assert "<h2>Settings</h2>" in page and "Tuning budget" not in page


def test_optimizers_that_hardly_ever_reach_a_target_are_not_called_equal() -> None:
    steps = np.full((2, 10, 2), np.inf)
    steps[0, 0, 0] = 50.0  # one run of forty: the interquartile means are both 0
    compared = Config(("quadratic", "rosenbrock"), ("adam", "sgd"), resamples=200)
    (pair,) = evidence.pairings(compared, compared.workloads, steps, np.random.default_rng(0))
    assert pair.difference.value == 0.0 and pair.verdict.word == "undecided"
