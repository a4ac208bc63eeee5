"""What is made from the schema: the printed config, the JSON Schema for editors, and the reference page."""

import dataclasses
import inspect
import json
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from . import registry
from .keys import Named, Options, Spec, default_of, spec_of
from .parse import is_section
from .schema import Config
from .text import scalar
from .types import NO_LIMITS, entries, members, optional, wanted

# ---- YAML ----


def to_yaml(config: Config) -> str:
    """The whole config with its meanings as comments: a file that reads back as an equal config."""
    return "\n".join(_yaml_lines(config, "")) + "\n"


def _yaml_lines(section: Any, indent: str) -> Iterator[str]:
    hints = typing.get_type_hints(type(section))
    for one in dataclasses.fields(section):
        value = getattr(section, one.name)
        if not indent and is_section(hints[one.name]):
            yield ""
        for line in textwrap.wrap(spec_of(one).meaning, 118 - len(indent)):
            yield f"{indent}# {line}"
        if is_section(hints[one.name]):
            yield f"{indent}{one.name}:"
            yield from _yaml_lines(value, f"{indent}  ")
        else:
            yield f"{indent}{one.name}: {in_yaml(plain(value))}"


def plain(value: Any) -> Any:
    """A value of a config as a file has it: lists for tuples, mappings for names with options."""
    if isinstance(value, Named):
        return {"name": value.name, **plain(value.options)} if value.options else value.name
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def to_mapping(config: Any) -> dict[str, Any]:
    """The config as nested dicts of plain values: what ``parse`` takes, and what a checkpoint keeps."""
    return {
        one.name: to_mapping(inner)
        if dataclasses.is_dataclass(inner := getattr(config, one.name)) and not isinstance(inner, Named)
        else plain(inner)
        for one in dataclasses.fields(config)
    }


def in_yaml(value: Any) -> str:
    """A plain value on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{in_yaml(key)}: {in_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(in_yaml, value)) + "]"
    if isinstance(value, str):
        bare = value[:1].isalpha() and all(c.isalnum() or c in "_-./" for c in value) and scalar(value) == value
        return value if bare and value.isascii() else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


# ---- JSON Schema ----


def json_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of config files, for editors; it knows the names that are registered now."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Hammer: a training run",
        **_section_schema(Config, ""),
    }


def _section_schema(kind: Any, meaning: str) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    properties = {}
    for one in dataclasses.fields(kind):
        spec, hint = spec_of(one), hints[one.name]
        if is_section(hint):
            properties[one.name] = _section_schema(hint, spec.meaning)
        else:
            properties[one.name] = {
                "description": spec.meaning,
                **_schema(hint, spec, one.name),
                "default": plain(default_of(one)),
            }
    outer = {"description": meaning} if meaning else {"description": inspect.getdoc(kind)}
    return {
        **outer,
        "type": ["object", "null"] if meaning else "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _schema(hint: Any, spec: Spec, name: str = "") -> dict[str, Any]:
    """The schema of a type."""
    if hint is Any:
        return {}
    parts = [_part_schema(part, spec, name) for part in members(hint)] + [{"type": "null"}] * optional(hint)
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _part_schema(hint: Any, spec: Spec, name: str) -> dict[str, Any]:
    if typing.get_origin(hint) is Literal:
        return {"enum": list(typing.get_args(hint))}
    if hint is bool:
        return {"type": "boolean"}
    if hint is int or hint is float:
        limits = {
            "minimum": spec.low,
            "maximum": spec.high,
            "exclusiveMinimum": spec.above,
            "exclusiveMaximum": spec.below,
        }
        return {"type": "integer" if hint is int else "number", **{k: v for k, v in limits.items() if v is not None}}
    if hint is str:
        return {"type": "string", "minLength": 1}
    if hint is Named:
        return _named_schema(str(spec.kind))
    if hint == Options:
        entry = registry.registered("feature").get(name)
        return _options_schema(entry) if entry else {"not": {}, "description": "not available"}
    inner = entries(hint)
    if inner is None:
        return {}
    fixed = typing.get_origin(hint) is tuple and ... not in typing.get_args(hint)
    count = len(typing.get_args(hint)) if fixed else None
    bounds = {"minItems": count, "maxItems": count} if fixed else {"minItems": 1} if inner is Named else {}
    return {"type": "array", "items": _schema(inner, spec), **bounds}


def _named_schema(kind: str) -> dict[str, Any]:
    known = registry.registered(kind)
    alone = [name for name, entry in known.items() if not any(o.required for o in entry.options.values())]
    return (
        {"anyOf": [{"enum": alone}, *(_options_schema(entry, name) for name, entry in known.items())]}
        if known
        else {"not": {}}
    )


def _options_schema(entry: registry.Entry, name: str | None = None) -> dict[str, Any]:
    properties: dict[str, Any] = {} if name is None else {"name": {"const": name}}
    for key, option in entry.options.items():
        properties[key] = _schema(option.type, NO_LIMITS)
        if not option.required and _is_json(plain(option.default)):
            properties[key]["default"] = plain(option.default)
    required = ["name"] * (name is not None) + [key for key, option in entry.options.items() if option.required]
    return {
        "description": entry.meaning, "type": "object", "properties": properties, "required": required,
        "additionalProperties": entry.any_option,
    }  # fmt: skip


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


# ---- the reference page ----

_INTRODUCTION = """# The config of a training run

