"""Files, mappings and command-line overrides to a checked Config.

Values are read key by key against ``schema``, then settings that contradict one another are refused (``rules``). The first
error stops, and says where: file and line where they are known, the key's path, the value, and what is allowed.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import registry
from .keys import Named, Options, Spec, spec_of
from .rules import resolve
from .schema import Config
from .text import ConfigError, Path_, dotted, read_file, read_toml, read_yaml
from .types import NO_LIMITS, Misfit, checked, members, optional, shown, unknown, wanted

COMMAND_LINE = "command line"


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read and check a config file.

    Args:
        path: a file whose name ends with .yaml, .yml or .toml.
        overrides: ``key.path=value`` texts that go before what the file says, such as ``training.lr=1e-3`` or
            ``optimizer.chain=[sgd]``; values are YAML.

    Raises:
        ConfigError: one line with the file, the line, the key, the value, and what is allowed.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml", ".toml"):
        raise ConfigError(f"{path}: the name of a config ends with .yaml, .yml or .toml")
    text = read_file(path)
    values, lines = (read_toml(text, str(path)), {}) if path.suffix == ".toml" else read_yaml(text, str(path))
    if not values:
        raise ConfigError(f"{path}: the file says nothing; it needs keys and values, as in 'task: classification'")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be keys and values, as in 'seed: 1'; got {shown(values)}")
    places = {at: f"{path}:{line}" for at, line in lines.items()}
    for one in overrides:
        _override(values, one, places)
    if "name" not in values and path.stem.isprintable():
        values["name"] = path.stem
    return _parse(values, str(path), places)


def parse(mapping: Mapping[str, Any], source: str) -> Config:
    """A checked config from a mapping, such as ``{"training": {"lr": 0.1}}``.

    ``source`` says in errors where it is from.

    Raises:
        ConfigError: as ``load_config``.
    """
    return _parse(mapping, source, {})


def override(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``values`` with ``key.path=value`` texts put in."""
    for one in overrides:
        _override(values, one, {})
    return values


def _override(values: dict[str, Any], text: str, places: dict[Path_, str]) -> None:
    key, equals, value = text.partition("=")
    at = tuple(key.strip().split("."))
    if not equals or not all(at):
        raise ConfigError(f"{COMMAND_LINE}: {text!r:.80} must be key.path=value, as in training.lr=1e-3")
    found, _ = read_yaml(value, f"{COMMAND_LINE}: {key}")
    for i, part in enumerate(at[:-1]):
        inner = values.get(part)
        if isinstance(inner, str) and i == len(at) - 2:
            inner = {"name": inner}  # a name without options gets one
        elif inner is not None and not isinstance(inner, dict):
            where = ".".join(at[: i + 1])
            raise ConfigError(
                f"{COMMAND_LINE}: {key}: {where} is {shown(inner)}, which has no keys; give {where} as a whole"
            )
        if inner is None:
            inner = {}
            places[at[: i + 1]] = COMMAND_LINE
        values[part] = inner
        values = inner
    values[at[-1]] = found
    for place in [p for p in places if p[: len(at)] == at]:
        del places[place]
    places[at] = COMMAND_LINE


def _parse(values: Mapping[str, Any], source: str, places: Mapping[Path_, str]) -> Config:
    reader = _Reader(source, places)
    config = reader.section(Config, values, ())
    return resolve(config, frozenset(reader.given), reader.fail)


