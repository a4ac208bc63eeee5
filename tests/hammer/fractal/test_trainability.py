"""Grids of trainings: closed forms, the loop, edges, zooms; slices of losses."""

import struct
import zlib

import numpy as np
import pytest

from autograd import nn, ops
from autograd.per_example import functional_call
from hammer.fractal import (
    Axis,
    Grid,
    Training,
    boundary,
    descent,
    filter_direction,
    landscape,
    roughness_by_scale,
    zoom,
)


def bowl(params):
    """½ (x² + 4 y²): descent converges just where the rates are below 2 and 1/2."""
    first, second = params
    return 0.5 * ops.sum(first * first) + 2.0 * ops.sum(second * second)


START = (np.array([1.0]), np.array([1.0]))


def network(width, rng):
    x, y = rng.standard_normal((5, width)), rng.standard_normal(5)

    def loss(params):
        hidden = ops.tanh(ops.matmul(x, params[0]))
        return ops.mean((ops.sum(hidden * params[1], axis=-1) - y) ** 2)

    return loss, (rng.standard_normal((width, width)), rng.standard_normal(width))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_quadratic_converges_where_it_must(compiled):
    grid = Grid(Axis(0.0, 3.0, log=False), Axis(-1.05, 0.05), pixels=17)
    field = boundary(descent(bowl, START, 60), grid, chunk=50, compiled=compiled)
    x, y = grid.x.settings(17), grid.y.settings(17)
    one, two = abs(1 - x[None, :]), abs(1 - 4 * y[:, None])
    steps = np.arange(60)[:, None, None]
    losses = 0.5 * one ** (2 * steps) + 2.0 * two ** (2 * steps)
    relative = losses / losses[0]
    ratio = relative[-20:].mean(axis=0)
    np.testing.assert_allclose(field.ratio, ratio, rtol=1e-9, atol=1e-30)
    speed = np.where(ratio < 1, np.minimum(1, relative).mean(axis=0), np.minimum(1, 1 / relative).mean(axis=0))
    np.testing.assert_allclose(field.speed, speed, rtol=1e-9)
    assert field.converged[0, 5] and not field.converged[0, -1] and not field.converged[-1, 5]
    assert field.edges().shape == (16, 16) and field.edges().any()


def test_batched_and_compiled_trainings_equal_a_loop():
    loss, params = network(4, np.random.default_rng(0))
    grid = Grid(Axis(-2.0, 2.0), Axis(-2.0, 2.0), pixels=5)
    training = descent(loss, params, 30)
    field, eager = (boundary(training, grid, chunk=7, compiled=c) for c in (True, False))
    np.testing.assert_array_equal(field.converged, eager.converged)
    one = np.empty((5, 5))
    for i, b in enumerate(grid.y.settings(5)):
        for j, a in enumerate(grid.x.settings(5)):
            state, losses = params, []
            for _ in range(30):
                with np.errstate(all="ignore"):
                    state, value = training.step(state, a, b)
                losses.append(float(value))
            one[i, j] = np.mean(losses[-20:]) / losses[0]
    tame = one < 1
    np.testing.assert_allclose(eager.ratio[tame], one[tame], rtol=1e-6)
    np.testing.assert_array_equal(eager.converged, tame)


def test_a_function_that_returns_its_losses_will_do():
    def train(x, y):
        losses, w, v = [], 1.0, 1.0
        for _ in range(25):
            losses.append(0.5 * w * w + 2.0 * v * v)
            w, v = w - x * w, v - 4.0 * y * v
        return ops.stack(losses)

    grid = Grid(Axis(0.1, 3.0, log=False), Axis(0.05, 1.0, log=False), pixels=9)
    np.testing.assert_allclose(boundary(train, grid).ratio, boundary(descent(bowl, START, 25), grid).ratio, rtol=1e-9)


def test_edges_by_hand_and_their_dimension():
    grid = Grid(Axis(0.0, 1.0), Axis(0.0, 1.0), pixels=65)
    training = Training(lambda x, y: x * 0.0, lambda s, x, y: (s + 1.0, ops.where(s == 0, 1.0, x / y)), steps=3, tail=2)
    field = boundary(training, grid)  # the ratio is x / y: the boundary is the diagonal
    inside = np.subtract.outer(np.arange(65), np.arange(65)) > 0
    np.testing.assert_array_equal(field.converged, inside)
    edges = field.edges()
    wanted = np.abs(np.subtract.outer(np.arange(64), np.arange(64)) - 0.0) <= 0
    assert edges[wanted].all() and edges.sum() <= 3 * 64 and abs(field.density - edges.mean()) < 1e-15
    assert abs(field.dimension().value - 1.0) < 0.1


def test_what_is_no_number_has_diverged():
    training = Training(lambda x, y: x, lambda s, x, y: (s, ops.sqrt(0.5 - s)), steps=4, tail=2)
    field = boundary(training, Grid(Axis(0.0, 0.9, log=False), Axis(0.0, 1.0), pixels=3))
    assert np.isinf(field.ratio[:, 2]).all() and not field.converged[:, 2].any()
    assert ((field.speed >= 0) & (field.speed <= 1)).all()


