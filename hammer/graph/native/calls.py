"""The LLVM functions of steps of their own: products of matrices, and convolutions as products with columns.

A convolution is done sample by sample: the windows of one sample are copied out as the columns of a matrix (im2col; Chellapilla et
al. 2006), which stays in the cache for the product.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import products
from .lazy import Term
from .lowering import Call
from .maths import TYPES, Code
from .nests import Kernel
from .views import contiguous

GEMM = "void (i32, i32, i32, INT, INT, INT, KIND, ptr, INT, ptr, INT, KIND, ptr, INT)"
SMALL = 60_000
"""Multiplications below which a product of matrices is not shared by threads."""


class CallCode(Code):
    """Instructions that may call BLAS: ``%f`` is the address of its product of matrices."""

    def __init__(self, kind: str, integer: str):
        super().__init__()
        self.kind, self.integer = kind, integer

    def narrow(self, x: Any) -> str:
        """An i64 as BLAS's integer."""
        if self.integer == "i64" or not str(x).startswith("%"):
            return str(x)
        return self.put(f"trunc i64 {x} to {self.integer}")

    def gemm(
        self,
        m: Any,
        n: Any,
        k: Any,
        a: tuple[str, int, bool],
        b: tuple[str, int, bool],
        c: tuple[str, int],
        more: bool = False,
    ) -> None:
        """C = A B, or C += A B with ``more``; matrices as pointer, leading dimension, and whether transposed."""
        i, kind = self.integer, self.kind
        whole = GEMM.replace("INT", i).replace("KIND", kind)
        flags = f"i32 101, i32 {112 if a[2] else 111}, i32 {112 if b[2] else 111}"
        sizes = f"{i} {self.narrow(m)}, {i} {self.narrow(n)}, {i} {self.narrow(k)}"
        scale = self.k(1.0 if more else 0.0, kind)
        self.do(
            f"call {whole} %f({flags}, {sizes}, {kind} {self.k(1.0, kind)}, ptr {a[0]}, {i} {a[1]}, ptr {b[0]}, {i} {b[1]}, "
            f"{kind} {scale}, ptr {c[0]}, {i} {c[1]})"
        )


def matrix(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, bool]:
    """Leading dimension of a matrix for BLAS, and whether it lies there transposed."""
    (m, n), (a, b) = shape[-2:], strides[-2:]
    if (b == 1 or n == 1) and (a >= n or m == 1):
        return (max(n, 1) if m == 1 else a), False
    return (max(m, 1) if n == 1 else b), True


