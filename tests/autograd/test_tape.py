"""The tape and the backward pass: what is kept, in what order it runs, what it leaves behind, and what it refuses."""

import gc
import weakref

import numpy as np
import pytest

from autograd import BackwardPass, DiffTensor, Node, grad, no_grad, ops, vjp


def leaf(*values, **kwargs):
    return DiffTensor(np.array(values, **kwargs), requires_grad=True)


# ---- BackwardPass can be looked at ----


def test_a_pass_lists_its_nodes_from_newest_to_oldest():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    z = (x * y + ops.exp(x)).sum()
    run = BackwardPass((z,))
    assert [n.name for n in run.order] == ["sum", "add", "exp", "multiply", "leaf", "leaf"]
    assert [n.serial for n in run.order] == sorted((n.serial for n in run.order), reverse=True)
    assert {id(n) for n in run.leaves} == {id(x.node), id(y.node)}
    assert all(isinstance(n, Node) for n in run.order)


def test_a_pass_counts_each_kept_array_once():
    x, y = leaf(*np.arange(100.0)), leaf(*np.arange(100.0))
    product = x * y  # keeps x and y
    both = product + ops.sin(x)  # keeps x again
    run = BackwardPass((both.sum(),))
    assert run.bytes_retained == 2 * 800
    assert product.node.bytes_retained == 1600
    text = repr(run)
    assert "1,600 bytes" in text and "multiply" in text and "float64" in text


def test_a_pass_runs_and_returns_gradients_by_node_without_touching_grad():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    found = BackwardPass(((x * y).sum(),)).run()
    np.testing.assert_array_equal(found[x.node], [3.0, 4.0])
    np.testing.assert_array_equal(found[y.node], [1.0, 2.0])
    assert x.grad is None and y.grad is None


def test_a_pass_for_some_inputs_leaves_out_the_rest():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    middle = ops.exp(x)
    z = (middle * ops.sin(y)).sum()
    run = BackwardPass((z,), (middle,))
    assert [n.name for n in run.order] == ["sum", "multiply", "exp"]
    found = run.run()
    assert set(found) == {middle.node}
    np.testing.assert_allclose(found[middle.node], np.sin([3.0, 4.0]))


def test_a_pass_of_several_outputs_adds_up():
    x = leaf(1.0, 2.0)
    a, b = x * 2.0, x * 3.0
    found = BackwardPass((a, b)).run((np.array([1.0, 10.0]), np.array([1.0, 1.0])))
    np.testing.assert_array_equal(found[x.node], [5.0, 23.0])
    twice = BackwardPass((a, a)).run((np.ones(2), np.ones(2)))
    np.testing.assert_array_equal(twice[x.node], [4.0, 4.0])


def test_a_recorded_pass_can_be_differentiated():
    x = leaf(2.0)
    y = x[0] ** 3
    first = BackwardPass((y,), (x,), record=True).run()[x.node]
    assert isinstance(first, DiffTensor)
    first.sum().backward()
    np.testing.assert_allclose(x.grad, [12.0])


