"""Metrics over batches: what they give after the last batch is what the whole data at once would have given.

A metric adds counts and sums up in ``state``, a dict of numbers and arrays, and divides once, in ``value``. So a short last
batch counts by its examples, and a run that is interrupted in the middle of an epoch saves the metrics with everything else.

    >>> import numpy as np
    >>> from autograd.train import metrics
    >>> accuracy = metrics.Accuracy()
    >>> accuracy.update(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]), loss=0.6)
    >>> accuracy.update(np.array([[0.3, 0.7]]), np.array([1]), loss=0.1)
    >>> round(accuracy.value(), 4)
    0.6667
"""

import copy
import importlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..errors import unknown


class Metric:
    """What is measured over predictions and targets; subclasses define ``start``, ``update`` and ``value``.

    Attributes:
        name: its name in a history and in logs.
        state: what has been added up so far; ``start()`` after ``reset()``.
    """

    name = "metric"
    higher_is_better = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.state = self.start()

    def start(self) -> dict[str, Any]:
        """The state before the first batch."""
        raise NotImplementedError

    def update(self, prediction: np.ndarray, target: np.ndarray, loss: float) -> None:
        """Add a batch: the model's output and the targets, on the host, and the batch's mean loss."""
        raise NotImplementedError

    def value(self) -> float:
        """The metric over the batches so far; NaN before the first."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = copy.deepcopy(state)


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


class Loss(Metric):
    """The mean loss: each batch's counts by its number of examples, as the mean over all examples at once."""

    name = "loss"
    higher_is_better = False

    def start(self) -> dict[str, Any]:
        return {"sum": 0.0, "count": 0}

    def update(self, prediction: Any, target: Any, loss: float) -> None:
        n = self._count(target)
        self.state["sum"] += float(loss) * n
        self.state["count"] += n

    def _count(self, target: Any) -> int:
        return int(np.shape(target)[0]) if np.ndim(target) else 1

    def value(self) -> float:
        return _ratio(self.state["sum"], self.state["count"])


class Perplexity(Loss):
    """exp of the mean cross-entropy of a target (a token): each batch counts by its number of targets."""

    name = "perplexity"

    def _count(self, target: Any) -> int:
        return int(np.size(target))

    def value(self) -> float:
        mean = super().value()
        return math.exp(mean) if not mean > 709.0 else math.inf  # exp(710) is more than a float holds