class _Reader:
    """Reads values against types. ``given`` collects the dotted paths of the keys that were there."""

    def __init__(self, source: str, places: Mapping[Path_, str]):
        self.source, self.places = source, places
        self.given: set[str] = set()

    def fail(self, at: Path_ | str, problem: str) -> ConfigError:
        """The error for a place."""
        parts = tuple(at.split(".")) if isinstance(at, str) else at
        near = next((parts[:n] for n in range(len(parts), 0, -1) if parts[:n] in self.places), None)
        where = self.source if near is None else self.places[near]
        return ConfigError(f"{where}: {dotted(parts)}: {problem}" if parts else f"{where}: {problem}")

    def section(self, kind: Any, values: Any, at: Path_) -> Any:
        """A section: a dataclass of ``schema``."""
        if values is None and at:  # a section of which every key is commented out
            values = {}
        if not isinstance(values, Mapping):
            raise self.fail(at, f"must be keys and values; got {shown(values)}")
        fields = {one.name: one for one in dataclasses.fields(kind)}
        for key in values:
            if key not in fields:
                known = [f for f in fields if f != "name" or kind is not Config]
                raise self.fail((*at, str(key)), unknown("key", key, known or fields, all_keys()))
        hints = typing.get_type_hints(kind)
        read = {}
        for key, value in values.items():
            self.given.add(dotted((*at, key)))
            read[key] = self.value(hints[key], spec_of(fields[key]), value, (*at, key))
        return kind(**read)

    def value(self, hint: Any, spec: Spec, value: Any, at: Path_) -> Any:
        """A value of a key."""
        if value is None and optional(hint):
            return None
        part = members(hint)[0]
        if dataclasses.is_dataclass(part) and part is not Named:
            return self.section(part, value, at)
        if part is Named:
            return self.named(spec, value, at)
        if part == tuple[Named, ...]:
            if not isinstance(value, list | tuple) or not value:
                raise self.fail(at, f"must be a list, each {wanted(Named, spec)}; got {shown(value)}")
            return tuple(self.named(spec, one, (*at, i)) for i, one in enumerate(value))
        if part == Options:
            return self.feature(value, at)
        try:
            return checked(hint, spec, value)
        except Misfit as misfit:
            raise self.fail(at, str(misfit)) from None

    def named(self, spec: Spec, value: Any, at: Path_) -> Named:
        """A registered name with its options."""
        kind = str(spec.kind)
        given = {"name": value} if isinstance(value, str) else value
        if isinstance(given, Named):
            given = {"name": given.name, **given.options}
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise self.fail(
                at, f"must be {wanted(Named, spec)}, as in {{name: NAME, option: value}}; got {shown(value)}"
            )
        known = registry.registered(kind)
        name = given["name"]
        if name not in known:
            raise self.fail(at, unknown(kind, name, known))
        options = {key: one for key, one in given.items() if key != "name"}
        return Named(name, self.options(kind, name, options, at))

    def feature(self, value: Any, at: Path_) -> Options:
        """A section whose code is registered by a package above this one."""
        name = str(at[-1])
        if name not in registry.registered("feature"):
            raise self.fail(
                at,
                f"is not available: no code for {name} is registered; `hammer run` registers what there is of hammer",
            )
        if not isinstance(value, Mapping):
            raise self.fail(at, f"must be keys and values; got {shown(value)}")
        return self.options("feature", name, value, at)

    def options(self, kind: str, name: str, given: Mapping[str, Any], at: Path_) -> Options:
        """Options of a registered builder, checked against its signature; it is tried out where that costs nothing."""
        entry = registry.registered(kind)[name]
        read: Options = {}
        for key, value in given.items():
            place = (*at, str(key))
            if key in entry.supplied:
                raise self.fail(place, f"is not set here: it comes from {entry.supplied[key]}")
            if key not in entry.options and not entry.any_option:
                raise self.fail(place, unknown(f"option of {name}", key, entry.options))
            hint = entry.options[key].type if key in entry.options else Any
            try:
                read[str(key)] = checked(hint, NO_LIMITS, value)
            except Misfit as misfit:
                raise self.fail(place, str(misfit)) from None
        for key, option in entry.options.items():
            if option.required and key not in read:
                raise self.fail(at, f"{name} needs the option {key}: {wanted(option.type)}")
        if entry.trial is not None:
            try:
                entry.builder(**read, **entry.trial)
            except (ValueError, TypeError) as error:
                problem = str(error).removeprefix(f"{name}: ")
                raise self.fail(at, problem if at[-1] == name else f"{name}: {problem}") from None
        return read


def all_keys(kind: Any = Config, prefix: str = "") -> dict[str, Spec]:
    """Every key of the schema, dotted, with its declaration; sections are not keys."""
    hints = typing.get_type_hints(kind)
    found: dict[str, Spec] = {}
    for one in dataclasses.fields(kind):
        path = f"{prefix}{one.name}"
        if is_section(hints[one.name]):
            found |= all_keys(hints[one.name], f"{path}.")
        else:
            found[path] = spec_of(one)
    return found


def is_section(hint: Any) -> bool:
    """Whether a field's type is a section."""
    return dataclasses.is_dataclass(hint) and hint is not Named


def get(config: Any, path: str) -> Any:
    """The value of a dotted key."""
    for part in path.split("."):
        config = getattr(config, part)
    return config


def unused_keys(config: Config) -> list[str]:
    """Keys whose values differ from their defaults though the config's task does not use them, dotted."""
    default = Config()
    return [
        path
        for path, spec in all_keys().items()
        if spec.tasks and config.task not in spec.tasks and get(config, path) != get(default, path)
    ]
