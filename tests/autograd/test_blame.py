"""`wrong_ops` names the operation whose derivative is wrong, and no other."""

import numpy as np
import pytest

from autograd import custom_vjp, ops
from autograd.extend import defvjp, primitive
from autograd.table import OPS
from autograd.testing import check_grads, wrong_ops
from autograd.testing.check import NotDifferentiable, Undecided, WrongDerivative

X, Y = np.array([0.5, 0.7]), np.array([0.3, -0.4])


def primitives(factor: float):
    @primitive
    def cube(x):
        return x**3

    defvjp(cube, lambda ans, x: lambda g: g * factor * x**2)
    return cube


def customs(factor: float):
    @custom_vjp
    def twice(tree):
        return tree["a"] * tree["b"]

    def backward(tree, g):
        return ({"a": g * factor * tree["b"], "b": g * tree["a"]},)

    return twice.defvjp(lambda tree: (twice.fun(tree), tree), backward)


def test_a_primitive_with_a_wrong_rule_is_named_with_its_line_and_arrays():
    cube = primitives(2.0)
    (found,) = wrong_ops(lambda x, y: ops.sum(ops.exp(cube(x)) * ops.sin(y)), X, Y)
    assert found.name == "cube" and found.where.endswith("in <lambda>") and "test_blame.py" in found.where
    np.testing.assert_array_equal(found.inputs[0], X)
    assert "the tape gives 0.5" in found.message and "0.75" in found.message and "cube(float64(2,))" in str(found)


def test_a_custom_function_of_a_tree_is_named():
    twice = customs(1.5)
    found = wrong_ops(lambda x, y: ops.sum(twice({"a": x, "b": ops.cos(y)})), X, Y)
    assert [f.name for f in found] == ["twice"]


def test_a_wrong_row_of_the_table_is_named_wherever_it_runs(monkeypatch: pytest.MonkeyPatch):
    row = OPS["sinh"]
    monkeypatch.setattr(row, "vjps", (lambda g, _out, x: g * ops.sinh(x),))
    found = wrong_ops(lambda x: ops.sum(ops.sinh(ops.tanh(x)) * ops.sinh(x)), X)
    assert [f.name for f in found] == ["sinh", "sinh"]


def test_right_functions_have_no_wrong_operations():
    cube, twice = primitives(3.0), customs(1.0)
    fn = lambda x, y: ops.sum(cube(x) * twice({"a": x, "b": y})) + ops.max(ops.stack([x, y])) + ops.sum(abs(x - x))
    assert wrong_ops(fn, X, Y) == []
    check_grads(lambda x, y: ops.sum(cube(x) * twice({"a": x, "b": y})), X, Y)


def test_a_gradient_lost_between_operations_is_nobodys_fault():
    fn = lambda x: ops.sum(ops.sin(x)) * float(x.sum())
    with pytest.raises(WrongDerivative):
        check_grads(fn, X, order=1)
    assert wrong_ops(fn, X) == []


def test_the_three_ways_to_fail_have_classes_of_their_own():
    with pytest.raises(NotDifferentiable, match="one-sided"):
        check_grads(lambda x: ops.sum(ops.relu(x)), np.array([0.0, 1.0]))
    with pytest.raises(Undecided, match="rounding noise"):
        check_grads(lambda x: ops.softmax(x).sum(), np.array([1.0, 2.0]))