def test_recorded_gradients_of_one_output_of_several_add_up():
    # each output stands on the tape twice: where the forward used it, and where the recorded rule did
    x = leaf(1.0, 2.0, 4.0)
    z, _, v = ops.standardize(x, axes=(0,), eps=0.1)
    first = BackwardPass(((z**3).sum() + (v * v).sum(),), (x,), record=True).run()[x.node]
    (second,) = BackwardPass((first.sum() + (first * first).sum(),), (x,)).run().values()

    def total(values):
        t = DiffTensor(values, requires_grad=True)
        z, _, v = ops.standardize(t, axes=(0,), eps=0.1)
        g = BackwardPass(((z**3).sum() + (v * v).sum(),)).run()[t.node]
        return g.sum() + (g * g).sum()

    h = 1e-5
    expected = [(total(x.numpy() + h * e) - total(x.numpy() - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(second, expected, rtol=1e-7)


# ---- length and memory ----


def test_a_chain_of_200_000_operations():
    x = leaf(1.0)
    y = x
    for _ in range(200_000):
        y = y * 1.00001
    y.sum().backward()
    np.testing.assert_allclose(x.grad, [1.00001**200_000], rtol=1e-9)
    node = weakref.ref(y.node)
    del y  # freeing the chain must not recurse either
    assert node() is None


def test_a_wide_and_deep_graph_without_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = ops.sin(y) + y * 0.5  # two paths at each step
    y.sum().backward()
    assert np.isfinite(x.grad).all()


def test_chained_additions_keep_nothing():
    x = DiffTensor(np.ones(1000), requires_grad=True)
    y = x
    made = []
    for _ in range(20):
        y = y + 1.0
        made.append(weakref.ref(y.raw))
    assert BackwardPass((y,)).bytes_retained == 0
    assert sum(ref() is not None for ref in made) == 1
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones(1000))


def test_a_graph_dies_with_its_last_tensor():
    x = DiffTensor(np.ones(3), requires_grad=True)
    y = ops.exp(x) * x
    kept = weakref.ref(y.node.saved[1])
    node = weakref.ref(y.node)
    del y
    assert node() is None and kept() is None


def test_no_reference_cycles():
    def step():
        x, w = DiffTensor(np.ones((3, 4)), requires_grad=True), DiffTensor(np.ones((4, 2)), requires_grad=True)
        h = ops.relu(x @ w)
        remove = h.register_hook(lambda g: g * 2.0)
        loss = ops.sum(h * h) + sum(p.sum() for p in ops.split(x, 2, axis=1))
        loss.backward()
        BackwardPass((loss,), (w,), record=True).run()
        remove()

    step()
    gc.collect()
    gc.disable()
    try:
        step()
        assert gc.collect() == 0
    finally:
        gc.enable()


# ---- running it twice, sharing ----


def test_backward_twice_accumulates():
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward()
    np.testing.assert_array_equal(x.grad, [6.0])
    y.backward()
    np.testing.assert_array_equal(x.grad, [12.0])
    x.grad = None
    y.backward()
    np.testing.assert_array_equal(x.grad, [6.0])


def test_shared_subexpressions_are_run_once():
    x = leaf(2.0)
    calls = []
    shared = x * x
    shared.register_hook(lambda g: calls.append(np.array(g)))
    (shared * 3.0 + shared * shared + shared).sum().backward()
    assert len(calls) == 1
    np.testing.assert_array_equal(calls[0], [3.0 + 8.0 + 1.0])
    np.testing.assert_array_equal(x.grad, [48.0])


def test_gradients_of_two_inputs_share_no_writable_memory():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = np.array([5.0, 6.0])
    (x + y).backward(seed)
    assert not x.grad.flags.writeable and not y.grad.flags.writeable
    assert seed.flags.writeable, "the caller's array must not be frozen"
    seed[:] = -1.0
    np.testing.assert_array_equal(x.grad, [5.0, 6.0])
    np.testing.assert_array_equal(y.grad, [5.0, 6.0])
    (x + y).backward(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, [6.0, 7.0])
    np.testing.assert_array_equal(y.grad, [6.0, 7.0])


def test_results_of_a_pass_do_not_change_each_other():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    found = BackwardPass(((x + y) + x,)).run((np.ones(2),))
    a, b = found[x.node], found[y.node]
    a = np.array(a)
    a += 100.0
    np.testing.assert_array_equal(b, [1.0, 1.0])
    np.testing.assert_array_equal(found[x.node], [2.0, 2.0])


# ---- hooks ----


def test_hooks_see_and_change_gradients():
    x = leaf(1.0, 2.0)
    y = x * 3.0
    seen = []
    remove_first = y.register_hook(lambda g: seen.append(np.array(g)))
    y.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    y.sum().backward()
    np.testing.assert_array_equal(seen[0], [1.0, 1.0])
    np.testing.assert_array_equal(x.grad, [31.0, 31.0])
    remove_first()
    remove_first()  # a second time does nothing
    y.sum().backward()
    assert len(seen) == 1


def test_a_hook_must_keep_the_shape():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"hook turned a gradient of shape \(2,\) into one of shape \(\)"):
        (x * 2.0).sum().backward()


def test_a_hook_needs_a_tracked_tensor():
    with pytest.raises(ValueError, match="not tracked"):
        DiffTensor([1.0]).register_hook(print)


def test_hooks_survive_an_update_of_their_leaf():
    x = leaf(1.0)
    seen = []
    x.register_hook(seen.append)
    x.add_(np.array([1.0]))
    (x * 2.0).sum().backward()
    assert len(seen) == 1


# ---- changing arrays after they were used ----


def test_a_stale_leaf_is_an_error():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.add_(np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="changed in place after"):
        y.backward()
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [4.0, 6.0])


