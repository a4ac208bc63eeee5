"""What the laboratory tells a person whose input it cannot use."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """Bad input. Its text is one line that names the field, the value and what is allowed; the command exits with 2."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """``unknown KIND 'name'; did you mean 'nearest'? known: ...``"""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{hint} known: {', '.join(names)}"


def missing(libraries: Iterable[str]) -> str:
    """The line for libraries of the ``lab`` extra that are not installed."""
    return f'the laboratory needs {", ".join(libraries)}; install with: pip install "hammer-grad[lab]"'
