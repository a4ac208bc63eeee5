"""Files, mappings and command-line overrides to a checked Config."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .schema import Config


class ConfigError(ValueError):
    """A config that cannot be used; one line names file, line, key, value and what is allowed."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a YAML or TOML file; ``overrides`` are ``key.path=value`` with YAML values."""
    raise NotImplementedError


def parse(mapping: Mapping[str, Any], source: str) -> Config:
    """A checked config; ``source`` names where it is from in errors."""
    raise NotImplementedError


def unused_keys(config: Config) -> list[str]:
    """Keys that were changed from their defaults and that the config's task does not use."""
    raise NotImplementedError
