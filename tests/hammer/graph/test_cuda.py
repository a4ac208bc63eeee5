"""Graphs as CUDA kernels: their meaning on a pretend GPU, where threads run on the CPU; and that CUDA's compiler takes them.

The kernels that run here are the text that CUDA would compile. ``test_cuda_gpu`` is for a GPU.
"""

import functools
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pretend_cupy
import pytest
from graph_checks import scalar_of
from hypothesis import HealthCheck, Phase, given, settings
from test_graph_architectures import loss_of, problem

from autograd import OPS, ops
from autograd.backend import is_array, is_inexact
from autograd.testing.calls import calls
from autograd.testing.generation import programs
from autograd.testing.programs import Rows
from hammer.graph import GraphError, UniversalGraph
from hammer.graph.cuda import CudaPlan, Unlowered, program
from hammer.graph.cuda.program import Launch
from hammer.graph.execute import Plan, given_values, make_plan

QUIET = {
    "database": None,
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate],
}
RNG = np.random.default_rng


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    """The pretend GPU in CuPy's place."""
    if pretend_cupy.COMPILER is None:
        pytest.skip("no C++ compiler")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in pretend_cupy.modules(tmp_path_factory.mktemp("kernels")).items():
            patch.setitem(sys.modules, name, module)
        yield sys.modules["cupy"]


def close(a, b, ulps=64, floor=0.0):
    """Equal up to rounding, of the largest element at least, or of the number ``floor``: what cancels is as large on the way."""
    a, b = a.get(), np.asarray(b)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    if a.dtype.kind == "f":
        scale = np.max(np.abs(b[np.isfinite(b)]), initial=floor)
        np.testing.assert_allclose(a, b, rtol=16 * np.finfo(a.dtype).eps, atol=ulps * float(np.spacing(scale)))
    else:
        np.testing.assert_array_equal(a, b)


def check(cupy, graphs, ulps=64, floor=0.0):
    """Plans of graphs, with values for each, against the graphs themselves; threads in rising and falling order make the same bits."""
    plans = []
    for graph, values in graphs:
        try:
            plans.append((graph, values, CudaPlan(graph, cupy.ndarray)))
        except Unlowered:
            continue
    pretend_cupy.build([plan.source for _, _, plan in plans])
    for graph, values, plan in plans:
        runs = []
        for order in (0, 1):
            pretend_cupy.RawModule.backwards = order
            runs.append(plan([cupy.asarray(v) for v in values]))
        for a, again, b in zip(*runs, graph.plan()(values), strict=True):
            assert type(a) is cupy.ndarray
            np.testing.assert_array_equal(a.get(), again.get())
            close(a, b, ulps, floor)
    return [plan for _, _, plan in plans]


def traced(fun, *arrays):
    return UniversalGraph.trace(fun, *arrays), list(arrays)


# ---- elementwise ----

