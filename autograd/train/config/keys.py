"""How a key of the config is declared: a field of a frozen dataclass with a type, a default, a meaning and its limits.

The type is the annotation: ``bool``, ``int``, ``float``, ``str``, ``Literal[...]``, ``T | None``, ``tuple[T, ...]``, ``Options``
(free key-value pairs), ``Named`` (a registered name with options) or another such dataclass, a section. Everything else
(checking, the printed config, the JSON Schema, the reference page) is derived from these declarations.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import Any

Options = dict[str, Any]
"""Key-value pairs that go to a registered builder, which knows their names."""


@dataclass(frozen=True)
class Named:
    """A registered name and the options it is built with: ``adamw``, or ``{name: adamw, weight_decay: 0.1}`` in a file."""

    name: str
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """What a key's field says beside its type and default.

    Attributes:
        meaning: one or more sentences; the first line goes into the printed config.
        low, high: limits of a number, included.
        above, below: limits, excluded.
        kind: for Options and Named: which registry knows the names (``"model"``, ``"dataset"``, ``"link"``, …).
        tasks: the tasks that use the key; empty for all.
    """

    meaning: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    kind: str | None = None
    tasks: tuple[str, ...] = ()


def key(default: Any, meaning: str, *, make: Callable[[], Any] | None = None, **limits: Any) -> Any:
    """A key of a section. ``make`` builds a default that is mutable."""
    spec = {"spec": Spec(" ".join(meaning.split()), **limits)}
    if make is not None:
        return field(default_factory=make, metadata=spec)
    return field(default=default if default is not None else None, metadata=spec)


def section(kind: Any, meaning: str) -> Any:
    """A section of the config: a dataclass whose fields are keys."""
    return field(default_factory=kind, metadata={"spec": Spec(" ".join(meaning.split()))})


def spec_of(one: Any) -> Spec:
    """The declaration of a dataclass field."""
    return one.metadata["spec"]


def default_of(one: Any) -> Any:
    """The default of a dataclass field."""
    return one.default if one.default is not MISSING else one.default_factory()
