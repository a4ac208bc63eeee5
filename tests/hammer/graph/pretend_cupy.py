"""A pretend GPU: a module that stands in for CuPy, whose kernels a C++ compiler makes for the CPU (``cuda_on_cpu.h``).

It is as strict as CuPy where plans could go wrong: arrays of the host do not mix with its own, new memory holds no zeros, a kernel takes
arrays of its own only, and while a stream is captured nothing runs and no memory is to be had.
"""

import ctypes
import functools
import hashlib
import pathlib
import re
import shutil
import subprocess
import types
import typing

import numpy as np
import scipy.special

HEADER = pathlib.Path(__file__).with_name("cuda_on_cpu.h")
FAULTS = (
    "",
    "threads wait for others that never come to the barrier",
    "a shuffle of a part of a warp",
    "a block that is no multiple of a warp",
)
COMPILER = shutil.which("c++") or shutil.which("g++")


class ndarray(np.ndarray):
    """An array of the pretend GPU."""

    device = property(lambda self: Device(0))

    def get(self):
        return np.array(self).view(np.ndarray)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **given):
        given |= {"out": tuple(_plain(o) for o in out)} if out is not None else {}
        if ufunc is np.matmul and out is not None and _capturing():
            if any(x.ndim > 2 or not (x.flags.c_contiguous or x.flags.f_contiguous) for x in inputs):
                raise RuntimeError("memory is allocated while a stream is captured")
            _now.recording.append(functools.partial(np.matmul, *map(_plain, inputs), **given))
            return out[0]
        _running()
        made = getattr(ufunc, method)(*map(_plain, inputs), **given)
        return out[0] if out is not None else _ours(made)

    def __array_function__(self, function, classes, args, given):
        _running()
        return _ours(super().__array_function__(function, classes, args, given))

    def __setitem__(self, key, value):
        _running()
        self.view(np.ndarray)[key] = _plain(value)

    def copy(self, order="C"):
        _running()
        return _ours(self.view(np.ndarray).copy(order))


ndarray.__module__ = "cupy"


def _plain(x):
    if type(x) is np.ndarray and x.ndim:
        raise TypeError(f"Unsupported type {type(x)}")
    return x.view(np.ndarray) if isinstance(x, ndarray) else x


def _ours(x):
    if isinstance(x, (list, tuple)):
        return getattr(x, "_make", type(x))(list(map(_ours, x)))
    return np.asarray(x).view(ndarray) if isinstance(x, (np.ndarray, np.generic)) else x


# ---- devices and streams ----


class Device:
    def __init__(self, id=0):
        self.id = id

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Stream:
    def __init__(self, non_blocking=False):
        self.recording = None

    def __enter__(self):
        global _now
        self.before, _now = _now, self
        return self

    def __exit__(self, *_):
        global _now
        _now = self.before

    def synchronize(self):
        _running()

    def begin_capture(self):
        self.recording = []

    def end_capture(self):
        made, self.recording = self.recording, None
        return types.SimpleNamespace(launch=lambda stream: [run() for run in made])


_now = Stream()


def _capturing():
    return _now.recording is not None


def _running():
    if _capturing():
        raise RuntimeError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")


# ---- kernels ----


class RawModule:
    """CUDA C, compiled for the CPU. Functions are known by their names, which tell their text: what ``build`` has made is there.

    ``backwards``: whether the last threads and blocks run first: results may not depend on it.
    """

    folder: pathlib.Path
    built: typing.ClassVar[dict] = {}
    backwards = 0

    def __init__(self, *, code, options):
        assert not any("fast" in option for option in options)
        build([code])

    def get_function(self, name):
        function = self.built[name]

        def launch(grid, block, arrays):
            for a in arrays:
                if not isinstance(a, ndarray) or not a.flags.c_contiguous:
                    raise TypeError("a kernel takes arrays of the device, in C order")
            pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
            (width,), (x, y) = block, grid

            def run(kept=arrays):
                fault = function(pointers, x, y, width, RawModule.backwards)
                if fault:
                    raise RuntimeError(f"{name}: {FAULTS[fault]}")

            _now.recording.append(run) if _capturing() else run()

        return launch


def build(codes):
    """Compile the kernels of several programs together, which is quicker than one by one."""
    kernels = {}
    for code in codes:
        prelude, *found = code.split('extern "C" __global__')
        for text in found:
            name = re.match(r" void __launch_bounds__\(\d+\) (\w+)\(", text)[1]
            if name not in RawModule.built:
                kernels[name] = f'extern "C" __global__{text}'
    if not kernels:
        return
    runs = [
        f'extern "C" int run_{n}(void** a, unsigned x, unsigned y, unsigned b, int o) {{ return launch({n}, a, x, y, b, o); }}'
        for n in kernels
    ]
    text = "\n".join([f'#include "{HEADER}"', prelude, *kernels.values(), *runs])
    made = RawModule.folder / f"{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.so"
    source = made.with_suffix(".cpp")
    source.write_text(text)
    options = [
        "-std=c++17",
        "-O0",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wno-unused-function",
        "-Wno-unused-variable",
        "-Werror",
    ]
    subprocess.run([COMPILER, *options, "-o", str(made), str(source)], check=True)
    library = ctypes.CDLL(str(made))
    RawModule.built |= {name: library[f"run_{name}"] for name in kernels}


# ---- the module ----


def empty(shape, dtype=float):
    _running()
    made = np.empty(shape, dtype)
    made.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN, or true, or -1
    return made.view(ndarray)


def asarray(value, dtype=None, copy=None):
    if isinstance(value, ndarray) and dtype in (None, value.dtype):
        return value
    _running()
    return _ours(np.array(value, dtype))


def ascontiguousarray(value):
    if value.flags.c_contiguous:
        return value
    return value.copy()


class Library(types.ModuleType):
    """A library of NumPy's kind whose functions return arrays of the device."""

    def __init__(self, name, home, **own):
        super().__init__(name)
        self.home = home
        self.__dict__.update(own)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.home, name)
        if isinstance(found, type) or not callable(found):
            return Library(found.__name__, found) if isinstance(found, types.ModuleType) else found

        def function(*args, device=None, **given):
            _running()
            return _ours(found(*args, **given))

        return function


def modules(folder):
    """What is to be at ``sys.modules``, by name; kernels are built in a folder."""
    RawModule.folder = folder
    cuda = types.SimpleNamespace(
        Device=Device, Stream=Stream, get_current_stream=lambda: _now, is_available=lambda: True
    )
    tricks = types.SimpleNamespace(as_strided=functools.partial(np.lib.stride_tricks.as_strided, subok=True))
    cupy = Library(
        "cupy", np, ndarray=ndarray, empty=empty, asarray=asarray, ascontiguousarray=ascontiguousarray, RawModule=RawModule, cuda=cuda,
        lib=types.SimpleNamespace(stride_tricks=tricks), matmul=np.matmul,
    )  # fmt: skip
    return {
        "cupy": cupy, "cupyx": types.ModuleType("cupyx"), "cupyx.scipy": types.ModuleType("cupyx.scipy"),
        "cupyx.scipy.special": Library("cupyx.scipy.special", scipy.special),
    }  # fmt: skip
