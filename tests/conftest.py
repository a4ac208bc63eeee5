"""Settings of all tests: property tests draw the same examples in every run, and take the time they need.

BLAS runs on one thread, set before NumPy is imported: on matrices as small as the tests', the threads of several
processes wait for each other far longer than they compute; and the bits then do not depend on the number of cores.
"""

import os
import signal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import pytest
from chromium import browser  # noqa: F401 - a fixture
from hypothesis import Phase, settings

settings.register_profile("hammer", derandomize=True, deadline=None, print_blob=True, database=None)
settings.load_profile("hammer")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background; commands that are
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tested inherit it, and Ctrl-C must end them


@pytest.fixture
def unshrunk():
    """No time is spent on making a counter-example small."""
    settings.register_profile("unshrunk", settings.get_profile("hammer"), phases=[Phase.generate])
    settings.load_profile("unshrunk")
    yield
    settings.load_profile("hammer")


@pytest.fixture
def double():
    """PyTorch in float64: NAdam keeps a product in the default dtype."""
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)
