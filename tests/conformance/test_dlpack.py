"""DLPack in and out: memory is shared both ways, tracked tensors are refused, and nothing of another owner is written to."""

from typing import Any

import numpy as np
import pytest

import autograd.array_api as xp
from autograd import DiffTensor, grad, ops, optim, vmap


def aligned(values: Any, dtype: Any = np.float32) -> np.ndarray:
    """An array that begins at a multiple of 64 bytes: JAX copies others."""
    values = np.asarray(values, dtype)
    memory = np.empty(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    out = memory[start : start + values.nbytes].view(dtype).reshape(values.shape)
    out[...] = values
    return out


def address(x: Any) -> int:
    if type(x) is DiffTensor:
        x = x.raw
    if isinstance(x, np.ndarray):
        return x.ctypes.data
    return x.data_ptr() if hasattr(x, "data_ptr") else x.unsafe_buffer_pointer()


class Old:
    """An exporter's consumer that speaks DLPack as it was before version 1.0, as JAX does."""

    def __init__(self, x: Any):
        self.x = x

    def __dlpack__(self, **_: Any) -> Any:
        return self.x.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


# ---- NumPy ----


def test_numpy_both_ways() -> None:
    array = np.arange(6.0).reshape(2, 3)
    t = xp.from_dlpack(array)
    assert address(t) == address(array) and t.node is None and t.__dlpack_device__() == (1, 0)
    back = np.from_dlpack(t)
    assert address(back) == address(array) and not back.flags.writeable
    assert address(xp.from_dlpack(array, copy=True)) != address(array)
    assert address(np.from_dlpack(t, copy=True)) != address(array)
    assert address(np.from_dlpack(t, copy=False)) == address(array)
    assert address(xp.from_dlpack(array[:, ::2], copy=False)) == address(array), "strides are kept"
    assert address(np.from_dlpack(Old(DiffTensor(array, copy=False)))) == address(array)
    assert address(xp.from_dlpack(array, device="cpu", copy=False)) == address(array)


def test_a_read_only_array_goes_to_old_consumers_as_a_copy() -> None:
    t = xp.from_dlpack(np.arange(3.0))  # what came in by DLPack is read-only here
    out = np.from_dlpack(Old(t))
    assert out.tolist() == [0.0, 1.0, 2.0] and address(out) != address(t)
    with pytest.raises(BufferError):
        t.__dlpack__(copy=False)


def test_numbers() -> None:
    t = xp.asarray(1.5)
    assert np.from_dlpack(t).shape == () and np.from_dlpack(t) == 1.5
    assert xp.from_dlpack(np.array(2.5)).raw == np.float64(2.5) and xp.from_dlpack(t) is t
    with pytest.raises(BufferError, match="number"):
        t.__dlpack__(copy=False)
    with pytest.raises(BufferError, match="kept as a number"):
        xp.from_dlpack(np.array(2.5), copy=False)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "complex64", "complex128"])
def test_dtypes(dtype: str) -> None:
    array = np.ones(2, dtype)
    assert xp.from_dlpack(array).dtype == dtype and np.from_dlpack(xp.from_dlpack(array)).dtype == dtype


def test_what_cannot_be_shared_says_so() -> None:
    tracked = DiffTensor([1.0], requires_grad=True)
    for t in (tracked, tracked * 2.0):
        with pytest.raises(BufferError, match=r"lose its gradient; write .detach\(\)"):
            np.from_dlpack(t)
    assert np.from_dlpack(tracked.detach())[0] == 1.0
    with pytest.raises(TypeError, match="symbolic tensor has no value"):
        np.from_dlpack(DiffTensor.symbol((2,)))
    with pytest.raises(TypeError, match="inside vmap: the value differs"):
        vmap(lambda x: xp.asarray(np.from_dlpack(x)))(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"__dlpack__, not list; use asarray\(\)"):
        xp.from_dlpack([1.0])
    shared = vmap(lambda x, y: x * np.from_dlpack(y), in_axes=(0, None))(np.ones((2, 3)), DiffTensor(np.arange(3.0)))
    np.testing.assert_array_equal(np.asarray(shared), [[0.0, 1.0, 2.0]] * 2)


