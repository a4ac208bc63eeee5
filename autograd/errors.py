"""Errors that more than one room knows, and what a message about a name says, wherever a name is looked up."""

import difflib
from collections.abc import Iterable


class NoValueError(TypeError):
    """A value was asked of a symbolic tensor, as by an ``if`` that depends on data: a graph cannot be traced there."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """``unknown KIND 'name'; did you mean 'nearest'? known: ...``; capitals do not count in what is near."""
    names = list(known)
    plain = {one.lower(): one for one in names}
    close = difflib.get_close_matches(str(name).lower(), plain, n=1)
    hint = f"; did you mean {plain[close[0]]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{hint} known: {', '.join(names)}"
