"""The types that keys may have: what is allowed in words, and checking a value from a file against one."""

import difflib
import math
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal

from .keys import Named, Spec

NO_LIMITS = Spec("")


class Misfit(ValueError):
    """A value that does not fit its type; the text says what it must be, as in ``must be true or false``."""


def unknown(kind: str, name: object, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """``unknown KIND 'name'; did you mean 'nearest'? known: ...``

    Where no known name is near, names ``elsewhere`` (dotted) whose last part is the name are offered.
    """
    names = list(known)
    text = str(name)
    close: Sequence[str] = difflib.get_close_matches(text, names, n=1)
    close = close or [n for n in names if len(n) > 1 and text.startswith(n)][:1]  # lrate for lr
    if not close:
        tails = {path: path.rpartition(".")[2] for path in elsewhere}
        close = [path for path, tail in tails.items() if tail == name]
        if not close:
            near = difflib.get_close_matches(text, tails.values(), n=1)
            close = [path for path, tail in tails.items() if tail in near]
    hint = f"; did you mean {' or '.join(close)}?" if close else ";"
    return f"unknown {kind} {shown(name)}{hint} known: {', '.join(names) or 'none'}"


def members(hint: Any) -> list[Any]:
    """The alternatives of a union, without None; a type that is no union is its own only one."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [part for part in typing.get_args(hint) if part is not type(None)]
    return [hint]


def optional(hint: Any) -> bool:
    """Whether null is allowed."""
    return hint is Any or type(None) in typing.get_args(hint)


def entries(hint: Any) -> Any:
    """What the entries of a list type are, or None if the type is not one. ``tuple[X, Y]`` counts as a list of ``X | Y``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, Iterable) and origin not in (dict,)):
        if issubclass(origin, typing.Mapping):  # type: ignore[arg-type]
            return None
        return typing.Union[tuple(a for a in arguments if a is not ...)]  # noqa: UP007  (made of a tuple)
    return None


def wanted(hint: Any, spec: Spec = NO_LIMITS) -> str:
    """What a key of this type takes, in words."""
    parts = [_wanted(part, spec) for part in members(hint)] + ["null"] * (optional(hint) and hint is not Any)
    return ", or ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + f", or {parts[-1]}"


def _wanted(hint: Any, spec: Spec) -> str:
    if typing.get_origin(hint) is Literal:
        words = [shown(value) if not isinstance(value, str) else value for value in typing.get_args(hint)]
        return f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    if hint is bool:
        return "true or false"
    if hint is int:
        return f"a whole number{_limits(spec)}"
    if hint is float:
        return f"a number{_limits(spec)}"
    if hint is str:
        return "text"
    if hint is Named:
        return f"the name of a {spec.kind}, or its name and options"
    if is_dataclass(hint):
        return "keys and values"
    if typing.get_origin(hint) is dict:
        return "keys and values"
    inner = entries(hint)
    if inner is None:
        return "a value"
    fixed = typing.get_origin(hint) is tuple and ... not in typing.get_args(hint)
    return f"a list{f' of {len(typing.get_args(hint))}' if fixed else ''}, each {wanted(inner, spec)}"


def _limits(spec: Spec) -> str:
    low, high = spec.low, spec.high
    parts = [
        f"from {_number(low)} to {_number(high)}" if low is not None and high is not None else "",
        f"of at least {_number(low)}" if low is not None and high is None else "",
        f"above {_number(spec.above)}" if spec.above is not None else "",
        f"of at most {_number(high)}" if low is None and high is not None else "",
        f"below {_number(spec.below)}" if spec.below is not None else "",
    ]
    text = " and ".join(part for part in parts if part)
    return f" {text}" if text else ""


def _number(limit: float) -> str:
    """A limit; powers of two as such."""
    if isinstance(limit, int) and limit >= 2**31:
        exponent = limit.bit_length() - (limit.bit_count() == 1)
        return f"2^{exponent}" if limit == 2**exponent else f"2^{exponent} - {2**exponent - limit}"
    return f"{limit:g}"


def checked(hint: Any, spec: Spec, value: Any) -> Any:
    """``value`` in the form the config keeps it, for a type without sections and names.

    Raises:
        Misfit: it does not fit.
    """
    if hint is Any or isinstance(hint, str) or (value is None and optional(hint)):
        return value
    for part in members(hint):
        found = _fits(part, spec, value)
        if found is not _NO:
            return found
    raise Misfit(f"must be {wanted(hint, spec)}; got {shown(value)}{_advice(hint, value)}")


_NO: Any = object()


def _fits(hint: Any, spec: Spec, value: Any) -> Any:
    if typing.get_origin(hint) is Literal:
        return value if any(type(value) is type(a) and value == a for a in typing.get_args(hint)) else _NO
    if hint is bool or hint is int:
        return value if type(value) is hint and (hint is bool or _within(value, spec)) else _NO
    if hint is float:
        if type(value) not in (int, float) or (type(value) is int and abs(value) > 2**1000):
            return _NO
        return float(value) if math.isfinite(value) and _within(value, spec) else _NO
    if hint is str:
        return value if type(value) is str and value.strip() and value.isprintable() else _NO
    inner = entries(hint)
    if inner is not None:
        length = (
            None if ... in typing.get_args(hint) or typing.get_origin(hint) is not tuple else len(typing.get_args(hint))
        )
        if type(value) not in (list, tuple) or (length is not None and len(value) != length):
            return _NO
        return tuple(checked(inner, spec, one) for one in value)
    if typing.get_origin(hint) is dict:
        return value if isinstance(value, dict) else _NO
    return (
        _NO if isinstance(hint, type) and hint.__module__ == "builtins" else value
    )  # what else a builder takes, it checks


def _within(value: float, spec: Spec) -> bool:
    return not (
        (spec.low is not None and value < spec.low)
        or (spec.high is not None and value > spec.high)
        or (spec.above is not None and value <= spec.above)
        or (spec.below is not None and value >= spec.below)
    )


def _advice(hint: Any, value: Any) -> str:
    """What people mean who write such a value."""
    parts = members(hint)
    if type(value) is str:
        options = [str(a) for part in parts if typing.get_origin(part) is Literal for a in typing.get_args(part)]
        folded = {option.casefold(): option for option in options}
        close = difflib.get_close_matches(value.casefold(), list(folded), n=1)
        if close:
            return f"; did you mean {folded[close[0]]}?"
        if bool in parts and value.casefold() in ("yes", "no", "on", "off", "true", "false"):
            return "; write true or false"
        if (int in parts or float in parts) and _is_number(value):
            return "; write it without quotes"
        if str in parts and not value.isprintable():
            return " (with characters that cannot be printed)"
    if int in parts and type(value) is float and value.is_integer() and abs(value) < 1e15:
        return f"; write {int(value)}"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_WORDS = {None: "null", True: "true", False: "false"}


def shown(value: Any) -> str:
    """A value in an error: on one line, and not long."""
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int) and abs(value) >= 10**60:
        return f"a whole number of {len(str(abs(value))) if abs(value) < 10**1000 else 'over 1000'} digits"
    if isinstance(value, dict):
        return "keys and values" if value else "{}"
    if isinstance(value, list | tuple) and len(value) > 8:
        return f"a list of {len(value)}"
    if isinstance(value, list | tuple):
        text = f"[{', '.join(map(shown, value))}]"
    elif isinstance(value, str):
        text = repr(value)
    else:
        text = str(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= 60 else f"{text[:57]}…"
