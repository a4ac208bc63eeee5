"""``CudaPlan``: a graph made ready to run on a GPU through CuPy. It is called as ``hammer.graph.execute.Plan`` is.

Everything is launched on the stream that is current in CuPy, and nothing waits for it. Indices are not compared with their bounds, as
eager code on a GPU does not: reading them would wait. They are brought within bounds, so no memory is read that is not an array's.
"""

import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autograd import backend

from ..graph import UniversalGraph
from ..ir import GraphError
from ..native.lazy import Term
from ..native.lowering import Call
from ..native.views import contiguous, strided
from .memory import Offset
from .program import Launch, Program, program

OPTIONS = ("--std=c++17",)
"""For NVRTC. Fast-math is none of them."""


class CudaPlan:
    """A graph as CUDA kernels.

    Args:
        graph: of known sizes.
        array_class: ``cupy.ndarray``.
        writes: outputs that are to be written into the array of an input: output number -> input number (inputs and
            parameters in their order).
        capture: whether runs are replays of a CUDA graph, captured in the first run, where all steps are kernels or products of
            matrices; inputs are copied into its memory and outputs out of it, which pays for many small steps. None: as the
            environment variable ``HAMMER_CUDA_GRAPHS`` says (1 or 0, the default).

    Attributes:
        source: the program, in CUDA C.
        peak: bytes of its arena on each device; ``bound`` is the most that are alive at one step.

    Raises:
        Unlowered: the graph has dtypes that no programs are generated for.
    """

    def __init__(
        self,
        graph: UniversalGraph,
        array_class: type,
        writes: Mapping[int, int] | None = None,
        capture: bool | None = None,
    ):
        self.graph, self.writes = graph, dict(writes or {})
        self.program = program(graph, self.writes)
        self.source, self.peak, self.bound = self.program.source, self.program.memory.arena, self.program.memory.bound
        self._class, self._cupy = array_class, backend.namespace(array_class)
        wanted = os.environ.get("HAMMER_CUDA_GRAPHS", "0") == "1" if capture is None else capture
        self._capture = wanted and all(_capturable(s, self.program) for s in self.program.steps)
        self._inputs = (*graph.inputs, *graph.parameter_nodes.values())
        self._loaded: dict[int, _Loaded] = {}
        self._lock = threading.Lock()

    def __call__(self, values: Sequence[Any]) -> tuple:
        """The outputs, as raw arrays, of raw arrays for the inputs and the parameters, which have their shapes and dtypes.

        Raises:
            GraphError: an array of another library among them (numbers may be NumPy's), or arrays on several devices.
        """
        device = self._device(values)
        with self._lock, self._cupy.cuda.Device(device):
            return self._on(device).run(values)

    def _on(self, device: int) -> "_Loaded":
        """The program on a device, which is the current one."""
        if device not in self._loaded:
            kind = _Captured if self._capture and hasattr(self._cupy.cuda.Stream, "begin_capture") else _Loaded
            self._loaded[device] = kind(self, self._cupy)
        return self._loaded[device]

    def _device(self, values: Sequence[Any]) -> int:
        devices: dict[int, str] = {}
        for v, node in zip(values, self._inputs, strict=True):
            if isinstance(v, self._class):
                devices[v.device.id] = node.name
            elif np.ndim(v):
                raise GraphError(
                    f"{self.graph.name}: the input {node.name!r} is an array of {type(v).__module__}, others are CuPy's; "
                    'bring it to the GPU first, by .to("cuda") or cupy.asarray(x)'
                )
        if len(devices) > 1:
            raise GraphError(f"{self.graph.name}: inputs are on several devices: {devices}; bring them to one")
        return next(iter(devices)) if devices else int(self._cupy.cuda.Device().id)

    def steps(self, values: Sequence[Any]) -> list[Any]:
        """The steps of a run on these values, each to be run alone (see ``hammer.graph.profile``); each waits for the device."""
        from ..profile import PlanStep

        cupy = self._cupy
        device = self._device(values)

        def there(run: Callable[[], Any]) -> None:
            with cupy.cuda.Device(device):
                run()
                cupy.cuda.get_current_stream().synchronize()

        with cupy.cuda.Device(device):
            loaded = _Loaded(self, cupy)
            arrays = loaded.begin(values)
        found = []
        for step, run in zip(self.program.steps, loaded.steps, strict=True):
            found.append(PlanStep(_label(step), (), functools.partial(there, functools.partial(run, arrays))))
        return [*found, PlanStep("results", (), functools.partial(there, lambda: loaded.end(values, arrays)))]