def test_assigning_data_makes_graphs_stale_too():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.data = [5.0, 6.0]
    with pytest.raises(ValueError, match="changed in place after"):
        y.backward()
    with pytest.raises(ValueError, match="shape"):
        x.data = [1.0, 2.0, 3.0]


def test_only_leaves_change_in_place():
    with pytest.raises(ValueError, match="only a leaf"):
        (leaf(1.0) * 2.0).add_(1.0)


def test_values_and_gradients_are_read_only():
    x = leaf(1.0, 2.0)
    y = x * x
    y.sum().backward()
    for array in (x.data, x.numpy(), y.data, y.numpy(), x.grad):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9.0


def test_assignment_says_what_to_write_instead():
    with pytest.raises(TypeError, match=r"t\.at\[index\]\.set\(value\)"):
        leaf(1.0, 2.0)[0] = 3.0


@pytest.mark.parametrize(
    "fn",
    [
        lambda t, a: t * a,
        lambda t, a: a * t,
        lambda t, a: t @ a,
        lambda t, a: ops.where(t > 0, t * a, t),
        lambda t, a: ops.linear(t, np.ones((2, 2)), a),
    ],
)
def test_arrays_passed_in_may_change_afterwards(fn):
    values, a = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    x = DiffTensor(values, requires_grad=True)
    y = ops.sum(fn(x, a))
    expected = BackwardPass((y,)).run()[x.node]
    values[:] = a[:] = 1e9
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])
    y.backward()
    np.testing.assert_array_equal(x.grad, expected)


def test_an_index_may_change_afterwards():
    x, places = leaf(1.0, 2.0, 3.0), np.array([0, 0])
    y = x[places].sum() + ops.take(x, places).sum()
    places[:] = 2
    y.backward()
    np.testing.assert_array_equal(x.grad, [4.0, 0.0, 0.0])


# ---- cotangents ----


def test_a_scalar_needs_no_cotangent_and_an_array_does():
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"shape \(2,\); pass a gradient of that shape"):
        (x * x).backward()
    with pytest.raises(ValueError, match=r"shape \(3,\), the output \(2,\)"):
        (x * x).backward(np.ones(3))
    (x * x).backward([1.0, 0.5])
    np.testing.assert_array_equal(x.grad, [2.0, 2.0])


def test_a_cotangent_takes_the_outputs_dtype():
    x = DiffTensor(np.ones(2, np.float32), requires_grad=True)
    (x * x).backward(np.array([1.0, 2.0]))
    assert x.grad.dtype == np.float32


def test_a_cotangent_may_be_a_tensor():
    x = leaf(1.0, 2.0)
    (x * x).backward(DiffTensor([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])


def test_nothing_to_differentiate_is_an_error():
    for y in (DiffTensor(2.0) * 3.0, leaf(1.0).detach().sum(), ops.argmax(leaf(1.0, 2.0))):
        with pytest.raises(ValueError, match="does not depend on anything tracked"):
            y.backward()
    x = leaf(1.0)
    with no_grad():
        y = (x * x).sum()
    with pytest.raises(ValueError, match="no_grad"):
        y.backward()


def test_the_gradient_of_a_complex_leaf_of_a_real_function_is_complex():
    z = DiffTensor(np.array([1.0 + 2.0j]), requires_grad=True)
    ops.sum(ops.abs(z) ** 2).backward()
    np.testing.assert_allclose(z.grad, [2.0 - 4.0j])  # ∂f/∂x - i ∂f/∂y


def test_a_real_leaf_of_a_complex_function_gets_a_real_gradient():
    x = leaf(1.0, 2.0)
    ops.sum(ops.real(x * (2.0 + 3.0j))).backward()
    assert x.grad.dtype == np.float64
    np.testing.assert_allclose(x.grad, [2.0, 2.0])


def test_gradients_from_a_pass_and_from_transforms_can_be_written_to():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = np.ones(2)
    found = BackwardPass((x + y,)).run((seed,))
    found[x.node] *= 5.0
    np.testing.assert_array_equal(found[y.node], [1.0, 1.0])
    np.testing.assert_array_equal(seed, [1.0, 1.0])
    big = grad(lambda x: ops.sum(x))(np.ones(50_000))  # a broadcast number inside
    big[0] = 5.0
    assert big[1] == 1.0
    a, b = vjp(lambda x, y: x[0] + y, np.ones((1, 3)), np.ones(3))[1](np.ones(3))
    a += 1.0
    np.testing.assert_array_equal(b, np.ones(3))
