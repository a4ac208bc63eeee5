"""Metrics over uneven batches against scikit-learn on the whole data at once."""

import importlib.util
import math
from collections.abc import Callable

import numpy as np
import pytest

from autograd.train import metrics

sklearn = pytest.importorskip("sklearn.metrics")
SIZES = (7, 1, 0, 5, 12, 3)


def over_batches(metric: metrics.Metric, prediction: np.ndarray, target: np.ndarray, sizes: tuple = SIZES) -> float:
    start = 0
    for n in sizes:
        metric.update(prediction[start : start + n], target[start : start + n], 0.0)
        start += n
    assert start == len(target)
    return metric.value()


def scores(ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    p = rng.normal(size=(sum(SIZES), 6)).astype(np.float32)
    return np.round(p) if ties else p, rng.integers(0, 5, sum(SIZES))


def test_accuracy() -> None:
    p, t = scores(ties=True)
    assert over_batches(metrics.Accuracy(), p, t) == sklearn.accuracy_score(t, p.argmax(1))


def test_accuracy_of_two_classes_by_one_score() -> None:
    p, t = np.array([0.2, -0.1, 3.0, -2.0]), np.array([1, 1, 0, 0])
    assert over_batches(metrics.Accuracy(), p, t, (3, 1)) == 0.5
    assert over_batches(metrics.Accuracy(threshold=0.5), p, t, (3, 1)) == 0.25
    assert over_batches(metrics.Accuracy(), p[:, None], t[:, None], (3, 1)) == 0.5


def test_accuracy_over_places() -> None:
    p = np.zeros((2, 3, 4))
    p[:, 1] = 1.0
    t = np.array([[1, 1, 0, 2], [1, 0, 0, 0]])
    assert over_batches(metrics.Accuracy(), p, t, (1, 1)) == 3 / 8


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_top_k(k: int, ties: bool) -> None:
    p, t = scores(ties)
    expected = sklearn.top_k_accuracy_score(t, p, k=k, labels=range(6))
    assert over_batches(metrics.TopK(k), p, t) == pytest.approx(expected)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_f1(average: str) -> None:
    p, t = scores()
    expected = sklearn.f1_score(t, p.argmax(1), average=average, zero_division=0)
    assert over_batches(metrics.F1(average), p, t) == pytest.approx(expected, abs=1e-15)


def test_f1_of_two_classes() -> None:
    p, t = scores()
    one, t = p[:, 0], t % 2
    expected = sklearn.f1_score(t, one > 0)
    assert over_batches(metrics.F1("binary"), one, t) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("outputs", [1, 3])
def test_r2(outputs: int) -> None:
    rng = np.random.default_rng(5)
    t = rng.normal(1e6, 1.0, (sum(SIZES), outputs))
    p = t + rng.normal(0, 0.3, t.shape)
    assert over_batches(metrics.R2(), p, t) == pytest.approx(sklearn.r2_score(t, p), rel=1e-9)


def test_r2_of_a_constant_target() -> None:
    t = np.full(4, 2.0)
    for p in (t, t + 1):
        assert over_batches(metrics.R2(), p, t, (2, 2)) == sklearn.r2_score(t, p)


def test_loss_and_perplexity_count_examples_and_targets() -> None:
    loss, perplexity = metrics.Loss(), metrics.Perplexity()
    for n, length, value in ((4, 2, 1.0), (1, 3, 3.0)):
        for m in (loss, perplexity):
            m.update(np.zeros((n, 5, length)), np.zeros((n, length), int), value)
    assert loss.value() == (4 * 1.0 + 1 * 3.0) / 5
    assert perplexity.value() == pytest.approx(math.exp((8 * 1.0 + 3 * 3.0) / 11))
    perplexity.update(np.zeros((1, 2)), np.zeros(1), 1e6)
    assert perplexity.value() == math.inf


@pytest.mark.parametrize(
    "make", [metrics.Loss, metrics.Accuracy, metrics.TopK, metrics.F1, metrics.R2, metrics.Perplexity]
)
def test_state_goes_on_and_reset_forgets(make: Callable) -> None:
    p, t = scores()
    p = p[:, 0] if make is metrics.R2 else p
    whole, first, second = make(), make(), make()
    assert math.isnan(whole.value())
    for m, part in ((whole, slice(None)), (first, slice(0, 11))):
        m.update(p[part], t[part], 0.5)
    second.load_state_dict(first.state_dict())
    second.update(p[11:], t[11:], 0.5)
    assert second.value() == pytest.approx(whole.value())
    second.reset()
    assert math.isnan(second.value())


def test_bleu() -> None:
    if importlib.util.find_spec("sacrebleu") is None:
        with pytest.raises(ImportError, match="pip install sacrebleu"):
            metrics.BLEU()
        return
    from sacrebleu.metrics import BLEU

    said = ["the cat sat on the mat today", "a dog ran over the green hill", "birds fly in the blue sky"]
    meant = [
        ["the cat sat on a mat today", "the cat is on the mat"],
        ["a dog ran over a green hill"],
        ["birds fly in the sky"],
    ]
    ours = metrics.BLEU()
    for i in (0, 1, 2):
        ours.update(said[i : i + 1], meant[i : i + 1])
    streams = [[r[0] for r in meant], [meant[0][1], None, None]]
    assert ours.value() == pytest.approx(BLEU().corpus_score(said, streams).score)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"accuracy: predictions \(4, 3\) and targets \(5,\)"):
        metrics.Accuracy().update(np.zeros((4, 3)), np.zeros(5, int), 0.0)
    with pytest.raises(ValueError, match=r"r2: predictions"):
        metrics.R2().update(np.zeros(4), np.zeros(5), 0.0)


def test_names() -> None:
    assert metrics.metric("top_3").name == "top_3"
    assert metrics.metric("f1_weighted").name == "f1_weighted"
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        metrics.metric("acuracy")
