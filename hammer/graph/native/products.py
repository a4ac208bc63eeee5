"""Thin products of matrices as machine code of their own.

BLAS copies panels of both matrices before it multiplies them, which pays when each is used many times. In a thin product (few terms to
sum, rows or columns) the copies take as long as the product, or longer. Here nothing is copied: a tile of the result is kept in
registers while the terms are added, by vectors along the columns where a row of the right matrix lies together ("rows"), by vectors along the terms
where a column of it does ("dots").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import jit
from .maths import Code

THIN = 32
"""The smallest of rows, columns and terms of a product is at most this, or BLAS makes it."""
MOST = 3 << 19
"""Multiplications of a product made here, at most."""


@dataclass(frozen=True)
class Matrix:
    """Where the elements of a matrix are: pointer, and the distances of two rows and of two columns, in elements."""

    pointer: str
    row: int
    column: int


@dataclass(frozen=True)
class Product:
    """A product C = A B of m × k and k × n matrices that is worth machine code of its own.

    Attributes:
        kind: LLVM's type of the elements.
        dots: whether vectors lie along the terms, else along the columns.
    """

    kind: str
    m: int
    n: int
    k: int
    dots: bool

    @property
    def lanes(self) -> int:
        """Elements of a vector."""
        return jit.vector_bytes() // _size(self.kind)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows of a tile, and its columns: twelve sums in registers, each a vector, of which one is a column's with ``dots``."""
        vectors = min(3, self.n if self.dots else -(-self.n // self.lanes))
        return 12 // vectors, vectors * (1 if self.dots else self.lanes)

    @property
    def across(self) -> bool:
        """Whether the units of work are tiles of columns, else of rows."""
        return self.n > 2 * self.m

    @property
    def units(self) -> int:
        """How many there are."""
        size, tile = (self.n, self.tile[1]) if self.across else (self.m, self.tile[0])
        return -(-size // tile)


def thin(kind: str, m: int, n: int, k: int, a: Sequence[int], b: Sequence[int]) -> Product | None:
    """The product of matrices with these strides, if it is better made here than by BLAS."""
    if min(m, n, k) > THIN or m * n * k > MOST:
        return None
    lanes = jit.vector_bytes() // _size(kind)
    if b[1] == 1 and n >= lanes:
        return Product(kind, m, n, k, False)
    if b[0] == 1 and a[1] == 1 and k >= 8 * lanes:
        return Product(kind, m, n, k, True)
    return None


def write(code: Code, p: Product, a: Matrix, b: Matrix, c: Matrix, low: str, high: str) -> None:
    """The units from ``low`` to ``high``."""
    rows, columns = p.tile

    def down(j: str, width: int) -> None:
        """All tiles of rows at the columns from j on."""
        steps(p.m, rows, lambda i, height: _tile(code, p, a, b, c, i, j, height, width))

    def along(i: str, height: int) -> None:
        steps(p.n, columns, lambda j, width: _tile(code, p, a, b, c, i, j, height, width))

    def steps(size: int, step: int, body: Callable[[str, int], None]) -> None:
        whole = size // step
        if whole > 1:
            code.loop(0, whole, lambda x: body(code.put(f"mul nuw nsw i64 {x}, {step}"), step))
        elif whole:
            body("0", step)
        if size % step:
            body(str(whole * step), size % step)

    size, step, body = (p.n, columns, down) if p.across else (p.m, rows, along)
    whole = size // step
    if whole:
        last = code.put(f"call i64 @llvm.smin.i64(i64 {high}, i64 {whole})")
        code.loop(low, last, lambda x: body(code.put(f"mul nuw nsw i64 {x}, {step}"), step))
    if size % step:
        first = code.put(f"call i64 @llvm.smax.i64(i64 {low}, i64 {whole})")
        code.loop(first, high, lambda _: body(str(whole * step), size % step))


def _tile(code: Code, p: Product, a: Matrix, b: Matrix, c: Matrix, i: str, j: str, height: int, width: int) -> None:
    """The tile of this height and width whose first element is (i, j)."""
    left = code.element(p.kind, a.pointer, code.linear([(i, a.row)]))
    right = code.element(p.kind, b.pointer, code.linear([(j, b.column)]))
    into = code.element(p.kind, c.pointer, code.linear([(i, c.row), (j, 1)]))
    (_dots if p.dots else _rows)(code, p, Matrix(left, a.row, a.column), Matrix(right, b.row, b.column), Matrix(into, c.row, 1), height, width)  # fmt: skip


def _rows(code: Code, p: Product, a: Matrix, b: Matrix, c: Matrix, height: int, width: int) -> None:
    parts = _parts(width, p.lanes)
    sums = {(r, at): code.variable(_type(p.kind, lanes)) for r in range(height) for at, lanes in parts}
    for (_, at), place in sums.items():
        code.do(f"store {_type(p.kind, dict(parts)[at])} zeroinitializer, ptr {place}")

    def term(t: str) -> None:
        row = code.element(p.kind, b.pointer, code.linear([(t, b.row)]))
        vectors = {at: _load(code, p.kind, lanes, code.element(p.kind, row, at)) for at, lanes in parts}
        for r in range(height):
            x = code.put(
                f"load {p.kind}, ptr {code.element(p.kind, a.pointer, code.linear([(t, a.column)], r * a.row))}"
            )
            for at, lanes in parts:
                _add(code, p.kind, lanes, sums[r, at], _broadcast(code, p.kind, lanes, x), vectors[at])

    code.loop(0, p.k, term)
    for (r, at), place in sums.items():
        kind = _type(p.kind, dict(parts)[at])
        value = code.put(f"load {kind}, ptr {place}")
        code.do(f"store {kind} {value}, ptr {code.element(p.kind, c.pointer, r * c.row + at)}, align {_size(p.kind)}")


def _dots(code: Code, p: Product, a: Matrix, b: Matrix, c: Matrix, height: int, width: int) -> None:
    lanes, whole = p.lanes, p.k // p.lanes
    places = [(r, s) for r in range(height) for s in range(width)]
    sums = {at: code.variable(_type(p.kind, lanes)) for at in places}
    for place in sums.values():
        code.do(f"store {_type(p.kind, lanes)} zeroinitializer, ptr {place}")

    def term(t: str) -> None:
        first = code.put(f"mul nuw nsw i64 {t}, {lanes}")
        xs = [_load(code, p.kind, lanes, code.element(p.kind, a.pointer, code.linear([(first, 1)], r * a.row))) for r in range(height)]  # fmt: skip
        ys = [_load(code, p.kind, lanes, code.element(p.kind, b.pointer, code.linear([(first, 1)], s * b.column))) for s in range(width)]  # fmt: skip
        for r, s in places:
            _add(code, p.kind, lanes, sums[r, s], xs[r], ys[s])

    code.loop(0, whole, term)
    for (r, s), place in sums.items():
        value, n = code.put(f"load {_type(p.kind, lanes)}, ptr {place}"), lanes
        while n > 1:
            halves = []
            for side in (0, 1):
                mask = ", ".join(f"i32 {side * n // 2 + x}" for x in range(n // 2))
                kind = _type(p.kind, n)
                halves.append(code.put(f"shufflevector {kind} {value}, {kind} poison, <{n // 2} x i32> <{mask}>"))
            n //= 2
            value = code.put(f"fadd contract {_type(p.kind, n)} {halves[0]}, {halves[1]}")
        value = code.put(f"extractelement <1 x {p.kind}> {value}, i32 0")
        for t in range(whole * lanes, p.k):
            x = code.put(f"load {p.kind}, ptr {code.element(p.kind, a.pointer, r * a.row + t)}")
            y = code.put(f"load {p.kind}, ptr {code.element(p.kind, b.pointer, s * b.column + t)}")
            value = code.f("add", p.kind, value, code.f("mul", p.kind, x, y))
        code.do(f"store {p.kind} {value}, ptr {code.element(p.kind, c.pointer, r * c.row + s)}")


def _parts(width: int, lanes: int) -> list[tuple[int, int]]:
    """A width as vectors of ``lanes`` elements, and shorter ones for the rest: where each begins, and its elements."""
    found, at = [], 0
    while at < width:
        while lanes > width - at:
            lanes //= 2
        found.append((at, lanes))
        at += lanes
    return found


def _type(kind: str, lanes: int) -> str:
    return f"<{lanes} x {kind}>"


def _size(kind: str) -> int:
    return 4 if kind == "float" else 8


def _load(code: Code, kind: str, lanes: int, pointer: str) -> str:
    return code.put(f"load {_type(kind, lanes)}, ptr {pointer}, align {_size(kind)}")


def _broadcast(code: Code, kind: str, lanes: int, x: str) -> str:
    one = code.put(f"insertelement {_type(kind, lanes)} poison, {kind} {x}, i32 0")
    return code.put(
        f"shufflevector {_type(kind, lanes)} {one}, {_type(kind, lanes)} poison, <{lanes} x i32> zeroinitializer"
    )


def _add(code: Code, kind: str, lanes: int, place: str, x: str, y: str) -> None:
    """sum += x · y, in one rounding where the processor can."""
    t = _type(kind, lanes)
    product = code.put(f"fmul contract {t} {x}, {y}")
    before = code.put(f"load {t}, ptr {place}")
    after = code.put(f"fadd contract {t} {before}, {product}")
    code.do(f"store {t} {after}, ptr {place}")
