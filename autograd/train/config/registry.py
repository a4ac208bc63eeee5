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
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
        supplied: names of the parameters that the Trainer supplies.
        meaning: the first line of the builder's docstring.
    """

    builder: Callable[..., Any]
    options: Mapping[str, Option]
    supplied: tuple[str, ...]
    meaning: str


_ENTRIES: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}


def register(kind: str, name: str, builder: Callable[..., Any], supplied: Sequence[str] = ()) -> Entry:
    """Make a name known to configs.

    Args:
        kind: "dataset", "model", "loss", "metric", "link", "compressor" or "feature".
        name: what the config calls it; for a feature, the name of its section.
        builder: a function or class. Every parameter that is not supplied is an option; ``**options`` allows any other.
        supplied: parameters that the Trainer gives; a builder need not have all of them.

    Raises:
        ValueError: an unknown kind, or a name that another builder has.
    """
    if kind not in _ENTRIES:
        raise ValueError(f"register: kind must be one of {', '.join(KINDS)}, not {kind!r}")
    old = _ENTRIES[kind].get(name)
    if old is not None and old.builder is not builder:
        raise ValueError(f"register: the {kind} {name!r} is there already: {old.builder!r}")
    parameters = inspect.signature(builder).parameters
    hints = _hints(builder)
    options = {
        p.name: Option(hints.get(p.name, Any), p.default)
        for p in parameters.values()
        if p.name not in supplied and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    taken = tuple(p for p in supplied if p in parameters)
    entry = Entry(builder, options, taken, (inspect.getdoc(builder) or "").partition("\n")[0])
    _ENTRIES[kind][name] = entry
    return entry


def _hints(builder: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(builder.__init__ if inspect.isclass(builder) else builder)
    except NameError:  # an annotation that only a type checker can resolve: its options are not checked for type
        return {}


def registered(kind: str) -> dict[str, Entry]:
    """The entries of a kind by name."""
    return dict(_ENTRIES[kind])


def build(kind: str, named: Named, **supplied: Any) -> Any:
    """What a name and its options stand for: the builder's result. Of ``supplied`` it gets what it takes."""
    entry = _ENTRIES[kind][named.name]
    return entry.builder(**named.options, **{k: v for k, v in supplied.items() if k in entry.supplied})
