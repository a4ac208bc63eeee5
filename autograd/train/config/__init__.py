"""The config of a training run: one YAML or TOML file, checked against a typed schema.

``schema`` declares every key, ``keys`` how a key is declared, ``registry`` the names that a config may use, ``parse`` reads
and checks, ``text`` reads YAML and TOML with the lines of their keys, ``render`` prints configs, the JSON Schema and the
reference page.
"""

from .keys import Named, Options
from .parse import load_config, parse, unused_keys
from .registry import build, register, registered
from .render import json_schema, to_mapping, to_yaml
from .schema import (
    Checkpointing,
    Compression,
    Config,
    Data,
    EarlyStopping,
    Logging,
    Metrics,
    Model,
    Optimizer,
    Precision,
    Scheduler,
    Training,
    WandB,
)
from .text import ConfigError

__all__ = [
    "Checkpointing", "Compression", "Config", "ConfigError", "Data", "EarlyStopping", "Logging", "Metrics", "Model", "Named",
    "Optimizer", "Options", "Precision", "Scheduler", "Training", "WandB", "build", "json_schema", "load_config", "parse",
    "register", "registered", "to_mapping", "to_yaml", "unused_keys",
]  # fmt: skip
