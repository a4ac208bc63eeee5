"""Trainer(agents=..., accumulate=k, compile=...): steps of several batches, and of compiled micro-batches."""

import numpy as np
import pytest
from test_survive import Strike
from test_team import LINKED, X, Y, fit

from autograd import nn, optim
from autograd.train import Callback, Loader, NonFiniteError, Trainer
from autograd.train.data import ArrayDataset
from hammer import agents

WINDOWS = [2, 3]  # of the 5 batches of an epoch, the last of 9 examples: the last window is shorter


@pytest.fixture(scope="module")
def alone():
    return {k: fit(agents.Alone(), accumulate=k, log_every=1) for k in WINDOWS}


@pytest.mark.parametrize("k", WINDOWS)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_steps_of_several_batches_have_the_same_bits_on_any_number_of_ranks(alone, size, k):
    """With dropout, batch normalisation and metrics."""
    found = agents.run(size, lambda comm: fit(comm, accumulate=k, log_every=1))
    assert all(bits == alone[k][0] and rows == alone[k][1] for bits, rows, _, _ in found)
    steps = 2 * -(-5 // k)
    assert alone[k][3] == steps and [told for _, _, told, _ in found] == [steps + 2] + [0] * (size - 1)


def test_a_run_goes_on_inside_an_epoch_with_another_number_of_ranks(alone, tmp_path):
    agents.run(3, lambda comm: fit(comm, tmp_path, max_steps=4, accumulate=2))
    bits, rows, _, step = agents.run(2, lambda comm: fit(comm, tmp_path, accumulate=2))[1]
    assert bits == alone[2][0] and rows[-1] == alone[2][1][-1] and step == alone[2][3]


def net(seed=1, batch_norm=False):
    rng = np.random.default_rng(seed)
    layers = [nn.Linear(3, 8, rng=rng), *([nn.BatchNorm1d(8)] if batch_norm else []), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(8, 3, rng=rng))


def trained(team=None, n=53, x=X, model=None, kind=Trainer, **options):
    """A Trainer after two epochs of batches of 10, the last of 3: fewer than micro-batches."""
    metrics = ["accuracy", "f1", "perplexity"]
    trainer = kind(
        model or net(), "cross_entropy", optim.sgd(0.1, momentum=0.9), metrics=metrics, agents=team, **options
    )
    trainer.fit(Loader(ArrayDataset(x[:n], Y[:n]), 10, shuffle=True, seed=3), epochs=2)
    return trainer


def alike(a, b, tolerance=1e-5):
    for name, value in a.model.state_dict().items():
        np.testing.assert_allclose(b.model.state_dict()[name], value, rtol=tolerance, atol=tolerance)
    for one, other in zip(a.history.rows, b.history.rows, strict=True):
        for name in ("train_loss", "train_accuracy", "train_f1_macro", "train_perplexity", "step", "epoch"):
            assert one[name] == pytest.approx(other[name], rel=tolerance)


@pytest.mark.parametrize("options", [{"clip": 0.5}, {"precision": "fp16", "nonfinite": "skip"}])
@pytest.mark.parametrize("k", [2, 4, 9])
def test_without_noise_it_is_the_run_of_one_process(k, options):
    """To rounding: batches of 10 and 3 examples have their weights, and an epoch may have fewer batches than a window."""
    serial = trained(accumulate=k, **options)
    for found in agents.run(3, lambda comm: trained(LINKED(comm), accumulate=k, **options)):
        alike(serial, found, 2e-2 if "precision" in options else 1e-5)
        assert found.step == serial.step == 2 * -(-6 // k) and found.last["skipped"] == serial.last["skipped"]


@pytest.mark.parametrize("k", [2, 4])
def test_running_statistics_move_with_every_batch(k):
    """A batch that is one micro-batch is normalised as by one process; of 4, each moves as often, and the mean over 4 is that of the batch."""
    serial = trained(accumulate=k, n=50, model=net(batch_norm=True))
    alike(serial, trained(agents.Team(agents.Alone(), 1), accumulate=k, n=50, model=net(batch_norm=True)))
    found = trained(LINKED(agents.Alone()), accumulate=k, n=50, model=net(batch_norm=True), schedule=lambda step: 0.0)
    still = trained(accumulate=k, n=50, model=net(batch_norm=True), schedule=lambda step: 0.0)
    one, other = (t.model.state_dict() for t in (found, still))
    assert int(one["1.num_batches_tracked"]) == int(other["1.num_batches_tracked"]) == 10
    np.testing.assert_allclose(one["1.running_mean"], other["1.running_mean"], rtol=0.1, atol=0.05)


def test_nothing_is_sent_before_the_last_batch_of_a_window():
    def watched(comm, k):
        recorder, seen = agents.Recorder(comm, every=None), []

        class Watching(Trainer):
            def compute(self, batch):
                seen.append((self.step, recorder.sent))
                return super().compute(batch)

        trained(LINKED(recorder), kind=Watching, accumulate=k)
        notes = recorder.timeline().notes[0]
        return seen, [sum(o.step == s for o in notes.operations) for s in range(notes.count)]

    for k in (2, 3):
        (seen, counts), *_ = agents.run(2, watched, k)
        plain = agents.run(2, watched, 1)[0][1]
        by_step = {s: {sent for step, sent in seen if step == s} for s, _ in seen}
        assert len(by_step) == len(counts) == 2 * -(-6 // k) and all(len(sent) == 1 for sent in by_step.values())
        assert counts[0] == plain[0] and counts[1] == plain[1]  # a window talks as much as a batch does


def test_a_loss_that_is_not_finite_in_one_batch_of_a_window():
    """It is in one micro-batch of a batch amid its window: all ranks name that batch, or leave the step out as one process does."""
    bad, stopped = X.copy(), []
    loader = Loader(ArrayDataset(np.arange(53), Y[:53]), 10, shuffle=True, seed=3)
    bad[list(loader.batches(0))[1][0][4]] = np.nan

    def broken(comm):
        try:
            trained(LINKED(comm), x=bad, accumulate=3)
        except NonFiniteError as error:
            stopped.append(str(error))

    agents.run(3, broken)
    assert len(stopped) == 3 and len(set(stopped)) == 1 and "batch 2 of epoch 1 (step 1)" in stopped[0]

    class Skipped(Callback):
        def __init__(self):
            super().__init__()
            self.steps = []

        def on_step_end(self, trainer):
            self.steps += [trainer.step] * int(trainer.last["skipped"])

    def skipping(team):
        told = Skipped()
        return trained(team, x=bad, accumulate=3, nonfinite="skip", callbacks=[told]), told.steps

    serial, steps = skipping(None)
    found = agents.run(3, lambda comm: skipping(LINKED(comm)))
    assert len(steps) == 2 and all(told == steps for _, told in found)
    for trainer, _ in found:
        alike(serial, trainer)


@pytest.mark.parametrize("number", [3, 8, 13, 14, 15, 20])
def test_a_lost_rank_has_the_whole_window_done_again(alone, number):
    kill = {number % 3: (number, False)}
    found = agents.run(3, lambda comm: fit(Strike(kill).watch(comm), accumulate=2, log_every=1), survive=True)
    left = [one for one in found if one is not None]
    assert len(left) == 2 and all(bits == alone[2][0] and rows == alone[2][1] for bits, rows, _, _ in left)


# ---- compiled ----


@pytest.mark.parametrize("options", [{}, {"accumulate": 3}, {"precision": "fp16", "nonfinite": "skip"}])
def test_compiled_micro_batches_have_the_same_bits(options):
    """With dropout, batch normalisation, and micro-batches of two sizes."""
    plain = fit(agents.Alone(), **options)
    for size in (1, 2, 3):
        for bits, rows, _, _ in agents.run(size, lambda comm: fit(comm, compile=True, **options)):
            assert bits == plain[0] and rows == plain[1]


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}])
def test_compiled_steps_are_traced_once_for_each_size_and_micro_batches_may_be_empty(options):
    plain = trained(LINKED(agents.Alone()), **options).model.state_dict()
    for trainer in agents.run(2, lambda comm: trained(LINKED(comm), compile=True, **options)):
        assert trainer._compiled.reason is None and trainer._compiled.traces == 2  # of 3 examples or 2, and of 1
        assert all(trainer.model.state_dict()[name].tobytes() == value.tobytes() for name, value in plain.items())


def test_machine_code_has_the_same_bits_on_any_number_of_ranks():
    ends = [t for n in (1, 2, 3) for t in agents.run(n, lambda comm: trained(LINKED(comm), compile=True, exact=False))]
    bits = [[a.tobytes() for a in t.model.state_dict().values()] for t in ends]
    assert bits == [bits[0]] * 6 and ends[0]._compiled.reason is None
    alike(trained(), ends[0])
