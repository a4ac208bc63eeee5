"""Random programs and every row, compiled: what eager code computes, to the bit or within the error model; and errors are found."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import hammer
from autograd import OPS
from autograd.backend import is_array
from autograd.testing.calls import calls
from autograd.testing.programs import Name, Program, Step
from hammer.graph import GraphError, passes

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def script():
    sys.path.insert(0, str(BENCHMARKS))
    import random_programs

    yield random_programs
    sys.path.remove(str(BENCHMARKS))


def found(script, name, numbers, seed=1):
    return [m for i in numbers for m in script.examine(seed, i, [name], shrink=False)["mismatches"]]


@pytest.mark.parametrize(
    ("name", "start", "stop"), [("exact", 0, 50), ("exact", 50, 100), ("rounding", 100, 115), ("rounding", 115, 130)]
)
def test_random_programs(script, name, start, stop):
    """Each in two ways, and called three times; compiling to round otherwise takes longest. The benchmark runs 5,000."""
    for m in found(script, name, range(start, stop)):
        raise AssertionError(f"{m['what']}\n{m['smallest']}")


@pytest.mark.parametrize("name", list(OPS))
def test_every_row_within_the_error_model(script, name):
    """To the bit they are held in tests/hammer/graph/test_graph_equality.py."""

    @settings(
        max_examples=1,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(calls(name))
    def law(call):
        program = program_of_call(call)
        if program.leaves:
            script.check(program.astype("float32"), "float32", "whole", script.COMPILERS["rounding"], False)

    law()


def program_of_call(call):
    leaves = {f"x{i}": a for i, a in enumerate(call.inputs) if is_array(a) and a.dtype.kind == "f"}
    inputs = tuple(Name(f"x{i}") if f"x{i}" in leaves else a for i, a in enumerate(call.inputs))
    out = call.run(*call.inputs)
    names = tuple(f"v{k}" for k, _ in enumerate(out)) if isinstance(out, tuple) else ("v0",)
    steps, outputs = [Step(names, call.row.name, inputs, call.params)], []
    for n, o in zip(names, out if isinstance(out, tuple) else (out,), strict=True):
        if o is not None and o.dtype.kind == "c":
            steps += [Step((f"{n}{part}",), part, (Name(n),), {}) for part in ("real", "imag")]
            outputs += [f"{n}real", f"{n}imag"]
        elif o is not None:
            outputs.append(n)
    return Program(leaves, tuple(steps), tuple(outputs))


# ---- what is found ----


def test_a_pass_that_changes_what_is_computed_is_found(script, monkeypatch):
    monkeypatch.setattr(passes, "COMMUTATIVE", passes.COMMUTATIVE | {"subtract"})
    x, y = np.array([0.5, 2.0]), np.array([1.5, -1.0])
    steps = [
        Step(("a",), "subtract", (Name("x"), Name("y")), {}),
        Step(("b",), "subtract", (Name("y"), Name("x")), {}),
        Step(("c",), "exp", (Name("b"),), {}),
        Step(("d",), "multiply", (Name("a"), Name("c")), {}),
        Step(("e",), "sin", (Name("d"),), {}),
        Step(("f",), "cos", (Name("x"),), {}),
    ]
    program, compiler = Program({"x": x, "y": y}, tuple(steps), ("e", "f")), script.COMPILERS["exact"]
    for way in script.WAYS:
        with pytest.raises(script.Mismatch, match=r"output e"):
            script.check(program, "float64", way, compiler, True)
    text = script.shown(program, "float64", "around", compiler, True)
    assert text.count("ops.") == text.count("ops.subtract") == 2


def off(factor):
    """A compiler whose results are off by a factor."""
    return lambda f: hammer.compile(lambda *xs: _scaled(f(*xs), factor), exact=False, fallback=False)


def _scaled(tree, factor):
    if isinstance(tree, tuple):
        return tuple(_scaled(x, factor) for x in tree)
    return tree * factor if tree.dtype.kind == "f" else tree


@pytest.mark.parametrize(("factor", "dtype"), [(1 + 1e-12, "float64"), (1 + 1e-4, "float32")])
@pytest.mark.parametrize("way", ["around", "whole"])
def test_errors_beyond_the_model_are_found(script, factor, dtype, way):
    numbers = [i for i in range(6) if script.program_of(1, i)[1] == dtype]
    missed = 0
    for i in numbers:
        program, _ = script.program_of(1, i)
        try:
            script.check(program, dtype, way, off(factor), False)
            missed += 1
        except script.Mismatch as error:
            assert "units in the last place" in str(error)
    assert missed <= len(numbers) // 3  # programs of zeros, integers and ill-conditioned numbers


def test_memory_that_is_used_again_is_found(script):
    """As of a plan that returns a part of its arena."""

    def compiler(f):
        kept = {}

        def run(*xs):
            out = [np.asarray(getattr(o, "raw", o)) for o in f(*xs)[0]]
            for k, o in enumerate(out):
                kept.setdefault(k, np.empty_like(o))[...] = o
            return tuple(kept.values()), tuple(np.zeros_like(x) for x in xs)

        return run

    program = Program({"x": np.array([0.5, 2.0])}, (Step(("a",), "stop_gradient", (Name("x"),), {}),), ("a",))
    with pytest.raises(script.Mismatch, match="was written over"):
        script.check(program, "float64", "whole", compiler, True)


def test_what_is_refused_is_told(script, monkeypatch):
    def refuse(f):
        raise GraphError("not today")

    monkeypatch.setitem(script.COMPILERS, "mine", refuse)
    assert [m["what"] for m in found(script, "mine", [0])] == ["raised GraphError: not today"] * 2
    with pytest.raises(SystemExit, match="module:function"):
        script.compiler_of("nowhere:compile")
    assert script.compiler_of("hammer:compile") is hammer.compile


def test_the_script(script, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        script.main(["--programs", "4", "--seed", "2", "--out", str(tmp_path)])
    figures = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert figures["programs"] == 4 and figures["mismatches"] == 0
    assert figures["compiled"]["exact"] == {"runs": 8, "mismatches": 0, "worst_ulp": 0.0, "ill_conditioned": 0}
    assert "4 random programs" in (tmp_path / "random_programs.md").read_text()
    script.main(["--print", "--programs", "1"])
    assert "def program(" in capsys.readouterr().out


def test_a_long_run_is_resumed(script, tmp_path, capsys, monkeypatch):
    options = ["--programs", "2", "--out", str(tmp_path), "--state", str(tmp_path / "state"), "--compiler", "exact"]
    script.main(options)
    first = capsys.readouterr().out
    monkeypatch.setattr(script, "examine", None)  # nothing is done again
    script.main(options)
    assert capsys.readouterr().out == first


def test_half_of_the_programs_run_on_many_examples(script):
    for i in range(8):
        program, dtype = script.program_of(0, i)
        assert all(a.dtype == dtype for a in program.leaves.values())
        assert all(a.ndim and len(a) == script.EXAMPLES for a in program.leaves.values()) == (i % 4 > 1)
        assert str(program) == str(script.program_of(0, i)[0])
