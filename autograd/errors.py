"""Errors that more than one room knows, and what a message about a name says, wherever a name is looked up."""

import difflib
from collections.abc import Iterable


class NoValueError(TypeError):
    """A value was asked of a symbolic tensor, as by an ``if`` that depends on data: a graph cannot be traced there."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """``unknown KIND 'name'; did you mean 'nearest'? known: ...``"""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{hint} known: {', '.join(names)}"