class _Loaded:
    """A program on one device: compiled, with memory."""

    def __init__(self, plan: CudaPlan, cupy: Any):
        self.cupy, self.plan, self.program = cupy, plan, plan.program
        self.functions: dict[str, Any] = {}
        if self.program.names:
            module = cupy.RawModule(code=plan.source, options=OPTIONS)
            self.functions = {name: module.get_function(name) for name in self.program.names}
        self.arena = cupy.empty(max(1, plan.peak), np.uint8)
        self.constants = [cupy.asarray(x) for x in self.program.lowered.constants.values()]
        self.steps = [self._launch(s) if isinstance(s, Launch) else self._call(s) for s in self.program.steps]
        self.stream: Any = None  # that of the last run, whose arena another one may not write

    def run(self, values: Sequence[Any]) -> tuple:
        stream = self.cupy.cuda.get_current_stream()
        if self.stream is not None and self.stream != stream:
            self.stream.synchronize()
        self.stream = stream
        arrays = self.begin(values)
        for step in self.steps:
            step(arrays)
        return self.end(values, arrays)

    def begin(self, values: Sequence[Any]) -> list[Any]:
        """The arrays by their slots."""
        cupy, memory = self.cupy, self.program.memory
        arrays: list[Any] = [
            cupy.ascontiguousarray(cupy.asarray(v)).reshape(n.shape)
            for v, n in zip(values, self.plan._inputs, strict=True)
        ]
        arrays += self.constants
        for i, t in enumerate(self.program.schedule.outputs):
            fresh = memory.places[t].index == memory.outputs + i
            arrays.append(cupy.empty(t.shape, t.dtype) if fresh else None)
        arrays += [None] * (memory.slots - len(arrays))
        return arrays

    def end(self, values: Sequence[Any], arrays: list[Any]) -> tuple:
        """The results; those that belong into an input's array are there."""
        memory, found = self.program.memory, []
        for i, (t, node) in enumerate(zip(self.program.schedule.outputs, self.plan.graph.outputs, strict=True)):
            index = memory.places[t].index
            array = arrays[index]
            if i in memory.donated:
                found.append(array)
                continue
            found.append((array if index == memory.outputs + i else array.copy()).reshape(node.shape))
        for i, source in self.plan.writes.items():
            target = values[source]
            if i not in memory.donated or not self.cupy.may_share_memory(found[i], target):
                target[...] = found[i].reshape(target.shape)
            found[i] = target
        return tuple(found)

    # ---- steps, as functions of the arrays ----

    def _launch(self, launch: Launch) -> Callable[[list[Any]], None]:
        function, grid, block = self.functions[launch.name], launch.kernel.grid, (launch.kernel.block,)
        given = [self.arena[p.bytes :] if isinstance(p, Offset) else p.index for p in launch.places]
        if not any(isinstance(g, int) for g in given):
            return lambda arrays: function(grid, block, tuple(given))
        return lambda arrays: function(grid, block, tuple([arrays[g] if type(g) is int else g for g in given]))

    def _call(self, call: Call) -> Callable[[list[Any]], None]:
        readers = [self._view(x) for x in call.args]
        if call.kind == "gemm":
            (out,) = (self._view(t) for t in call.outputs)
            matmul = self.cupy.matmul

            def product(arrays: list[Any]) -> None:
                a, b = (read(arrays) for read in readers)
                matmul(a, b, out=out(arrays))

            return product
        node = call.node
        assert node is not None, call.kind
        kernel, attributes = node.row.kernels[self.plan._class], dict(node.attributes)
        variadic, several = node.row.variadic, node.several
        places = self.program.memory.places
        targets = [(t, places[t], self._view(t)) for t in call.outputs]
        # from here on, slots are of what kernels make
        ours = self.program.memory.outputs + len(self.program.schedule.outputs)

        def run(arrays: list[Any]) -> None:
            given = [read(arrays) for read in readers]
            made = kernel(given, **attributes) if variadic else kernel(*given, **attributes)
            for value, (t, place, view) in zip(made if several else [made], targets, strict=True):
                if isinstance(place, Offset) or place.index < ours:
                    view(arrays)[...] = value.reshape(t.shape)
                    continue
                array = self.cupy.ascontiguousarray(self.cupy.asarray(value, dtype=t.dtype))
                if array.base is not None or any(array is x for x in given):
                    array = array.copy()  # out of memory that will be used for something else
                arrays[place.index] = array.reshape(t.shape)

        return run

    def _view(self, x: Term) -> Callable[[list[Any]], Any]:
        """A function that finds a term as an array, which is a view of what is in memory."""
        base, offset, strides = strided(x, self.program.stored)
        place, item, shape = self.program.memory.places[base], base.dtype.itemsize, x.shape
        as_strided = self.cupy.lib.stride_tricks.as_strided
        plain = not offset and strides == contiguous(shape) and x.size == base.size
        steps = tuple(s * item for s in strides)

        def cut(array: Any) -> Any:
            return array.reshape(shape) if plain or not x.size else as_strided(array.reshape(-1)[offset:], shape, steps)

        if isinstance(place, Offset):
            view = cut(self.arena[place.bytes : place.bytes + base.nbytes].view(base.dtype))
            return lambda arrays: view
        index = place.index
        return lambda arrays: cut(arrays[index])