SMOOTH = (
    "exp", "log", "log1p", "expm1", "tanh", "erf", "erfc", "sqrt", "sin", "cos", "floor", "ceil", "trunc", "sigmoid", "silu", "gelu",
    "abs", "negative", "sign", "square", "relu",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_real_numbers(cupy, dtype):
    x = np.concatenate(
        [RNG(0).normal(size=500) * 3, [0.0, -0.0, 1e-8, -1e-30, 60, -60, np.inf, -np.inf, np.nan]]
    ).astype(dtype)
    y = np.roll(x, 7)

    def every(x, y):
        one = [getattr(ops, name)(x) for name in SMOOTH]
        two = [
            x + y,
            x - y,
            x * y,
            x / y,
            ops.maximum(x, y),
            ops.minimum(x, y),
            ops.where(x > y, x, 2.5),
            ops.clip(x, -1.0, 2.0),
        ]
        truths = [
            x < y,
            x <= y,
            x > y,
            x >= y,
            x == y,
            x != y,
            ops.isfinite(x),
            ops.isnan(x),
            ops.logical_and(x > 0, y > 0),
        ]
        return *one, *two, *truths, ops.maximum(x, np.inf), ops.minimum(x, -np.inf), ops.logaddexp(x, y)

    graph, values = traced(every, x, y)
    plan = CudaPlan(graph, cupy.ndarray)
    assert all(isinstance(s, Launch) for s in plan.program.steps)
    for a, b in zip(plan([cupy.asarray(v) for v in values]), graph.plan()(values), strict=True):
        np.testing.assert_allclose(a.get(), b, rtol=64 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whole_numbers_wrap_around(cupy):
    def every(x, y):
        return (
            x + y,
            x - y,
            x * y,
            -x,
            ops.maximum(x, y),
            x < y,
            ops.sum(x),
            ops.max(x),
            ops.min(x),
            ops.where(x == y, x, y),
        )

    graphs = []
    for dtype in (np.int32, np.int64):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        graphs.append(traced(every, np.array([low, high, 5, -7, low], dtype), np.array([high, high, 5, 3, low], dtype)))
    casts = lambda x: tuple(ops.astype(x, d) for d in (np.bool, np.int32, np.int64, np.float32, np.float64))
    graphs += [
        traced(casts, np.array([0.0, -1.5, 2.5, 100.9])),
        traced(casts, np.array([True, False])),
        traced(casts, np.arange(5, dtype=np.uint8)),
    ]
    assert len(check(cupy, graphs)) == 5


# ---- reductions ----

FRAMES = {
    "a warp for a row": ((37, 50), 1), "a block of 128": ((3, 700), 1), "a block of 256": ((3, 2100), 1), "a block of 512": ((2, 9000), 1),
    "parts of rows": ((3, 20_000), 1), "everything": ((300, 101), None), "everything, small": ((5, 7), None), "inner axes": ((4, 5, 6, 7), (2, 3)),
    "outer and inner": ((6, 4, 35), (0, 2)), "columns": ((40, 33), 0), "wide columns": ((3, 700), 0), "parts of columns": ((7000, 5), 0),
    "a middle axis": ((3, 40, 5), 1), "outer axes": ((3, 20, 5, 2), (0, 1)), "every other": ((5, 4, 6, 3), (0, 2)),
}  # fmt: skip


def test_reductions(cupy):
    def every(axis):
        kinds = lambda x: (
            ops.sum(x, axis=axis),
            ops.mean(x * x, axis=axis),
            ops.max(x, axis=axis, keepdims=True),
            ops.min(ops.sin(x), axis=axis),
        )
        return lambda x: (*kinds(x), x + 1.0)

    graphs = [
        traced(every(axis), RNG(i).normal(size=frame).astype(np.float32))
        for i, (frame, axis) in enumerate(FRAMES.values())
    ]
    graphs.append(traced(lambda x: ops.prod(x, axis=1), RNG(0).uniform(0.5, 1.5, (30, 40))))
    plans = check(cupy, graphs)
    assert len(plans) == len(graphs)
    launches = dict(
        zip(FRAMES, ([s.kernel for s in p.program.steps if isinstance(s, Launch)] for p in plans), strict=False)
    )
    assert [launches[f"a block of {n}"][0].block for n in (128, 256, 512)] == [128, 256, 512]
    for name, (frame, _) in FRAMES.items():
        divided = [k for k in launches[name] if k.grid[1] > 1]
        assert bool(divided) == (name in ("parts of rows", "parts of columns", "everything", "a block of 512")), (
            name,
            frame,
        )


def test_several_phases(cupy):
    """What reads a reduction of its own row."""

    def normal(x):
        z = x - ops.mean(x, axis=1, keepdims=True)
        return z / ops.sqrt(ops.mean(z * z, axis=1, keepdims=True) + 1e-5)

    def crossed(x):
        return ops.cross_entropy(x, np.arange(len(x)) % x.shape[1])

    graphs, gradients = [], []
    for shape in ((7, 40), (5, 1000), (3, 5000), (2, 20_000)):
        x = RNG(0).normal(size=shape)
        for fun in (ops.softmax, ops.logsumexp, normal, crossed):
            made = UniversalGraph.trace(
                lambda x, fun=fun: ops.sum(ops.sin(fun(40.0 * x))), x
            )  # not all softmax of a size
            graphs.append(traced(lambda x, fun=fun: fun(x), x))
            gradients.append((made.grad(value=True), [x]))
    assert len(check(cupy, graphs)) == 16
    assert len(check(cupy, gradients, floor=40.0)) == 16


def test_views_and_joins(cupy):
    x, y = RNG(0).normal(size=(2, 4, 6, 5))

    def every(x, y, i):
        z = ops.transpose(x, (2, 0, 1))
        return (
            z * 2.0, ops.concat([x * y, ops.exp(y)], axis=1), ops.stack([x, y], axis=1) + 0.0, ops.roll(x, 2, axis=1), ops.flip(x, axis=2) * y,
            ops.reshape(z, (10, 12)) + 1.0, x[:, ::-2, 1:4] * y[:, 1::2, :3], ops.pad(x, ((1, 0), (0, 2), (1, 1))),
            ops.broadcast_to(x[:, :1], (4, 6, 5)) - y, ops.take_along_axis(ops.sin(x), i, axis=2), ops.tril(x), x,
        )  # fmt: skip

    check(cupy, [traced(every, x, y, RNG(1).integers(0, 5, (4, 6, 1)))])


# ---- everything ----


def test_indices_out_of_bounds_stay_within_the_array(cupy):
    x, i = np.arange(9.0).reshape(3, 3), np.array([[7], [-9], [-1]])
    graph = UniversalGraph.trace(lambda x, i: ops.take_along_axis(ops.sin(x) + x, i, axis=1), x, i)
    (found,) = CudaPlan(graph, cupy.ndarray)([cupy.asarray(x), cupy.asarray(i)])
    np.testing.assert_allclose(found.get(), [[k + np.sin(k)] for k in (2.0, 3.0, 8.0)])


def test_what_a_rows_kernel_returns_is_kept(cupy, monkeypatch):
    """Though it is a view of memory that something else takes next."""
    x = RNG(0).normal(size=(20, 20))

    def fun(x):
        d = ops.sort(ops.sin(x), axis=1)
        return ops.cumsum(d + 1.0, axis=1) * d

    graph = UniversalGraph.trace(fun, x)
    monkeypatch.setitem(OPS["sort"].kernels, cupy.ndarray, lambda x, **_: x[...])
    close(CudaPlan(graph, cupy.ndarray)([cupy.asarray(x)])[0], np.cumsum(np.sin(x) + 1.0, axis=1) * np.sin(x))


def test_results_are_the_callers(cupy):
    x = np.ones((3, 4))
    a, b, c = CudaPlan(UniversalGraph.trace(lambda x: (x * 2.0, x * 2.0, x), x), cupy.ndarray)(
        [given := cupy.asarray(x)]
    )
    assert not any(np.shares_memory(y.view(np.ndarray), z.view(np.ndarray)) for y, z in ((a, b), (a, c), (c, given)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_row(cupy):
    graphs = []
    for name in sorted(OPS.keys() - {"to_device"}):

        @settings(max_examples=1, **QUIET)
        @given(calls(name))
        def found(call):
            places = [i for i, x in enumerate(call.inputs) if is_array(x)]

            def fun(*arrays):
                inputs = list(call.inputs)
                for i, a in zip(places, arrays, strict=True):
                    inputs[i] = a
                return call.run(*inputs)

            if places:
                graphs.append(traced(fun, *(call.inputs[i] for i in places)))

        found()
    assert len(check(cupy, graphs, ulps=512)) > 190


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_programs_and_their_gradients(cupy):
    graphs = []

    @settings(max_examples=20, **QUIET)
    @given(programs(transforms=("grad", "scan", "cond", "jvp"), max_steps=8, empty=False))
    def found(program):
        leaves = [np.asarray(x)[()] for x in program.leaves.values()]
        fun = lambda *xs: program.run(Rows(), *xs)
        graphs.append(traced(fun, *leaves))
        loss = UniversalGraph.trace(scalar_of(fun), *leaves)
        wanted = [loss.inputs[i].name for i, x in enumerate(leaves) if is_inexact(x.dtype)]
        if wanted:
            graphs.append((loss.grad(wrt=wanted, value=True), leaves))

    found()
    assert len(check(cupy, graphs, ulps=4096, floor=1.0)) > 30


def gradients(name, dtype=np.float32):
    """The graph of an architecture's loss and gradients, with its values."""
    model, x, y = problem(name, dtype)
    graph = UniversalGraph.trace(loss_of(model), x, y).grad(value=True)
    return graph, given_values(graph, (x, y), {})


ARCHITECTURES = ("mlp", "residual cnn", "lstm", "transformer")


def test_architectures(cupy):
    plans = check(cupy, [gradients(name) for name in ARCHITECTURES])
    assert len(plans) == len(ARCHITECTURES)
    assert all(
        s.kind == "gemm" for s in plans[0].program.steps if not isinstance(s, Launch)
    )  # no row's kernel runs in an MLP
    for plan in plans:
        assert plan.bound <= plan.peak


def test_results_are_written_into_inputs(cupy):
    w, m, g = RNG(0).normal(size=(3, 40, 30)).astype(np.float32)

    def step(w, m, g):
        m = 0.9 * m + g
        return w - 0.1 * m, m, ops.sum(m * m)

    graph = UniversalGraph.trace(step, w, m, g)
    expected = graph.plan()([w, m, g])
    arrays = [cupy.asarray(x) for x in (w, m, g)]
    plan = make_plan(graph, cupy.ndarray, exact=False, writes={0: 0, 1: 1})
    assert plan.program.memory.donated == {0: 0, 1: 1}
    found = plan(arrays)
    assert found[0] is arrays[0] and found[1] is arrays[1]
    for a, b in zip(found, expected, strict=True):
        close(a, b)
    turned = cupy.asarray(np.asfortranarray(w))  # another memory order: computed aside, then copied
    plan([turned, cupy.asarray(m), cupy.asarray(g)])
    close(turned, expected[0])
    # the old value is read again after the new one is known, which then may not take its place
    late = make_plan(traced(lambda w: (w * 2.0, ops.softmax(w)), w)[0], cupy.ndarray, exact=False, writes={0: 0})
    a = cupy.asarray(w)
    _, found = late([a])
    close(a, w * 2)
    close(found, np.exp(w) / np.exp(w).sum(axis=1, keepdims=True))
    swapped = make_plan(traced(lambda x, y: (y, x), w, m)[0], cupy.ndarray, exact=False, writes={0: 0, 1: 1})
    a, b = cupy.asarray(w), cupy.asarray(m)
    swapped([a, b])
    close(a, m)
    close(b, w)


def test_a_captured_run_is_replayed(cupy):
    graph, values = gradients("mlp")
    plain, captured = CudaPlan(graph, cupy.ndarray), CudaPlan(graph, cupy.ndarray, capture=True)
    for factor in (1.0, 0.5, 2.0):
        given = [cupy.asarray(v * factor if v.dtype.kind == "f" else v) for v in values]
        first = captured(given)
        for a, b in zip(first, plain(given), strict=True):
            np.testing.assert_array_equal(a.get(), b.get())
    kept = [a.get() for a in first]
    captured([cupy.asarray(v) for v in values])
    for a, b in zip(first, kept, strict=True):  # results are the caller's
        np.testing.assert_array_equal(a.get(), b)
    step = UniversalGraph.trace(lambda w, g: w - 0.1 * g, *RNG(0).normal(size=(2, 4, 3)))
    w, g = (cupy.asarray(x) for x in np.ones((2, 4, 3)))
    written = CudaPlan(step, cupy.ndarray, {0: 0}, capture=True)
    for k in (1, 2, 3):
        assert written([w, g])[0] is w
        np.testing.assert_allclose(w.get(), 1 - 0.1 * k)
    x = np.ones((4, 6))
    stack, gaps = np.ones((2, 3, 3)), lambda x: ops.matmul(x[:, :3], x[:3, 3:])
    for fun, given in ((ops.sort, x), (lambda x: ops.matmul(x, x), stack), (gaps, x)):
        graph, values = traced(lambda x, fun=fun: fun(x), given)
        plan = CudaPlan(graph, cupy.ndarray, capture=True)  # a step allocates memory: it is run as it is
        close(plan([cupy.asarray(v) for v in values])[0], graph.plan()(values)[0])
        assert not plan._capture


def test_what_may_round_otherwise_runs_it(cupy):
    x = RNG(0).normal(size=(4, 30)).astype(np.float32)
    fun = lambda x: ops.sum(ops.tanh(ops.softmax(x)) * x)
    graph = UniversalGraph.trace(fun, x)
    assert type(graph.plan(cupy.ndarray, exact=False)) is CudaPlan and type(graph.plan(cupy.ndarray)) is Plan
    waves = UniversalGraph.trace(lambda x: x * 2.0, x.astype(np.complex64))
    assert type(make_plan(waves, cupy.ndarray, exact=False)) is Plan  # no kernels of complex numbers


def test_arrays_of_the_host_are_refused(cupy):
    graph, (x, y) = traced(lambda x, y: x + y, np.ones(3), np.ones(3))
    with pytest.raises(GraphError, match=r"the input 'y' is an array of numpy, others are CuPy's"):
        CudaPlan(graph, cupy.ndarray)([cupy.asarray(x), y])


def test_steps_are_a_run(cupy):
    graph, values = gradients("mlp")
    plan = CudaPlan(graph, cupy.ndarray)
    steps = plan.steps([cupy.asarray(v) for v in values])
    assert len(steps) == len(plan.program.steps) + 1
    for step in steps:
        found = step.run()
    labels = " ".join(s.label for s in steps)
    assert "matmul" in labels or "gemm" in labels
    assert "add over" in labels and found is None


def test_the_pretend_gpu_sees_a_barrier_that_some_threads_miss(cupy):
    text = """extern "C" __global__ void __launch_bounds__(64) NAME(double* __restrict__ x) { if (WHO) __syncthreads(); x[threadIdx.x] = 1; }"""
    x = cupy.empty(64)
    for name, who in (("some", "threadIdx.x != 5"), ("all", "true")):
        module = cupy.RawModule(code=text.replace("NAME", name).replace("WHO", who), options=())
        run = functools.partial(module.get_function(name), (1, 1), (64,), (x,))
        if name == "some":
            with pytest.raises(RuntimeError, match="never come to the barrier"):
                run()
        else:
            run()
            assert (x.get() == 1).all()


# ---- CUDA's compiler ----


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA compiler")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_source_compiles(arch, tmp_path: pathlib.Path):
    graphs = [gradients(name)[0] for name in ("mlp", "residual cnn")]
    graphs += [
        traced(lambda x, axis=axis: (ops.sum(x, axis=axis), ops.max(ops.erfc(x), axis=axis)), np.ones(frame))[0]
        for frame, axis in FRAMES.values()
    ]
    kernels: dict[str, None] = {}
    for graph in graphs:
        prelude, *found = program(graph).source.split('extern "C"')
        kernels |= dict.fromkeys(f'extern "C"{text}' for text in found)
    source = tmp_path / "kernels.cu"
    source.write_text(prelude + "".join(kernels))
    assert "fast" not in prelude
    options = ["-cubin", "-std=c++17", f"-arch={arch}", "-Werror", "all-warnings", "-diag-suppress", "177"]
    done = subprocess.run(
        ["nvcc", *options, "-o", str(tmp_path / "kernels.cubin"), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
