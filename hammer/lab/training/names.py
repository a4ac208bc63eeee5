"""The names that configs may use: what comes with Hammer, and ``module:function`` for a person's own code.

    data.dataset: mypackage.data:birds          # returns (x, y) arrays, a text, a dataset with targets, or a Source
    model.architecture: {name: "mypackage.nets:residual", depth: 20}
    training.loss: mypackage.losses:focal       # a factory that returns loss(prediction, target)

The module is imported from the folder in which the command is run, or from where Python finds it.
"""

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autograd.gradients import codecs
from autograd.nn import losses
from autograd.train import metrics
from autograd.train.config import ConfigError, register, registered
from autograd.train.config.parse import override
from autograd.train.config.text import read_file, read_toml, read_yaml

from ...energy.settings import energy
from ...vortex import VortexGrad
from . import models, sources, text

SUPPLIED: dict[str, tuple[str, ...]] = {
    "dataset": ("seed",),
    "model": ("shape", "outputs", "rng", "dropout", "embed_size"),
    "loss": (),
    "metric": (),
    "link": ("lr",),
    "compressor": (),
}
"""What a builder of each kind is given if it takes a parameter of that name; its other parameters are options."""
_PLACES = {
    ("data", "dataset"): "dataset",
    ("model", "architecture"): "model",
    ("training", "loss"): "loss",
    ("metrics", "names"): "metric",
    ("optimizer", "chain"): "link",
    ("compression", "method"): "compressor",
}
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def cross_entropy(label_smoothing: float = 0.0) -> Callable[..., Any]:
    """-log of the softmax of the target's class, of logits (N, classes, ...) and classes (N, ...)."""
    return functools.partial(losses.cross_entropy, label_smoothing=label_smoothing)


def nll() -> Callable[..., Any]:
    """Minus the log-probability of the target's class, for models that end in LogSoftmax."""
    return losses.nll_loss


def mse() -> Callable[..., Any]:
    """The squared error."""
    return losses.mse_loss


def l1() -> Callable[..., Any]:
    """The absolute error."""
    return losses.l1_loss


def huber(delta: float = 1.0) -> Callable[..., Any]:
    """The squared error up to ``delta``, linear beyond (Huber 1964)."""
    return functools.partial(losses.huber_loss, delta=delta)


def register_all() -> None:
    """Make everything known that comes with Hammer; doing it again changes nothing."""
    for name, source in (
        ("mnist", sources.mnist),
        ("digits", sources.digits),
        ("diabetes", sources.diabetes),
        ("number_words", text.number_words),
    ):
        register("dataset", name, source, SUPPLIED["dataset"])
    for name, model in (("mlp", models.mlp), ("cnn", models.cnn), ("next_word", models.next_word)):
        register("model", name, model, SUPPLIED["model"])
    for loss in (cross_entropy, nll, mse, l1, huber):
        register("loss", loss.__name__, loss)
    for name, metric in (
        ("accuracy", metrics.Accuracy),
        ("top_k", metrics.TopK),
        ("f1", metrics.F1),
        ("r2", metrics.R2),
        ("perplexity", metrics.Perplexity),
    ):
        register("metric", name, metric, trial={})
    for name, codec in (
        ("top_k", codecs.TopK),
        ("random_k", codecs.RandomK),
        ("threshold", codecs.Threshold),
        ("sign", codecs.Sign),
        ("quantize", codecs.Quantize),
        ("power_sgd", codecs.PowerSGD),
    ):
        register("compressor", name, codec, trial={})
    register("feature", "vortex", VortexGrad, trial={})
    register("feature", "energy", energy)


def register_own(path: Path, overrides: Sequence[str]) -> None:
    """Import what a config file, or its overrides, name as ``module:function``, and make it known.

    Raises:
        ConfigError: a module that cannot be imported, or one without that function.
    """
    if not path.is_file():
        return  # load_config says what is wrong with it
    content = read_file(path)
    values, _ = (read_toml(content, str(path)), {}) if path.suffix == ".toml" else read_yaml(content, str(path))
    if not isinstance(values, dict):
        return
    for (section, key), kind in _PLACES.items():
        part = override(values, overrides).get(section)
        named = part.get(key) if isinstance(part, Mapping) else None
        for one in named if isinstance(named, list) else [named]:
            name = one.get("name") if isinstance(one, Mapping) else one
            if isinstance(name, str) and _OWN.fullmatch(name) and name not in registered(kind):
                register(kind, name, _imported(name, f"{path}: {section}.{key}"), SUPPLIED[kind])


def _imported(name: str, where: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ConfigError(f"{where}: cannot import {module!r} of {name!r}: {error}") from None
    if not callable(found):
        raise ConfigError(f"{where}: module {module!r} has no function {function!r}")
    return found
