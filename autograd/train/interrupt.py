"""Ctrl-C during training: the present step ends, and nothing is left half-way."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training was interrupted by Ctrl-C, after a whole step; the message says where it was saved."""


class Asked:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.to_stop = False


@contextlib.contextmanager
def finishing_steps(asked: Asked) -> Iterator[None]:
    """A block in which Ctrl-C only sets ``asked.to_stop``; a second one raises KeyboardInterrupt at once.

    Where somebody else handles the signal, or outside the main thread, nothing is changed.
    """
    asked.to_stop = False
    handled = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    if handled or threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(*_: Any) -> None:
        asked.to_stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
