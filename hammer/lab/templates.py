"""``hammer new``: a small working problem or optimizer, and a test of it, to start from."""

import argparse
import keyword
import re
from pathlib import Path

from autograd.atomic import write_atomically

from . import optimizers, problems
from .errors import UsageError

PROBLEM = '''"""{title}: say here what is hard about it."""

from autograd import nn
from hammer.lab.datasets import digits, split
from hammer.lab.problem import Problem, Supervised, accuracy
from hammer.lab.seeds import Streams


def start(streams: Streams, dtype: str) -> Supervised:
    """One run: data, fresh weights and batches, each from its own random stream."""
    parts = split(digits(), streams("split"), held=400, dtype=dtype)
    rng = streams("init")
    model = nn.Sequential(nn.Linear(64, 16, rng=rng, dtype=dtype), nn.Tanh(), nn.Linear(16, 10, rng=rng, dtype=dtype))
    return Supervised(parts, model, nn.losses.cross_entropy, accuracy, batch_size=32, rng=streams("batches"))


PROBLEM = Problem(
    name="{name}",
    title="{title}",
    about="perceptron 64-16-10 with tanh on 8×8 digits",
    data="scikit-learn load_digits: 1,397 to train on, 400 held out",
    start=start,
    steps=200,
    eval_every=10,
    batch_size=32,
    loss="held-out cross-entropy",
    metric="accuracy",
    target=None,  # a comparison derives one; to freeze it, write Target(loss, "the run that set it")
)
'''

PROBLEM_TEST = '''"""{name}: a run is a function of its seed, and gradients teach it something."""

from pathlib import Path

import numpy as np

from hammer.lab import discovery, trial
from hammer.lab.trial import TrialSpec

FOLDER = Path(__file__).resolve().parents[1]


def test_{name}_learns_and_repeats():
    spec = TrialSpec("{name}", "adam", {{"lr": 0.01}}, 0, 0, 50, 10, "float32")
    with discovery.looking_in([FOLDER]):
        (outcome, arrays), (again, _) = trial.run(spec), trial.run(spec)
    assert outcome["status"] == "finished" and outcome["bits"] == again["bits"]
    assert np.isfinite(arrays["metric"]).all()
    assert arrays["loss"][-1] < arrays["loss"][0]
'''

OPTIMIZER = '''"""{title}: say here what it does, and where it is from."""

from autograd.gradients import leafwise
from hammer.lab.optimizers import Entry, LogRange


def make(*, lr, momentum):
    """Heavy ball (Polyak 1964), the update being -lr m with m <- momentum m + g. Change it to yours."""

    def step(g, p, t, m):
        """The update of one parameter p with gradient g at its step t; m starts at zero and is changed in place."""
        m *= momentum
        m += g
        return -lr * m

    return leafwise(step, ["m"])


OPTIMIZER = Entry(
    name="{name}",
    title="{title}",
    make=make,
    space={{"lr": LogRange(1e-4, 1.0)}},  # searched, the same for all problems
    fixed={{"momentum": 0.9}},
    baseline=False,
)
'''

OPTIMIZER_TEST = '''"""{name}: it goes down a quadratic."""

from pathlib import Path

from hammer.lab import discovery, trial
from hammer.lab.trial import TrialSpec

FOLDER = Path(__file__).resolve().parents[1]


def test_{name}_goes_down():
    spec = TrialSpec("quadratic", "{name}", {{"lr": 0.1}}, 0, 0, 100, 10, "float64")
    with discovery.looking_in([FOLDER]):
        outcome, arrays = trial.run(spec)
    assert outcome["status"] == "finished"
    assert arrays["loss"][-1] < 0.1 * arrays["loss"][0]
'''


def new(arguments: argparse.Namespace) -> int:
    """Write the two files; returns 0.

    Raises:
        UsageError: a name that cannot be one, or is taken, or a file that is there already.
    """
    kind, name, folder = arguments.kind, arguments.name, arguments.folder
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot be a name: use lower-case letters, digits and _, starting with a letter")
    if name in (problems.names() if kind == "problem" else optimizers.names()):
        raise UsageError(f"there is a built-in {kind} {name!r}; take another name")
    code, test = (PROBLEM, PROBLEM_TEST) if kind == "problem" else (OPTIMIZER, OPTIMIZER_TEST)
    written = {folder / f"{kind}s" / f"{name}.py": code, folder / "tests" / f"test_{kind}_{name}.py": test}
    for path in written:
        if path.exists():
            raise UsageError(f"{path} is there already, and was not changed")
    for path, text in written.items():
        _write(path, text.format(name=name, title=name.replace("_", " ").capitalize()))
    example = (
        f"hammer compare {name} adam --from {folder}"
        if kind == "optimizer"
        else (f"hammer compare adam --workloads {name} --from {folder}")
    )
    print(
        f"wrote {' and '.join(map(str, written))}\ntest it:    python -m pytest {folder}/tests\ncompare it: {example}"
    )
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise UsageError(f"--in: cannot write {path}: {error.strerror}") from None