def test_a_tensor_comes_in_as_asarray_takes_it() -> None:
    np.testing.assert_array_equal(grad(lambda x: ops.sum(xp.from_dlpack(x) ** 2))(np.array([3.0])), [6.0])


def test_an_optimizer_does_not_write_to_memory_of_others() -> None:
    array = np.ones(3)
    w = xp.from_dlpack(array)
    w.requires_grad = True
    optimizer = optim.SGD([w], lr=0.5)
    for _ in range(2):
        ops.sum(w * w).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert array.tolist() == [1.0, 1.0, 1.0] and w.tolist() == [0.0, 0.0, 0.0]


def test_large_parameters_too() -> None:
    array = np.ones((300, 300))  # more than a tile
    w = xp.from_dlpack(array)
    w.requires_grad = True
    optimizer = optim.Adam([w], lr=0.5)
    ops.sum(w * w).backward()
    optimizer.step()
    assert (array == 1.0).all() and (w.numpy() < 1.0).all()


# ---- PyTorch and JAX ----


@pytest.mark.peers
def test_torch_both_ways() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    t = xp.from_dlpack(theirs)
    assert address(t) == address(theirs) and t.shape == (2, 3)
    theirs[0, 0] = 7.0
    assert t[0, 0].item() == 7.0
    ours = DiffTensor([1.0, 2.0])
    out = torch.from_dlpack(ours)
    assert address(out) == address(ours) and out.tolist() == [1.0, 2.0]
    assert address(torch.from_dlpack(t)) == address(theirs)
    assert torch.from_dlpack(xp.asarray(2.5)).item() == 2.5
    for name in ("bool", "int32", "float16", "complex64"):
        there = torch.ones(2, dtype=getattr(torch, name))
        assert torch.from_dlpack(xp.from_dlpack(there)).dtype == there.dtype
    with pytest.raises(BufferError, match="detach"):
        xp.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(BufferError, match="lose its gradient"):
        torch.from_dlpack(DiffTensor([1.0], requires_grad=True))
    with pytest.raises(RuntimeError, match="dtype"):
        xp.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    assert xp.from_dlpack(torch.ones(2, dtype=torch.bfloat16).float()).dtype == xp.float32


@pytest.mark.peers
def test_jax_both_ways() -> None:
    jnp = pytest.importorskip("jax.numpy")
    theirs = jnp.arange(6.0).reshape(2, 3)
    t = xp.from_dlpack(theirs)
    assert (
        address(t) == address(theirs) and t.dtype == theirs.dtype
    )  # JAX counts in float32, or in float64 if it was told to
    array = aligned([1.0, 2.0, 3.0])
    out = jnp.from_dlpack(DiffTensor(array, copy=False))
    assert address(out) == address(array) and out.tolist() == [1.0, 2.0, 3.0]
    assert jnp.from_dlpack(t).tolist() == theirs.tolist()  # read-only memory, which JAX cannot be told of: a copy
    assert jnp.from_dlpack(xp.asarray(2.5, dtype=xp.float32)) == 2.5
    for name in ("bool", "int8", "complex64"):
        there = jnp.ones(2, getattr(jnp, name if name != "bool" else "bool_"))
        assert jnp.from_dlpack(xp.from_dlpack(there)).dtype == there.dtype
    with pytest.raises(BufferError, match="lose its gradient"):
        jnp.from_dlpack(DiffTensor([1.0], requires_grad=True))


@pytest.mark.peers
def test_arrays_of_others_are_not_taken_silently() -> None:
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    t = DiffTensor([1.0, 2.0])
    for theirs, name in ((torch.ones(2), "torch"), (jnp.ones(2), "jax")):
        for call in (DiffTensor, xp.asarray, lambda x: DiffTensor([1.0]).__setattr__("data", x)):
            with pytest.raises(
                TypeError, match=rf"array of {name}.*autograd.array_api.from_dlpack\(x\).*numpy.asarray"
            ):
                call(theirs)
        with pytest.raises(TypeError, match="from_dlpack"):
            t * theirs
        with pytest.raises(TypeError, match="from_dlpack"):
            xp.sin(theirs)
