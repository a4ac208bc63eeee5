"""Trainer(agents=...): one run, whoever computes it."""

import numpy as np
import pytest

from autograd import nn
from autograd.train import Callback, CheckpointFolder, Loader, NonFiniteError, Trainer
from autograd.train.data import ArrayDataset
from hammer import agents

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 57)
X = (2 * np.eye(3)[Y] + RNG.standard_normal((57, 3))).astype(np.float32)
LINKED = lambda comm: agents.Team(comm, 4, bucket_bytes=200)


def model():
    rng = np.random.default_rng(1)
    return nn.Sequential(
        nn.Linear(3, 8, rng=rng),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.3, rng=np.random.default_rng(2)),
        nn.Linear(8, 3, rng=rng),
    )


class Told(Callback):
    def __init__(self):
        super().__init__()
        self.rows = []

    def on_log(self, trainer, row):
        self.rows.append(row)


def fit(comm, folder=None, epochs=2, max_steps=None, team=LINKED, metrics=("accuracy",), x=X, **options):
    """Bits of parameters and buffers, the history without times, and what a logger was told."""
    told = Told()
    trainer = Trainer(
        model(), "cross_entropy", "adamw", lr=1e-2, metrics=metrics, agents=team(comm), clip=1.0, loggers=[told],
        checkpoints=None if folder is None else CheckpointFolder(folder), **options,
    )  # fmt: skip
    loader = Loader(ArrayDataset(x, Y), 12, shuffle=True, seed=3)
    trainer.fit(loader, (X, Y), epochs, max_steps=max_steps, resume=folder is not None)
    rows = [{k: v for k, v in row.items() if "second" not in k} for row in trainer.history.rows]
    bits = {name: np.asarray(a).tobytes() for name, a in trainer.model.state_dict().items()}
    bits["streams"] = repr(trainer.state_dict()["streams"]).encode()
    return bits, rows, len(told.rows), trainer.step


@pytest.fixture(scope="module")
def alone():
    return fit(agents.Alone())


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_run_has_the_same_bits_on_any_number_of_ranks(alone, size):
    """With dropout, batch normalisation and a last batch of 9 examples; the first rank logs alone."""
    found = agents.run(size, fit)
    assert all(bits == alone[0] and rows == alone[1] for bits, rows, _, _ in found)
    assert [told for _, _, told, _ in found] == [alone[2]] + [0] * (size - 1) and alone[2] == 2
    assert alone[1][1]["train_loss"] < alone[1][0]["train_loss"] and alone[3] == 10


def test_a_run_goes_on_with_another_number_of_ranks(alone, tmp_path):
    agents.run(3, fit, tmp_path, 2, 7)  # stops inside the second epoch
    assert len(list(tmp_path.glob("*.safetensors"))) >= 1
    bits, rows, _, step = agents.run(2, fit, tmp_path, 2)[1]
    assert bits == alone[0] and step == alone[3]
    assert rows[-1] == alone[1][-1]


def test_the_first_rank_alone_saves(tmp_path):
    agents.run(2, lambda comm: fit(comm, tmp_path / str(comm.rank), 1))
    assert [p.name for p in tmp_path.iterdir()] == ["0"] and list((tmp_path / "0").glob("*.safetensors"))


def test_without_noise_it_is_the_run_of_one_process():
    """Beside a Trainer without agents, to rounding: the loss, the metrics and every step are those of whole batches (the last has 3
    examples, fewer than micro-batches)."""
    plain = nn.Sequential(nn.Linear(3, 3, rng=np.random.default_rng(1)))

    def run(comm):
        net = nn.Sequential(nn.Linear(3, 3, rng=np.random.default_rng(1)))
        trainer = Trainer(
            net, "cross_entropy", "sgd", lr=0.1, metrics=["accuracy", "f1", "perplexity"], agents=LINKED(comm)
        )
        return trainer.fit(Loader(ArrayDataset(X[:53], Y[:53]), 10, shuffle=True, seed=3), epochs=2).rows, net[
            0
        ].weight.numpy()

    trainer = Trainer(plain, "cross_entropy", "sgd", lr=0.1, metrics=["accuracy", "f1", "perplexity"])
    rows = trainer.fit(Loader(ArrayDataset(X[:53], Y[:53]), 10, shuffle=True, seed=3), epochs=2).rows
    for found, weight in agents.run(3, run):
        np.testing.assert_allclose(weight, plain[0].weight.numpy(), rtol=1e-4, atol=1e-6)
        for a, b in zip(found, rows, strict=True):
            for name in ("train_loss", "train_accuracy", "train_f1_macro", "train_perplexity", "step", "epoch"):
                assert a[name] == pytest.approx(b[name], rel=1e-5)


def test_the_loss_alone_sends_no_predictions(alone):
    def sent(comm, metrics):
        fit(comm, metrics=metrics)
        return comm.sent

    assert agents.run(2, sent, ())[0] < agents.run(2, sent, ("accuracy",))[0]
    assert agents.run(2, fit, None, 2, None, LINKED, ())[0][0] == alone[0]


def test_a_loss_that_is_not_finite_stops_all_ranks_alike():
    bad, stopped = X.copy(), []
    bad[7] = np.nan

    def broken(comm):
        try:
            fit(comm, x=bad)
        except NonFiniteError as error:
            stopped.append(str(error))

    agents.run(3, broken)
    assert len(stopped) == 3 and len(set(stopped)) == 1 and "nan" in stopped[0]
    found = agents.run(2, lambda comm: fit(comm, x=bad, nonfinite="skip", team=lambda c: agents.Team(c, 2)))
    assert found[0][0] == found[1][0]


def test_an_interruption_of_one_rank_stops_all():
    from autograd.train import Interrupted

    class Press(Callback):
        def on_step_end(self, trainer):
            if trainer.step == 3 and trainer.agents.comm.rank == 1:
                trainer._asked.to_stop = True

    stopped = []

    def pressed(comm):
        try:
            fit(comm, callbacks=[Press()])
        except Interrupted as error:
            stopped.append(str(error))

    agents.run(2, pressed)
    assert len(stopped) == 2 and all("after step 3" in s for s in stopped)


def test_misuse_is_named():
    with pytest.raises(ValueError, match="at least the number of ranks"):
        agents.run(3, lambda comm: agents.Team(comm, 2))
