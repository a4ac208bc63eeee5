"""`hammer check MODULE:FUNCTION`: what it draws, what it finds, how small it makes that, and what it says of bad input."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hammer.lab.checks.arguments import Argument, arguments_of
from hammer.lab.checks.counterexample import source
from hammer.lab.checks.function import Checks, check_function
from hammer.lab.checks.shrink import shrink
from hammer.lab.cli import main
from hammer.lab.errors import UsageError

MODULE = """
import autograd.numpy as np
from autograd import ops
from autograd.extend import defvjp, primitive


@primitive
def cube(x):
    return x**3


defvjp(cube, lambda ans, x: lambda g: g * 3 * x**2 * (1 + 1e-3 * (x > 1)))


def right(w, x, axis=None):
    return np.sum(np.sin(np.matmul(x, w)), axis=axis)


def wrong(x, y):
    return np.sum(cube(x) * y) + np.sum(np.exp(y))


def lost(x):
    return np.sum(np.sin(x)) * float(x.sum())


def one(x):
    return ops.sum(ops.softmax(x))


def of_logarithm(x):
    return np.sum(np.log(x))


number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module ``checked``, in which the command runs."""
    (tmp_path / "checked.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "checked", raising=False)
    yield tmp_path
    sys.modules.pop("checked", None)


def test_a_right_function_passes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", "checked:right", "--shape", "w=n", "--shape", "x=k,n", "--value", "axis=0", "--examples", "8"]
    assert main([*command, "--domain", "w=-0.5:0.5"]) == 0
    out = capsys.readouterr().out
    assert "checked:right(w: n -0.5:0.5, x: k,n reals, axis=0)" in out and "passed: 8 of 8 calls checked" in out


def test_a_wrong_one_fails_with_its_operation_and_a_test_that_fails(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "checked:wrong", "--shape", "x=n,m", "--shape", "y=m"]) == 1
    out = capsys.readouterr().out
    assert "FAILED, wrong derivative" in out
    assert re.search(r"x = np\.array\(\[\[\d\.\d\]\]\)\n", out)  # one element, with few digits
    assert re.search(
        r"the operation that is wrong: cube\(np\.array\(\[\[\d\.\d\]\]\)\) at checked\.py:\d+ in wrong\n", out
    )
    (here / "test_pasted.py").write_text(out.partition("a test to paste:\n")[2])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pasted.py"],
        capture_output=True, text=True, timeout=120, cwd=here, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "wrong derivative" in done.stdout
    fixed = MODULE.replace("(1 + 1e-3 * (x > 1))", "1")
    (here / "checked.py").write_text(fixed)
    done = subprocess.run([*done.args], capture_output=True, text=True, timeout=120, cwd=here, check=False)
    assert done.returncode == 0, done.stdout


def test_a_lost_gradient_is_told_from_a_wrong_operation(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "checked:lost", "--order", "1"]) == 1
    assert "no operation is wrong on its own" in capsys.readouterr().out


def test_a_function_that_raises_is_told_what_to_say(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "checked:of_logarithm", "--shape", "x=2", "--domain", "x=negative"]) == 1
    out = capsys.readouterr().out
    assert "raised an error" in out and "not finite" in out and "--domain" in out
    assert main(["check", "checked:of_logarithm", "--shape", "x=2", "--domain", "x=positive", "--examples", "5"]) == 0


def test_points_that_decide_nothing_do_not_count_as_passed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "checked:one", "--shape", "x=2", "--examples", "5"]) == 1
    out = capsys.readouterr().out
    assert "not passed: nothing could be decided" in out and "0 of 5 calls checked" in out and "at 5 calls" in out


def test_a_file_is_as_good_as_a_module(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "checked.py:right", "--shape", "w=2", "--shape", "x=3,2", "--examples", "3"]) == 0
    assert "3 of 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["checked"], "'checked' names no function; write autograd, MODULE:FUNCTION"),
        (["missing_module:f"], "there is no module 'missing_module'"),
        (["missing.py:f"], "missing.py: there is no such file"),
        (["checked:rihgt"], "unknown function 'rihgt'; did you mean 'right'?"),
        (["checked:number"], "is a int, not a function"),
        (["checked:right", "--shape", "v=3"], "--shape: unknown parameter 'v'; known: w, x, axis"),
        (["checked:right", "--shape", "w"], "--shape w: write NAME=..., as in --shape x=3,4"),
        (["checked:right", "--shape", "w=3,-1"], "a shape is sizes and names"),
        (["checked:right", "--shape", "w=3", "--shape", "w=4"], "w is given twice"),
        (["checked:right", "--domain", "w=positiv"], "unknown domain 'positiv'; did you mean 'positive'?"),
        (["checked:right", "--domain", "w=2:1"], "LOW must be less than HIGH"),
        (["checked:right", "--dtype", "w=int8"], "unknown dtype 'int8'"),
        (["checked:right", "--value", "axis=zero"], "write a Python literal"),
        (["checked:right", "--value", "w=1.0", "--shape", "w=3"], "has a --value, so it is not drawn"),
        (["checked:lost", "--domain", "x=int"], "there is nothing to differentiate"),
        (["checked:right", "--order", "0"], "--order: must be at least 1"),
        (["checked:right", "--modes", "forward"], "--modes: must be rev, fwd or rev,fwd"),
        (["checked:right", "--rtol", "2"], "--rtol: must be between 0 and 1"),
        (["checked:right", "--examples", "0"], "--examples: must be a whole number of at least 1"),
        (["checked:right", "--rows", "exp"], "--rows: is for the op table"),
        (["autograd", "--shape", "x=3"], "--shape: is for a function"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_a_module_that_cannot_be_imported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "broken_on_import.py").write_text("raise RuntimeError('no luck')")
    assert main(["check", "broken_on_import:f"]) == 2
    assert "importing broken_on_import failed: RuntimeError: no luck" in capsys.readouterr().err


def test_without_hypothesis_the_extra_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hammer.lab import environment

    monkeypatch.setattr(environment, "find", lambda module: module != "hypothesis")
    assert main(["check", "checked:right"]) == 2
    assert 'needs hypothesis; install with: pip install "hammer-grad[lab]"' in capsys.readouterr().err


# ---- the parts ----


def test_equal_names_of_sizes_are_equal_sizes() -> None:
    drawn = arguments_of(lambda a, b, c=1.0: a, shape=["a=n,2", "b=k,n"], domain=["b=unit"], dtype=["a=complex128"])
    assert [a.name for a in drawn.drawn] == ["a", "b"]
    sizes = set()

    def see(a, b):
        sizes.add((a.shape[0], b.shape[0]))
        assert a.shape == (b.shape[1], 2) and a.dtype == np.complex128 and b.dtype == np.float64
        return (a * b.sum()).sum()

    assert check_function(see, drawn, Checks(order=1), examples=20).passed
    assert len(sizes) > 3


def test_the_same_seed_draws_the_same_calls() -> None:
    def drawn(seed: int) -> list[bytes]:
        seen: list[bytes] = []

        def see(x):
            if not hasattr(x, "node"):
                seen.append(x.tobytes())
            return x.sum()

        check_function(see, arguments_of(see), Checks(order=1), examples=5, seed=seed, done=lambda n: seen.append(b"|"))
        return seen

    assert drawn(1) == drawn(1)


def test_shrinking_takes_out_elements_axes_and_digits() -> None:
    arguments = [Argument("x", ("n", "m")), Argument("y", ("m",))]
    rng = np.random.default_rng(0)
    call = {"x": rng.normal(size=(3, 4)), "y": rng.normal(size=4)}
    call["x"][1, 2] = 2.71828
    small = shrink(call, arguments, lambda c: bool(np.any(c["x"] > 2.5)))
    np.testing.assert_array_equal(small["x"], [[3.0]])
    assert small["y"].shape == (1,)
    free = [Argument("x"), Argument("y")]
    small = shrink({"x": np.full((2, 3), 1.26), "y": np.full((2, 3), 0.5)}, free, lambda c: bool(np.all(c["x"] > 1.05)))
    assert small["x"].shape == small["y"].shape == () and float(small["x"]) == 1.3


def test_shrinking_keeps_to_the_domain() -> None:
    (argument,) = arguments_of(lambda x: x, domain=["x=positive"]).drawn
    small = shrink({"x": np.array([0.149])}, [argument], lambda c: True)
    assert float(small["x"]) == 0.1


@pytest.mark.parametrize(
    "value",
    [
        np.array([1.5, -2.0]), np.array(0.1), np.array([[1, 2]]), np.array([True]), np.array([1.0], np.float32), np.zeros((0, 3)),
        np.array([1 + 2j]), np.float64(0.1), np.array([np.inf, -np.inf, np.nan]), (1, "a", None), [0, (2.5,)], np.dtype("float32"),
    ],
    ids=repr,
)  # fmt: skip
def test_sources_make_their_values_again(value) -> None:
    made = eval(source(value), {"np": np})
    if not isinstance(value, np.ndarray):
        assert made == value
    else:
        np.testing.assert_array_equal(made, value)
        assert np.asarray(made).dtype == value.dtype and np.shape(made) == value.shape


def test_options_are_refused_by_the_parser_of_arguments() -> None:
    with pytest.raises(UsageError, match="wrap it"):
        arguments_of(lambda *xs: xs)
    with pytest.raises(UsageError, match="nothing to differentiate"):
        arguments_of(lambda x=1.0: x)
    free = arguments_of(lambda x, **others: x, shape=["z=3"])
    assert [a.name for a in free.drawn] == ["x", "z"]
