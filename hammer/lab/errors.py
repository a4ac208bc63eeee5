"""What the laboratory tells a person whose input it cannot use."""

from collections.abc import Iterable

from autograd.errors import unknown

__all__ = ["UsageError", "missing", "unknown"]


class UsageError(Exception):
    """Bad input. Its text is one line that names the field, the value and what is allowed; the command exits with 2."""


def missing(libraries: Iterable[str]) -> str:
    """The line for libraries of the ``lab`` extra that are not installed."""
    return f'the laboratory needs {", ".join(libraries)}; install with: pip install "hammer-grad[lab]"'