def test_zoom_is_a_path_that_follows_from_its_seed():
    loss, params = network(3, np.random.default_rng(1))
    training = descent(loss, params, 25)
    first = boundary(training, Grid(Axis(-1.0, 3.0), Axis(-1.0, 3.0), pixels=17))
    one, same, other = (zoom(training, first, seed, levels=3) for seed in (0, 0, 1))
    assert [f.grid for f in one.fields] == [f.grid for f in same.fields] != [f.grid for f in other.fields]
    assert len(one.fields) == 4 and one.fields[0] is first
    for wide, narrow in zip(one.fields, one.fields[1:], strict=False):
        width = wide.grid.x.high - wide.grid.x.low
        assert abs((narrow.grid.x.high - narrow.grid.x.low) * 8 / width - 1) < 1e-6
        rows, columns = np.nonzero(wide.edges())
        middle = (narrow.grid.x.low + narrow.grid.x.high) / 2, (narrow.grid.y.low + narrow.grid.y.high) / 2
        places = wide.grid.x.low + (columns + 0.5) / 16 * width, wide.grid.y.low + (rows + 0.5) / 16 * width
        assert np.min(abs(places[0] - middle[0]) + abs(places[1] - middle[1])) < 1e-9
    again = zoom(training, first, 0, levels=3, known=one.fields[1:3])
    assert again.fields[1] is one.fields[1] and (again.fields[3].ratio == one.fields[3].ratio).all()
    with pytest.raises(ValueError, match="is not the window of this path"):
        zoom(training, first, 0, levels=3, known=one.fields[2:3])
    assert len(one.dimensions()) == sum(f.edges().any() for f in one.fields)
    assert zoom(training, first, 0, levels=3, most=1e-6).dense and len(zoom(training, first, 0, most=1e-6).fields) == 1


def test_the_picture_shows_who_converged():
    field = boundary(descent(bowl, START, 30), Grid(Axis(0.0, 3.0, log=False), Axis(-1.05, 0.05), pixels=9))
    data = field.picture(scale=2)
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (18, 18)
    start = data.index(b"IDAT")
    length = struct.unpack(">I", data[start - 4 : start])[0]
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(18, -1)
    pixels = rows[:, 1:].reshape(18, 18, 3)[::2, ::2][::-1].astype(int)
    np.testing.assert_array_equal(pixels[..., 2] > pixels[..., 0], field.converged)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Axis(1.0, 1.0), ValueError, "low must be below high"),
        (lambda: Grid(Axis(0, 1), Axis(0, 1), 1), ValueError, "pixels must be a whole number"),
        (
            lambda: Training(lambda x, y: x, lambda s, x, y: (s, s), steps=3),
            ValueError,
            "the last 20 losses of 3 steps",
        ),
        (lambda: descent(bowl, [1.0, 2.0], 30), TypeError, "a tuple of two groups"),
        (
            lambda: boundary(lambda x, y: x, Grid(Axis(0, 1), Axis(0, 1), 3)),
            ValueError,
            r"of shape \(steps,\), not of shape \(\)",
        ),
        (
            lambda: boundary(
                Training(lambda x, y: x, lambda s, x, y: (s, ops.stack([s, s])), 20), Grid(Axis(0, 1), Axis(0, 1), 3)
            ),
            ValueError,
            r"must be a number, not of shape \(2,\)",
        ),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---- slices ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filters_of_a_direction_have_the_norms_of_the_parameters(dtype):
    rng = np.random.default_rng(0)
    params = {
        "w": rng.normal(size=(4, 3, 2)).astype(dtype),
        "b": rng.normal(size=4).astype(dtype),
        "zero": np.zeros((2, 2), dtype),
    }
    found = filter_direction(params, rng)
    norms = lambda a: np.sqrt(np.sum(a * a, axis=tuple(range(1, a.ndim))))
    np.testing.assert_allclose(norms(found["w"]), norms(params["w"]), rtol=1e-5)
    assert not found["b"].any() and not found["zero"].any() and found["w"].dtype == dtype


def test_a_slice_is_the_loss_along_its_directions():
    model = nn.Sequential(
        nn.Linear(3, 4, rng=np.random.default_rng(0)), nn.Tanh(), nn.Linear(4, 1, rng=np.random.default_rng(1))
    )
    params, x = dict(model.named_parameters()), np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
    loss = lambda p: ops.mean(functional_call(model, p, x) ** 2)
    rng = np.random.default_rng(3)
    d, e = filter_direction(params, rng), filter_direction(params, rng)
    found = landscape(loss, params, (d, e), span=0.5, points=7, chunk=10)
    a, b = found.places[1], found.places[5]
    moved = {k: p.numpy() + np.float32(a) * d[k] + np.float32(b) * e[k] for k, p in params.items()}
    np.testing.assert_allclose(found.values[1, 5], float(loss(moved)), rtol=1e-5)
    np.testing.assert_allclose(found.values[3, 3], float(loss(params)), rtol=1e-6)
    line = landscape(loss, params, (d,), span=0.5, points=7)
    np.testing.assert_allclose(line.values, found.values[:, 3], rtol=1e-5)
    assert (
        found.picture()[:4] == b"\x89PNG" and 1.5 < landscape(loss, params, (d,), points=65).roughness().exponent <= 2.1
    )
    with pytest.raises(ValueError, match="a curve, not an image"):
        line.picture()


def test_roughness_of_slices_of_known_exponent():
    t = np.linspace(0, 1, 1025)
    assert abs(roughness_by_scale(t**2, t[1]).exponent - 2.0) < 1e-9
    assert abs(roughness_by_scale(3 * t, t[1], order=1).exponent - 1.0) < 1e-9
    from hammer.fractal import fractional_brownian

    rng = np.random.default_rng(0)
    for hurst in (0.3, 0.7):
        found = [roughness_by_scale(fractional_brownian(1024, hurst, rng), 1.0).exponent for _ in range(20)]
        assert abs(np.mean(found) - hurst) < 0.06
    with pytest.raises(ValueError, match="do not differ"):
        roughness_by_scale(np.ones(20), 1.0)
    with pytest.raises(ValueError, match="at least 5 values"):
        roughness_by_scale(np.ones((20, 3)), 1.0)
