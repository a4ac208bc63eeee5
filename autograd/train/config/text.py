"""YAML and TOML to plain values, with the line of every key.

YAML is read event by event under the core schema of YAML 1.2 (``1e-4`` is a number, ``off`` a word). A config needs no more
than mappings, lists and scalars, so tags, anchors and aliases are refused: nothing is constructed, and nothing can expand.
TOML has no lines for its values; its own errors have one.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST = 1_000_000
"""Bytes that a config may have."""
DEPTH = 20
"""Levels of nesting that a config may have."""

Path_ = tuple[str | int, ...]
"""The place of a value: keys and positions from the outside in."""

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + word[1:]) for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


class ConfigError(ValueError):
    """A config that cannot be used; one line names file, line, key and value, and what is allowed."""


def read_file(path: Path) -> str:
    """The text of a file.

    Raises:
        ConfigError: it cannot be read, is too long, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: has more than {LARGEST:,} bytes; is it a config?")
    for magic, what in ((b"PK\x03\x04", "a ZIP archive"), (b"\x80", "a pickle"), (b"\x1f\x8b", "a gzip file")):
        if data.startswith(magic):
            raise ConfigError(f"{path}: is {what}, not a text file with keys and values")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None


def read_toml(text: str, source: str) -> dict[str, Any]:
    """The values of a TOML text.

    Raises:
        ConfigError: it is not TOML; the message has tomllib's line and column.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{source}: nested more than {DEPTH} levels deep") from None
    except ValueError as error:  # also Python's limit on the digits of a number
        raise ConfigError(f"{source}: not valid TOML: {first_line(error)}") from None


def read_yaml(text: str, source: str) -> tuple[Any, dict[Path_, int]]:
    """The value of a YAML text (None if it is empty), and the line of every key and list entry in it, from 1.

    Raises:
        ConfigError: it is not YAML, or uses what a config does not need; the message has the line.
    """
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ImportError:
        raise ConfigError(
            f'{source}: YAML needs ruamel.yaml; install with: pip install "hammer-grad[train]", or write TOML'
        ) from None
    lines: dict[Path_, int] = {}
    events = YAML(typ="safe", pure=True).parse(text)
    try:
        return _document(events, source, lines), lines
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {first_line(error.problem)}") from None
    except YAMLError as error:  # characters that YAML does not allow
        raise ConfigError(f"{source}: not valid YAML: {first_line(error)}") from None


def _document(events: Iterator[Any], source: str, lines: dict[Path_, int]) -> Any:
    """The one document of a stream of events."""
    value, documents = None, 0
    for event in events:
        kind = type(event).__name__
        if kind == "DocumentStartEvent":
            documents += 1
            if documents > 1:
                raise ConfigError(f"{source}:{_line(event)}: a config is one document, and here a second one begins")
        elif kind not in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent", "CommentEvent"):
            value = _node(event, events, source, lines, ())
    return value


def _node(event: Any, events: Iterator[Any], source: str, lines: dict[Path_, int], at: Path_) -> Any:
    kind, here = type(event).__name__, f"{source}:{_line(event)}"
    if kind == "AliasEvent" or event.anchor is not None:
        raise ConfigError(f"{here}: anchors and aliases (& and *) are not used in configs; write the value out")
    if event.tag is not None and not (kind == "ScalarEvent" and str(event.tag) == "!"):
        raise ConfigError(f"{here}: tags such as {str(event.tag)!r:.60} are not used in configs; write a plain value")
    if len(at) >= DEPTH:
        raise ConfigError(f"{here}: nested more than {DEPTH} levels deep")
    if kind == "ScalarEvent":
        return event.value if event.style else scalar(event.value, here)
    if kind == "SequenceStartEvent":
        items: list[Any] = []
        while type(inner := next(events)).__name__ != "SequenceEndEvent":
            lines[(*at, len(items))] = _line(inner)
            items.append(_node(inner, events, source, lines, (*at, len(items))))
        return items
    fields: dict[str, Any] = {}
    while type(inner := next(events)).__name__ != "MappingEndEvent":
        if type(inner).__name__ != "ScalarEvent" or inner.anchor or inner.tag:
            raise ConfigError(f"{source}:{_line(inner)}: a key must be a word")
        key = inner.value
        if key in fields:
            raise ConfigError(
                f"{source}:{_line(inner)}: {dotted((*at, key))} is given twice; first in line {lines[(*at, key)]}"
            )
        lines[(*at, key)] = _line(inner)
        fields[key] = _node(next(events), events, source, lines, (*at, key))
    return fields


def scalar(text: str, here: str = "a value") -> Any:
    """A plain scalar under YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > 1000:
            raise ConfigError(
                f"{here}: a number of {len(text)} digits; is it meant to be text? Then write it in quotes"
            )
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if _FLOAT.fullmatch(text) else text


def _line(event: Any) -> int:
    return event.start_mark.line + 1


def dotted(at: Path_) -> str:
    """A place as people write it: ``optimizer.chain[0].name``."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = re.fullmatch(r"[\w-]{1,60}", part)
            text += ("." if text else "") + (part if plain else f"{part[:60]!r}")
    return text


def first_line(text: Any) -> str:
    """The first line of a message, in printable characters."""
    line = (str(text).strip().splitlines() or [""])[0]
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)[:300]