def gemm(call: Call, views: Sequence[tuple[Any, int, tuple[int, ...]]], integer: str, threads: int) -> Kernel:
    """A product of matrices, or of stacks of them; ``views`` are the arguments as base, offset and strides."""
    (a, b), (out,) = call.args, call.outputs
    kind = TYPES[out.dtype.name]
    code = CallCode(kind, integer)
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    (lda, ta), (ldb, tb) = (matrix(x.shape, v[2]) for x, v in zip((a, b), views, strict=True))
    batch = out.shape[:-2]
    count = math.prod(batch)
    left = code.element(kind, "%a0", views[0][1])
    right = code.element(kind, "%a1", views[1][1])
    own = products.thin(kind, m, n, k, views[0][2][-2:], views[1][2][-2:])

    def make(own: products.Product, x: str, y: str, to: str, low: str, high: str) -> None:
        (ra, ca), (rb, cb) = (v[2][-2:] for v in views)
        products.write(
            code, own, products.Matrix(x, ra, ca), products.Matrix(y, rb, cb), products.Matrix(to, n, 1), low, high
        )

    def stack(p: str) -> None:
        """The product number p of the stack."""
        places, rest = [], p
        for size in reversed(batch[1:]):
            places.append(code.put(f"urem i64 {rest}, {size}"))
            rest = code.put(f"udiv i64 {rest}, {size}")
        places = [rest, *reversed(places)]
        at = [
            code.element(kind, x, code.linear([*zip(places, v[2][:-2], strict=True)]))
            for x, v in zip((left, right), views, strict=True)
        ]
        to = code.element(kind, "%a2", code.linear([(p, m * n)]))
        if own is not None:
            make(own, at[0], at[1], to, "0", str(own.units))
        else:
            code.gemm(m, n, k, (at[0], lda, ta), (at[1], ldb, tb), (to, n))

    def part(p: str, size: int, parts: int, rows: bool) -> None:
        """Rows or columns number p of ``parts``, which begin at multiples of 16."""
        step = -(-size // parts)
        step = -(-step // 16) * 16
        low = code.put(f"mul i64 {p}, {step}")
        high = code.put(f"call i64 @llvm.smin.i64(i64 {code.put(f'add i64 {low}, {step}')}, i64 {size})")
        length = code.put(f"call i64 @llvm.smax.i64(i64 {code.put(f'sub i64 {high}, {low}')}, i64 0)")
        some = code.put(f"icmp sgt i64 {length}, 0")
        code.labels += 1
        name = code.labels
        code.do(f"br i1 {some}, label %some{name}, label %none{name}")
        code.label(f"some{name}")
        if rows:
            x = code.element(kind, left, code.linear([(low, 1 if ta else lda)]))
            code.gemm(
                length, n, k, (x, lda, ta), (right, ldb, tb), (code.element(kind, "%a2", code.linear([(low, n)])), n)
            )
        else:
            x = code.element(kind, right, code.linear([(low, ldb if tb else 1)]))
            code.gemm(m, length, k, (left, lda, ta), (x, ldb, tb), (code.element(kind, "%a2", low), n))
        code.do(f"br label %none{name}")
        code.label(f"none{name}")

    work = count * m * n * k
    if count > 1:
        code.loop("%lo", "%hi", stack)
        units = count
    elif own is not None:
        make(own, left, right, "%a2", "%lo", "%hi")
        units = own.units
    elif work < SMALL or threads == 1:
        code.gemm(m, n, k, (left, lda, ta), (right, ldb, tb), ("%a2", n))
        units = 1
    else:
        rows = m >= n
        code.loop("%lo", "%hi", lambda p: part(p, m if rows else n, threads, rows))
        units = threads
    blas = [] if own is not None else ["ptr %f"]
    text = code.function("NAME", ["ptr %a0", "ptr %a1", "ptr %a2", *blas, "i64 %lo", "i64 %hi"])
    return Kernel(text, [views[0][0], views[1][0], out], 0, units, work / 2, 1)


# ---- scans ----


def scan(call: Call, views: Sequence[tuple[Any, int, tuple[int, ...]]]) -> Kernel:
    """y[k] = a[k] y[k-1] + b[k] along an axis: step by step, a row of the axes behind it at a time."""
    (out,) = call.outputs
    axis, reverse = call.given
    shape, kind = out.shape, TYPES[out.dtype.name]
    code = Code()
    strides = [v[2] for v in views] + [contiguous(shape)]
    offsets = [v[1] for v in views] + [0]
    length, outer, inner = shape[axis], list(range(axis)), list(range(axis + 1, len(shape)))
    shared = next((a for a in outer + inner if shape[a] > 1), None)  # the axis whose parts threads share
    var: dict[int, str] = {}

    def nest(axes: list[int], body: Callable[[], None]) -> None:
        if not axes:
            body()
            return

        def inside(x: str) -> None:
            var[axes[0]] = x
            nest(axes[1:], body)

        low, high = ("%lo", "%hi") if axes[0] == shared else (0, shape[axes[0]])
        code.loop(low, high, inside)

    def at(i: int, k: str, back: int = 0) -> str:
        terms = [*((var[a], strides[i][a]) for a in outer + inner), (k, strides[i][axis])]
        return code.element(kind, f"%a{i}", code.linear(terms, offsets[i] + back * strides[i][axis]))

    def first() -> None:
        k = str(length - 1 if reverse else 0)
        code.do(f"store {kind} {code.put(f'load {kind}, ptr {at(1, k)}')}, ptr {at(2, k)}")

    def step(k: str) -> None:
        if reverse:
            k = code.put(f"sub nsw i64 {length - 1}, {k}")

        def element() -> None:
            before = code.put(f"load {kind}, ptr {at(2, k, 1 if reverse else -1)}")
            product = code.put(f"fmul {kind} {code.put(f'load {kind}, ptr {at(0, k)}')}, {before}")
            value = code.put(f"fadd {kind} {product}, {code.put(f'load {kind}, ptr {at(1, k)}')}")
            code.do(f"store {kind} {value}, ptr {at(2, k)}")

        nest(inner, element)

    def work() -> None:
        nest(inner, first)
        code.loop(1, length, step)

    nest(outer, work)
    arguments = ["ptr noalias %a0", "ptr noalias %a1", "ptr noalias %a2", "i64 %lo", "i64 %hi"]
    units = 1 if shared is None else shape[shared]
    grain = 16 if shared in inner else 1
    return Kernel(code.function("NAME", arguments), [views[0][0], views[1][0], out], 0, units, 2 * out.size, grain)


# ---- convolutions ----


class _Conv(CallCode):
    """The pieces of a convolution over images of one sample: (C, H, W) and columns (C KH KW, OH OW).

    With padding, an image is copied into one with a border of zeros first. So all places of a window are alike, and there is one
    loop for them.
    """

    def __init__(self, call: Call, integer: str):
        super().__init__(TYPES[call.outputs[0].dtype.name], integer)
        fit, whole, weight = call.given
        self.fit = fit
        self.samples, self.channels, *size = whole
        self.size, self.out_channels = tuple(size), weight[0]
        self.kernel, self.out, self.padded = tuple(fit.kernel), tuple(fit.out), tuple(fit.padded)
        self.places = math.prod(self.out)
        self.depth = self.channels * math.prod(self.kernel)
        self.image = math.prod(whole[1:])
        self.item = call.outputs[0].dtype.itemsize
        self.plain = self.kernel == (1, 1) and self.out == self.size
        self.bordered = self.channels * math.prod(self.padded) if fit.is_padded else 0
        self.scratch = 0 if self.plain else (self.depth * self.places + self.bordered) * self.item

    @property
    def arguments(self) -> list[str]:
        return [*(["ptr noalias %scratch"] * bool(self.scratch)), "ptr %f", "i64 %lo", "i64 %hi"]

    @property
    def border(self) -> str:
        """The image with its border, behind the columns."""
        return self.element(self.kind, "%scratch", self.depth * self.places)

    def windows(self, body: Callable[[str, str], None]) -> None:
        """``body(index in the columns, index in the image with its border)`` for each element of each window."""
        taps = math.prod(self.kernel)
        height, width = self.padded
        (sh, sw), (dh, dw), (kh, kw), (oh, ow) = self.fit.stride, self.fit.dilation, self.kernel, self.out

        def line(c: str, i: str, j: str, y: str) -> None:
            row = self.linear([(c, taps * self.places), (i, kw * self.places), (j, self.places), (y, ow)])
            start = self.linear([(c, height * width), (i, dh * width), (j, dw), (y, sh * width)])
            self.loop(0, ow, lambda x: body(self.linear([(row, 1), (x, 1)]), self.linear([(start, 1), (x, sw)])))

        self.loop(0, self.channels, lambda c: self.loop(0, kh, lambda i: self.loop(0, kw, lambda j: self.loop(0, oh, lambda y: line(c, i, j, y)))))  # fmt: skip

    def inside(self, body: Callable[[str, str], None]) -> None:
        """``body(index in the image, index in the one with a border)`` for each element."""
        (height, width), (bordered, wide), (top, left) = self.size, self.padded, self.fit.low

        def line(c: str, y: str) -> None:
            row = self.linear([(c, height * width), (y, width)])
            start = self.linear([(c, bordered * wide), (y, wide)], top * wide + left)
            self.loop(0, width, lambda x: body(self.linear([(row, 1), (x, 1)]), self.linear([(start, 1), (x, 1)])))

        self.loop(0, self.channels, lambda c: self.loop(0, height, lambda y: line(c, y)))

    def move(self, source: str, i: str, target: str, j: str) -> None:
        x = self.put(f"load {self.kind}, ptr {self.element(self.kind, source, i)}")
        self.do(f"store {self.kind} {x}, ptr {self.element(self.kind, target, j)}")

    def columns(self, image: str) -> str:
        """The columns of one image."""
        if self.plain:
            return image
        if self.bordered:
            border = self.border
            self.clear(border, self.bordered)
            self.inside(lambda i, j: self.move(image, i, border, j))
            image = border
        self.windows(lambda i, j: self.move(image, j, "%scratch", i))
        return "%scratch"

    def add_columns(self, image: str) -> None:
        """Add columns up where their windows were."""
        target = self.border if self.bordered else image
        self.clear(target, self.bordered or self.image)

        def add(i: str, j: str) -> None:
            x = self.put(f"load {self.kind}, ptr {self.element(self.kind, '%scratch', i)}")
            place = self.element(self.kind, target, j)
            y = self.put(f"load {self.kind}, ptr {place}")
            self.do(f"store {self.kind} {self.f('add', self.kind, x, y)}, ptr {place}")

        self.windows(add)
        if self.bordered:
            self.inside(lambda i, j: self.move(target, j, image, i))

    def clear(self, pointer: str, count: int) -> None:
        self.do(f"call void @llvm.memset.p0.i64(ptr {pointer}, i8 0, i64 {count * self.item}, i1 false)")

    def at(self, pointer: str, index: str, size: int) -> str:
        return self.element(self.kind, pointer, self.linear([(index, size)]))


def convolution(
    call: Call, views: Sequence[tuple[Any, int, tuple[int, ...]]], integer: str, threads: int
) -> list[Kernel]:
    """A convolution or one of its two transposes, as one or two kernels. Its arguments lie in C order."""
    code = _Conv(call, integer)
    (x, y), (out,) = [base for base, _, _ in views], call.outputs
    first, second = (code.element(code.kind, f"%a{i}", str(offset)) for i, (_, offset, _) in enumerate(views))
    o, p, k = code.out_channels, code.places, code.depth
    if call.kind == "conv_weight":
        return _conv_weight(x, y, out, first, second, code, threads)

    def forward(n: str) -> None:
        columns = code.columns(code.at(first, n, code.image))
        code.gemm(o, p, k, (second, k, False), (columns, p, False), (code.at("%a2", n, o * p), p))

    def back(n: str) -> None:
        image = code.at("%a2", n, code.image)
        columns = image if code.plain else "%scratch"
        code.gemm(k, p, o, (second, k, True), (code.at(first, n, o * p), p, False), (columns, p))
        if not code.plain:
            code.add_columns(image)

    code.loop("%lo", "%hi", forward if call.kind == "conv" else back)
    text = code.function("NAME", ["ptr noalias %a0", "ptr noalias %a1", "ptr noalias %a2", *code.arguments])
    return [Kernel(text, [x, y, out], code.scratch, code.samples, code.samples * o * p * k, 1)]


def _conv_weight(x: Term, g: Term, out: Term, images: str, gradients: str, code: _Conv, threads: int) -> list[Kernel]:
    """Each thread's part of the samples adds up in memory of its own; then the parts are added up, in their order."""
    o, p, k = code.out_channels, code.places, code.depth
    parts = min(threads, code.samples)

    def part(t: str) -> None:
        total = code.at("%shared", t, o * k)
        code.clear(total, o * k)
        low = code.put(f"udiv i64 {code.linear([(t, code.samples)])}, {parts}")
        high = code.put(f"udiv i64 {code.linear([(t, code.samples)], code.samples)}, {parts}")

        def sample(n: str) -> None:
            columns = code.columns(code.at(images, n, code.image))
            code.gemm(o, k, p, (code.at(gradients, n, o * p), p, False), (columns, p, True), (total, k), more=True)

        code.loop(low, high, sample)

    code.loop("%lo", "%hi", part)
    arguments = ["ptr noalias %a0", "ptr noalias %a1", "ptr noalias %shared", *code.arguments]
    first = Kernel(code.function("NAME", arguments), [x, g], code.scratch, parts, code.samples * o * p * k, 1)
    first.shared = parts * o * k * code.item
    add = Code()

    def element(i: str) -> None:
        total = None
        for t in range(parts):
            value = add.put(
                f"load {code.kind}, ptr {add.element(code.kind, '%shared', add.linear([(i, 1)], t * o * k))}"
            )
            total = value if total is None else add.f("add", code.kind, total, value)
        add.do(f"store {code.kind} {total}, ptr {add.element(code.kind, '%a0', i)}")

    add.loop("%lo", "%hi", element)
    second = Kernel(
        add.function("NAME", ["ptr noalias %a0", "ptr noalias %shared", "i64 %lo", "i64 %hi"]),
        [out],
        0,
        o * k,
        o * k * parts,
        16,
    )
    second.shared = first.shared
    return [first, second]
