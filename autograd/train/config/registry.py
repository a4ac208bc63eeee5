"""Names that a config may use: datasets, models, losses, metrics, links of the optimizer chain, compressors, features.

A name stands for a builder, and the builder's signature says which options the config may give: a parameter is an option
unless the Trainer supplies it (``rng``, ``lr``, …). So a builder's author writes the builder, and the config's errors, the
schema and the reference follow. Features are the sections whose code lies above this package: ``hammer`` registers them.

    >>> def mlp(hidden: tuple[int, ...] = (64,), *, rng=None): ...
    >>> _ = register("model", "example_mlp", mlp, supplied=("rng",))
    >>> list(registered("model")["example_mlp"].options)
    ['hidden']
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .keys import Named

KINDS = ("dataset", "model", "loss", "metric", "link", "compressor", "feature")


@dataclass(frozen=True)
class Option:
    """An option of a builder: its type (an annotation, or Any), and its default (``inspect.Parameter.empty``: required)."""

    type: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Entry:
    """A registered builder.

    Attributes:
        builder: called with the options and with what the Trainer supplies.
        options: name -> Option, in the order of the signature.
        any_option: whether the builder takes other options too.
        supplied: parameter -> where its value comes from, in words.
        trial: values of the supplied parameters with which the builder may be tried out; None: it is not.
        meaning: the first line of the builder's docstring.
    """

    builder: Callable[..., Any]
    options: Mapping[str, Option]
    any_option: bool
    supplied: Mapping[str, str]
    trial: Mapping[str, Any] | None
    meaning: str


_ENTRIES: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
_SOURCES = {"lr": "training.lr and the scheduler", "rng": "seed", "seed": "seed", "dropout": "model.dropout"}


def register(
    kind: str,
    name: str,
    builder: Callable[..., Any],
    supplied: Sequence[str] = (),
    trial: Mapping[str, Any] | None = None,
) -> Entry:
    """Make a name known to configs.

    Args:
        kind: "dataset", "model", "loss", "metric", "link", "compressor" or "feature".
        name: what the config calls it; for a feature, the name of its section.
        builder: a function or class. Every parameter that is not supplied is an option; ``**options`` allows any other.
        supplied: parameters that the Trainer gives; a builder need not have all of them.
        trial: if given, options are tried out when a config is read, with these values for what is supplied. For builders
            that only check their settings, such as gradient transforms.

    Raises:
        ValueError: an unknown kind, or a name that another builder has.
    """
    if kind not in _ENTRIES:
        raise ValueError(f"register: kind must be one of {', '.join(KINDS)}, not {kind!r}")
    old = _ENTRIES[kind].get(name)
    if old is not None and old.builder is not builder:
        raise ValueError(f"register: the {kind} {name!r} is there already: {old.builder!r}")
    parameters = signature_of(builder).parameters
    options = {
        p.name: Option(Any if p.annotation is p.empty else p.annotation, p.default)
        for p in parameters.values()
        if p.name not in supplied and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    entry = Entry(
        builder,
        options,
        any(p.kind is p.VAR_KEYWORD for p in parameters.values()),
        {p: _SOURCES.get(p, "the Trainer") for p in supplied if p in parameters},
        None if trial is None else {p: value for p, value in trial.items() if p in parameters},
        (inspect.getdoc(builder) or "").partition("\n")[0],
    )
    _ENTRIES[kind][name] = entry
    return entry


def signature_of(builder: Callable[..., Any]) -> inspect.Signature:
    """The signature with its annotations as types, where they can be resolved at run time."""
    try:
        return inspect.signature(builder, eval_str=True)
    except NameError:  # an annotation for type checkers only
        return inspect.signature(builder)


def registered(kind: str) -> dict[str, Entry]:
    """The entries of a kind by name."""
    if kind == "link":
        _register_links()
    return dict(_ENTRIES[kind])


def build(kind: str, named: Named, **supplied: Any) -> Any:
    """What a name and its options stand for: the builder's result. Of ``supplied`` it gets what it takes."""
    entry = registered(kind)[named.name]
    return entry.builder(**named.options, **{k: v for k, v in supplied.items() if k in entry.supplied})


_NOT_LINKS = {"chain", "identity", "leafwise", "partition", "stateless", "accumulate", "compress"}
"""Functions that make transforms of transforms or functions, and those that have keys of their own."""


@cache
def _register_links() -> None:
    """Every public function of ``autograd.gradients`` and ``autograd.optim`` that makes a gradient transform out of settings."""
    from ... import gradients, optim

    for package in (gradients, optim):
        for name in sorted(set(package.__all__) - _NOT_LINKS):
            function = getattr(package, name)
            if inspect.isfunction(function) and signature_of(function).return_annotation is gradients.GradientTransform:
                register("link", name, function, supplied=("lr",), trial={"lr": 0.1})