def _classes(name: str, prediction: Any, target: Any, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true classes, flat. Scores have the classes on axis 1; otherwise two classes are told apart by a threshold."""
    p, t = np.asarray(prediction), np.asarray(target)
    if p.ndim == t.ndim + 1 and p.shape[:1] + p.shape[2:] == t.shape:
        return np.argmax(p, axis=1).reshape(-1), t.reshape(-1)
    if p.size == t.size and p.shape[:1] == t.shape[:1]:
        chosen = p if p.dtype.kind in "biu" else p > threshold
        return chosen.astype(np.int64).reshape(-1), t.astype(np.int64).reshape(-1)
    raise ValueError(
        f"{name}: predictions {p.shape} and targets {t.shape} do not fit; write scores (N, classes, ...) with classes (N, ...), "
        "or one score for each target of two classes"
    )


class Accuracy(Metric):
    """The share of targets whose largest score is their own class (the first of equal ones).

    Args:
        threshold: with one score for each target, class 1 is predicted above it: 0 for logits, 0.5 for probabilities.
    """

    name = "accuracy"

    def __init__(self, threshold: float = 0.0):
        self.threshold = threshold
        super().__init__()

    def start(self) -> dict[str, Any]:
        return {"right": 0, "count": 0}

    def update(self, prediction: Any, target: Any, loss: float = math.nan) -> None:
        p, t = _classes(self.name, prediction, target, self.threshold)
        self.state["right"] += int(np.count_nonzero(p == t))
        self.state["count"] += t.size

    def value(self) -> float:
        return _ratio(self.state["right"], self.state["count"])


class TopK(Metric):
    """The share of targets whose class is among the ``k`` largest scores; of equal scores the later class comes first.

    Scores (N, classes, ...), targets (N, ...). Ties are broken as in ``sklearn.metrics.top_k_accuracy_score``.
    """

    def __init__(self, k: int = 5):
        if k < 1:
            raise ValueError(f"TopK: k must be at least 1, not {k}")
        self.k, self.name = k, f"top_{k}"
        super().__init__()

    def start(self) -> dict[str, Any]:
        return {"right": 0, "count": 0}

    def update(self, prediction: Any, target: Any, loss: float = math.nan) -> None:
        p, t = np.asarray(prediction), np.asarray(target)
        if p.ndim != t.ndim + 1 or p.shape[:1] + p.shape[2:] != t.shape:
            raise ValueError(
                f"{self.name}: scores {p.shape} and targets {t.shape} do not fit; scores need (N, classes, ...)"
            )
        p, t = np.moveaxis(p, 1, -1).reshape(-1, p.shape[1]), t.reshape(-1, 1)
        own = np.take_along_axis(p, t, axis=1)
        later = np.arange(p.shape[1]) > t
        before = np.count_nonzero((p > own) | ((p == own) & later), axis=1)
        self.state["right"] += int(np.count_nonzero(before < self.k))
        self.state["count"] += t.size

    def value(self) -> float:
        return _ratio(self.state["right"], self.state["count"])


class F1(Metric):
    """The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), over the classes that occur.

    Args:
        average: "macro" (the mean over classes), "weighted" (by the classes' numbers of targets), "micro" (of the sums
            over classes), or "binary" (of class 1).
        threshold: as in ``Accuracy``.
    """

    def __init__(self, average: str = "macro", threshold: float = 0.0):
        if average not in ("macro", "weighted", "micro", "binary"):
            raise ValueError(f'F1: average must be "macro", "weighted", "micro" or "binary", not {average!r}')
        self.average, self.threshold = average, threshold
        self.name = f"f1_{average}"
        super().__init__()

    def start(self) -> dict[str, Any]:
        return {"confusion": np.zeros((0, 0), np.int64)}

    def update(self, prediction: Any, target: Any, loss: float = math.nan) -> None:
        p, t = _classes(self.name, prediction, target, self.threshold)
        if t.size == 0:
            return
        if t.min() < 0 or p.min() < 0:
            raise ValueError(f"{self.name}: classes are whole numbers from 0, not {min(t.min(), p.min())}")
        old = self.state["confusion"]
        n = max(len(old), int(t.max()) + 1, int(p.max()) + 1)
        new = np.bincount(t * n + p, minlength=n * n).reshape(n, n)
        new[: len(old), : len(old)] += old
        self.state["confusion"] = new

    def value(self) -> float:
        confusion = self.state["confusion"]
        if not confusion.size:
            return math.nan
        true, predicted, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
        if self.average == "micro":
            return float(right.sum() / true.sum())  # each wrong prediction is one FP and one FN
        f1 = np.divide(2.0 * right, true + predicted, out=np.zeros(len(right)), where=true + predicted > 0)
        if self.average == "binary":
            if len(f1) > 2:
                raise ValueError(f'f1_binary: there are {len(f1)} classes; use average="macro"')
            return float(f1[1]) if len(f1) == 2 else 0.0
        if self.average == "weighted":
            return float((f1 * true).sum() / true.sum())
        return float(f1[true + predicted > 0].mean())


class R2(Metric):
    """1 - Σ(target - prediction)² / Σ(target - mean)², the mean over the outputs of (N, outputs).

    Sums of squares about the mean are merged batch by batch (Chan et al. 1982), so no digits cancel. A constant target
    gives 1 where it is predicted exactly and 0 otherwise, as in scikit-learn.
    """

    name = "r2"

    def start(self) -> dict[str, Any]:
        return {"count": 0, "mean": 0.0, "total": 0.0, "residual": 0.0}

    def update(self, prediction: Any, target: Any, loss: float = math.nan) -> None:
        p, t = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
        if p.size != t.size or p.shape[:1] != t.shape[:1]:
            raise ValueError(f"r2: predictions {p.shape} and targets {t.shape} differ in shape")
        if not len(t):
            return
        p, t = p.reshape(len(p), -1), t.reshape(len(t), -1)
        s, n = self.state, len(t)
        count, mean = s["count"] + n, t.mean(axis=0)
        shift = mean - s["mean"]
        s["total"] = s["total"] + ((t - mean) ** 2).sum(axis=0) + shift**2 * (s["count"] * n / count)
        s["mean"] = s["mean"] + shift * (n / count)
        s["residual"] = s["residual"] + ((t - p) ** 2).sum(axis=0)
        s["count"] = count

    def value(self) -> float:
        if self.state["count"] < 2:
            return math.nan
        total, residual = np.atleast_1d(self.state["total"]), np.atleast_1d(self.state["residual"])
        scores = np.where(residual == 0, 1.0, 0.0)
        np.divide(residual, total, out=scores, where=total > 0)
        return float(np.where(total > 0, 1.0 - scores, scores).mean())


class BLEU(Metric):
    """Corpus BLEU (Papineni et al. 2002), 0 to 100, by sacrebleu, whose n-gram counts add up over batches.

    Args:
        decode: turns a batch of predictions, and of targets, into a list of strings; None where they are strings already.

    A target may be a string, or a list of several references for its prediction.

    Raises:
        ImportError: sacrebleu is not installed.
    """

    name = "bleu"

    def __init__(self, decode: Callable[[Any], Iterable[Any]] | None = None):
        try:
            self._bleu = importlib.import_module("sacrebleu.metrics").BLEU()
        except ImportError:
            raise ImportError("BLEU needs the package sacrebleu; install it with: pip install sacrebleu") from None
        self.decode = decode or list
        super().__init__()

    def start(self) -> dict[str, Any]:
        return {"counts": np.zeros(0, np.int64)}

    def update(self, prediction: Any, target: Any, loss: float = math.nan) -> None:
        hypotheses = list(self.decode(prediction))
        references = [[t] if isinstance(t, str) else list(t) for t in self.decode(target)]
        if len(hypotheses) != len(references):
            raise ValueError(f"bleu: {len(hypotheses)} predictions for {len(references)} targets")
        most = max(map(len, references), default=0)
        streams = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
        if hypotheses:
            score = self._bleu.corpus_score(hypotheses, streams)
            new = np.array([*score.counts, *score.totals, score.sys_len, score.ref_len], np.int64)
            old = self.state["counts"]
            self.state["counts"] = old + new if len(old) else new

    def value(self) -> float:
        counts = self.state["counts"].tolist()
        if not counts:
            return math.nan
        order = (len(counts) - 2) // 2
        return float(self._bleu.compute_bleu(counts[:order], counts[order:-2], *counts[-2:], smooth_method="exp").score)


METRICS: dict[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "top_5": TopK,
    "f1": F1,
    "f1_macro": F1,
    "f1_micro": lambda: F1("micro"),
    "f1_weighted": lambda: F1("weighted"),
    "f1_binary": lambda: F1("binary"),
    "r2": R2,
    "perplexity": Perplexity,
    "bleu": BLEU,
}
"""Metrics by the names that ``Trainer(metrics=...)`` and configs know; ``top_K`` goes with any number K."""


def metric(which: str | Metric) -> Metric:
    """A metric from its name, or the metric itself."""
    if isinstance(which, Metric):
        return which
    if isinstance(which, str):
        if which in METRICS:
            return METRICS[which]()
        if which.startswith("top_") and which[4:].isdigit():
            return TopK(int(which[4:]))
    raise ValueError(f"{unknown('metric', which, METRICS)}, and any Metric")