This page is made from the schema (`python -m autograd.train.config > docs/config.md`); a test holds it to that.

A run is one file, YAML or TOML, and `key.path=value` after it goes before what the file says:

```sh
hammer run experiments/mnist.yaml training.lr=1e-3 optimizer.chain=[sgd]
hammer run --print-config experiments/mnist.yaml    # everything, defaults included, with its meaning
hammer schema > hammer.schema.json                  # for editors: completion and checks while typing
```

```python
from autograd.train.config import ConfigError, parse

config = parse({"task": "classification", "training": {"epochs": 3, "lr": 1e-3}}, "example")
assert config.training.epochs == 3 and config.training.grad_clip == 5.0

try:
    parse({"training": {"lrate": 1e-3}}, "example")
except ConfigError as error:
    assert "did you mean lr?" in str(error)
```

What a file leaves out has its default. An unknown key, a value of another type or out of its limits, and settings that
contradict one another are refused, with file, line, key, value, and what to write instead. YAML is YAML 1.2: `1e-4` is a
number, and `on` and `yes` are words. Relative paths start where the command is run. A key that the run's task does not use may
be there: the run says that it is not used.
"""


def reference() -> str:
    """``docs/config.md``."""
    return "\n".join([_INTRODUCTION, *_section_page(Config, ""), *_links_page()]) + "\n"


def _section_page(kind: Any, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    keys = [one for one in dataclasses.fields(kind) if not is_section(hints[one.name])]
    if prefix:
        yield f"## {prefix}\n"
        yield f"{inspect.getdoc(kind)}\n"
    else:
        yield "## The whole run\n"
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    for one in keys:
        spec = spec_of(one)
        for_tasks = f" *({', '.join(spec.tasks)})*" if spec.tasks else ""
        default = f"`{in_yaml(plain(default_of(one)))}`"
        yield _row(f"`{one.name}`", wanted(hints[one.name], spec), default, spec.meaning + for_tasks)
    yield ""
    for one in dataclasses.fields(kind):
        if is_section(hints[one.name]):
            yield from _section_page(hints[one.name], f"{prefix}.{one.name}" if prefix else one.name)


def _links_page() -> Iterator[str]:
    yield "## Links of optimizer.chain\n"
    yield "Those that take the learning rate end a chain; it comes from `training.lr` and the scheduler.\n"
    yield "| link | options | takes the rate | meaning |"
    yield "|---|---|---|---|"
    here = __name__.partition(".")[0] + "."
    for name, entry in registry.registered("link").items():
        if not entry.builder.__module__.startswith(here):  # a package above has its own pages
            continue
        options = ", ".join(_option(key, option) for key, option in entry.options.items())
        yield _row(f"`{name}`", options or "–", "yes" if "lr" in entry.supplied else "", entry.meaning)


def _row(*cells: str) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def _option(name: str, option: registry.Option) -> str:
    default = "" if option.required else f" = {in_yaml(plain(option.default))}"
    return f"`{name}{default}`" + (f" ({wanted(option.type, NO_LIMITS)})" if option.required else "")
