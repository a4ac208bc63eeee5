"""The config of a comparison: read from YAML, checked field by field.

Everything in a config decides results; what does not (folders, number of jobs) is an option of the command.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from . import optimizers, problems
from .errors import UsageError, unknown

SHIPPED = ("quick", "smoke", "light", "full", "long", "targets")
"""The configs in this package, known to the command by their names."""

RULES = ("tuned", "default", "self-tuning")
"""The rule sets; see docs/protocol.md."""

TUNING = ("trials", "tuning_seeds")
"""The fields that only the rules "tuned" have a use for; they are 0 under the others."""


@dataclass(frozen=True)
class Config:
    """What to compare, and how. The fields are those of a config file; see docs/protocol.md."""

    workloads: tuple[str, ...]
    optimizers: tuple[str, ...]
    name: str = "comparison"
    rules: str = "tuned"
    trials: int = 8
    tuning_seeds: int = 2
    seeds: int = 10
    seed: int = 0
    steps: int | None = None
    dtype: str | None = None
    targets: str = "frozen"
    control: bool = True
    confidence: float = 0.95
    delta: float = 0.05
    resamples: int = 4000

    def to_yaml(self) -> str:
        """The config as a file that reads back as the same config."""
        lines = []
        for name, value in asdict(self).items():
            if isinstance(value, tuple):
                value = f"[{', '.join(value)}]"
            lines.append(f"{name}: {_YAML_WORDS.get(value, value) if isinstance(value, bool | None) else value}")
        return "\n".join(lines) + "\n"


_YAML_WORDS = {None: "null", True: "true", False: "false"}


def _whole(low: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            return f"must be a whole number of at least {low}"
        return None

    return check


def _one_of(*allowed: Any) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if any(type(value) is type(a) and value == a for a in allowed):
            return None
        close = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
        return f"must be one of {', '.join(_shown(a) for a in allowed)}" + (
            f"; did you mean {close[0]}?" if close else ""
        )

    return check


def _shown(value: Any) -> str:
    return _YAML_WORDS[value] if isinstance(value, bool | None) else str(value)


def _or_null(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    def checked(value: Any) -> str | None:
        failure = None if value is None else check(value)
        return failure and f"{failure}, or null"

    return checked


def _confidence(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, float) or not 0.5 <= value < 1.0:
        return "must be a number from 0.5 to below 1"
    return None


def _delta(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, float) or not 0.0 <= value < 1.0:
        return "must be a number from 0.0 to below 1"
    return None


def _name(value: Any) -> str | None:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", value):
        return "must be a file name of letters, digits, '.', '_' and '-', starting with a letter or digit"
    return None


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "name": _name,
    "rules": _one_of(*RULES),
    "trials": _whole(0),
    "tuning_seeds": _whole(0),
    "seeds": _whole(1),
    "seed": _whole(0),
    "steps": _or_null(_whole(1)),
    "dtype": _or_null(_one_of("float32", "float64")),
    "targets": _one_of("frozen", "derived"),
    "control": _one_of(True, False),
    "confidence": _confidence,
    "delta": _delta,
    "resamples": _whole(100),
}


def _names(where: str, value: Any, kind: str, known: list[str]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise UsageError(f"{where}: must be a list of one or more names out of: {', '.join(known)}; got {value!r}")
    for i, name in enumerate(value):
        if name not in known:
            raise UsageError(f"{where}[{i}]: {unknown(kind, name, known)}")
        if name in value[:i]:
            raise UsageError(f"{where}[{i}]: {name!r} is listed twice")
    return tuple(value)


def from_mapping(values: Mapping[Any, Any], source: str) -> Config:
    """A checked config. ``source`` names the file in error messages.

    Raises:
        UsageError: an unknown or missing field, or a value that is not allowed.
    """
    known = [field.name for field in fields(Config)]
    for key in values:
        if key not in known:
            raise UsageError(f"{source}: {unknown('field', key, known)}")
    for key in ("workloads", "optimizers"):
        if key not in values:
            raise UsageError(f"{source}: the field {key!r} is missing; known: {', '.join(known)}")
    checked: dict[str, Any] = {
        "workloads": _names(f"{source}: workloads", values["workloads"], "workload", problems.names()),
        "optimizers": _names(f"{source}: optimizers", values["optimizers"], "optimizer", optimizers.names()),
    }
    for key, value in values.items():
        if key not in checked:
            failure = _CHECKS[key](value)
            if failure:
                raise UsageError(f"{source}: {key}: {failure}; got {value!r}")
            checked[key] = value
    return _under_its_rules(Config(**checked), values, lambda key: f"{source}: {key}")


def _under_its_rules(config: Config, given: Iterable[str], where: Callable[[str], str]) -> Config:
    """The config with no tuning where its rules allow none.

    Args:
        given: the fields that somebody wrote down.
        where: a field's name to the start of an error message.

    Raises:
        UsageError: a tuning budget under rules without tuning or the other way round, or an optimizer without the
            defaults that such rules run it with.
    """
    if config.rules == "tuned":
        for key in TUNING:
            if getattr(config, key) < 1:
                raise UsageError(f"{where(key)}: must be at least 1 under the rules 'tuned'; got 0")
        return config
    for key in TUNING:
        if key in given and getattr(config, key) > 0:
            raise UsageError(
                f"{where(key)}: nothing is tuned under the rules {config.rules!r}: leave it out, or write 'rules: tuned'; "
                f"got {getattr(config, key)}"
            )
    for name in config.optimizers:
        if lacking := optimizers.get(name).without_default:
            raise UsageError(
                f"{where('optimizers')}: the rules {config.rules!r} run an optimizer with its published defaults, and the entry "
                f"{name!r} declares none for {', '.join(lacking)}: add them as Entry(defaults=...)"
            )
    return replace(config, trials=0, tuning_seeds=0)


def override(config: Config, options: Mapping[str, Any]) -> Config:
    """The config with the values of command-line options (those that are not None), checked alike."""
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        option = f"--{key.replace('_', '-')}"
        if key in ("workloads", "optimizers"):
            known = problems.names() if key == "workloads" else optimizers.names()
            given[key] = _names(option, value, key.removesuffix("s"), known)
        elif failure := _CHECKS[key](value):
            raise UsageError(f"{option}: {failure}; got {value!r}")
    return _under_its_rules(replace(config, **given), given, lambda key: f"--{key.replace('_', '-')}")


def shipped(name: str) -> Config:
    """A config of this package."""
    text = (resources.files(__package__) / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse(text, f"{name}.yaml", name)


def load(path: Path) -> Config:
    """Read and check a config file.

    Raises:
        UsageError: the file cannot be read, is not YAML, or holds something that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(text, str(path), path.stem)


def parse(text: str, source: str, name: str) -> Config:
    """A checked config from the text of a file; ``source`` names it in messages, ``name`` is the config's unless it has one."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        values = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{source}{line}: not valid YAML: {_first_line(error.problem)}") from None
    except YAMLError as error:  # characters that YAML does not allow
        raise UsageError(f"{source}: not valid YAML: {_first_line(error)}") from None
    if values is None:
        raise UsageError(f"{source}: the file is empty; it needs at least the fields workloads and optimizers")
    if not isinstance(values, dict):
        raise UsageError(f"{source}: must be fields with values, as in 'seeds: 10'; got a {type(values).__name__}")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:80] or "comparison"
    return from_mapping({"name": name, **values}, source)


def _first_line(text: Any) -> str:
    return str(text).strip().splitlines()[0]
