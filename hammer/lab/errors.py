"""What the laboratory tells a person whose input it cannot use."""

from collections.abc import Iterable

__all__ = ["UsageError", "missing", "unknown"]


class UsageError(Exception):
    """Bad input. Its text is one line that names the field, the value and what is allowed; the command exits with 2."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """``unknown KIND 'name'; did you mean 'nearest'? known: ...``"""
    from autograd.errors import unknown as said  # imports all of autograd, which a wrong option must not wait for

    return said(kind, name, known)


def missing(libraries: Iterable[str], extra: str = "lab") -> str:
    """The line for libraries of an extra that are not installed."""
    return f'the laboratory needs {", ".join(libraries)}; install with: pip install "hammer-grad[{extra}]"'