class _Captured(_Loaded):
    """A program whose runs are replays of a CUDA graph."""

    def __init__(self, plan: CudaPlan, cupy: Any):
        super().__init__(plan, cupy)
        self.graph: Any = None
        self.arrays: list[Any] = []

    def run(self, values: Sequence[Any]) -> tuple:
        cupy = self.cupy
        stream = cupy.cuda.get_current_stream()
        if self.stream is not None and self.stream != stream:
            self.stream.synchronize()
        self.stream = stream
        if self.graph is None:
            self._record(values)
        else:
            for array, value in zip(self.arrays, values, strict=False):
                array[...] = cupy.asarray(value)
        self.graph.launch(stream)
        memory, outputs = self.program.memory, self.program.schedule.outputs
        results = {memory.places[t].index for t in outputs}
        kept = [a.copy() if i in results else a for i, a in enumerate(self.arrays)]
        return self.end(values, kept)

    def _record(self, values: Sequence[Any]) -> None:
        cupy, n = self.cupy, self.program.memory.constants
        self.arrays = self.begin(values)
        self.arrays[:n] = [a.copy() for a in self.arrays[:n]]
        first = [a.copy() for a in self.arrays[:n]]
        cupy.cuda.get_current_stream().synchronize()
        with cupy.cuda.Stream(non_blocking=True) as stream:
            for step in self.steps:  # cuBLAS allocates its workspace, which it must not while it is captured
                step(self.arrays)
            for array, value in zip(self.arrays, first, strict=False):
                array[...] = value
            stream.synchronize()
            stream.begin_capture()
            for step in self.steps:
                step(self.arrays)
            self.graph = stream.end_capture()


def _capturable(step: Launch | Call, program: Program) -> bool:
    """Whether a step allocates no memory: what it did while captured would be somebody else's in a replay. CuPy copies stacks of
    matrices, and matrices with gaps between their rows."""
    if isinstance(step, Launch):
        return True
    if step.kind != "gemm" or any(x.ndim != 2 for x in step.args) or step.outputs[0].size == 1:
        return False
    for x in step.args:
        strides = strided(x, program.stored)[2]
        if strides != contiguous(x.shape) and strides[::-1] != contiguous(x.shape[::-1]):
            return False
    return True


def _label(step: Launch | Call) -> str:
    """A step in a few words."""
    if isinstance(step, Call):
        shapes = " × ".join(str(x.shape) for x in step.args)
        return f"{step.kind if step.node is None else step.node.op} {shapes}"
    made = [f"{r.term.attrs[0]} over {r.axes}" if r.axes else r.term.op for r in step.step.roots]
    return f"kernel over {step.step.frame}: {', '.join(made)}"


__all__ = ["CudaPlan", "Program"]
