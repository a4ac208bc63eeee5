"""Elementwise functions as LLVM instructions.

Exponential, logarithm, hyperbolic tangent and the error functions are polynomials after a reduction of the argument (Muller
2016, "Elementary functions", chapters 3 and 11; for erfc Shepherd & Laframboise 1981), fitted by interpolation at Chebyshev
points for float32 and for float64. They have no branches, so loops over them are vectorised. ``tests/hammer/graph/test_native_maths.py`` holds
them to a few units in the last place. NaN and infinity come out as they do of NumPy.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

TYPES = {"float32": "float", "float64": "double", "bool": "i1", "uint8": "i8", "int32": "i32", "int64": "i64"}
MEMORY = {**TYPES, "bool": "i8"}
EXP = {
    "float": (0.5, 0.16666576666119928, 0.04166655421298415, 0.008363232883682618, 0.0013926250831497611),
    "double": (0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326084, 0.0013888888888883711, 0.0001984126987500228, 2.480158732567746e-05, 2.755725517000089e-06, 2.755727347871858e-07, 2.5105312729622103e-08, 2.09147553258932e-09),
}  # fmt: skip
"""(eʳ - 1 - r) / r² on |r| ≤ log(2) / 2."""
LOG_2 = {"float": (0.693145751953125, 1.42860682030941723e-06), "double": (0.6931471803691238, 1.9082149292705877e-10)}
"""log(2) as a number with few bits, whose multiples are exact, and the rest."""
LOG = {
    "float": (0.6666666654512713, 0.4000012942695626, 0.2854996859130847, 0.23353427603651186),
    "double": (0.6666666666666666, 0.40000000000001007, 0.2857142857072325, 0.22222222409750114, 0.18181793732111753, 0.15386342449645143, 0.13266048812203002, 0.131148348695975),
}  # fmt: skip
"""(log((1 + s) / (1 - s)) / s - 2) / s² of s², for arguments between √½ and √2."""
ERF = {
    "float": (-0.3761263888890428, 0.11283790270103468, -0.026865945307221414, 0.0052226111279911214, -0.0008508545287337367, 0.00011451736882114557, -1.0216748055511625e-05),
    "double": (-0.37612638903183754, 0.11283791670955126, -0.02686617064513125, 0.005223977625442098, -0.0008548327023438772, 0.00012055332980820326, -1.4925650307970883e-05, 1.64621125825314e-06, -1.6365800670626893e-07, 1.4806425307596068e-08, -1.2281123990301673e-09, 9.342544765021714e-11, -6.25814465939488e-12, 2.895998335856489e-13),
}  # fmt: skip
"""(erf(x) / x - 2 / √π) / x² of x², for |x| ≤ 1."""
ERFCX = {
    "float": (1.2375126184625718, -0.14024060801000693, 0.003586310101688852, 0.08227741756036867, -0.10881458496174144, 0.092296367961203, -0.0586459828677125, 0.02839648212065827, -0.009845491094959295, 0.0016886622311156746, 0.0003967046382800549, -0.00022874723359084774),
    "double": (1.2375126308378275, -0.14024059858554697, 0.003585415485463775, 0.08227673849014516, -0.10880393014171785, 0.09230432116037876, -0.05869339859021237, 0.028362277418940728, -0.00974657955250418, 0.0017556258530012526, 0.0002937136342845264, -0.0002901540809773568, 5.1649211392912316e-05, 2.238424030787745e-05, -1.144441244563316e-05, -9.735618894299791e-07, 1.7520579824725832e-06, -5.721598748208792e-08, -2.5910698397092275e-07, 2.3261924780274945e-08, 3.896546425999858e-08, -3.743573063243251e-09, -5.284292099934737e-09, 3.110320236399832e-10, 4.434968758174329e-10),
}  # fmt: skip
"""(1 + 2x) exp(x²) erfc(x) of (x - 3.75) / (x + 3.75), for x ≥ 0."""
COMPARE = {"less": ("olt", "slt"), "less_equal": ("ole", "sle"), "greater": ("ogt", "sgt"), "greater_equal": ("oge", "sge"), "equal": ("oeq", "eq"), "not_equal": ("une", "ne")}  # fmt: skip
ARITHMETIC = {"add": ("fadd", "add"), "subtract": ("fsub", "sub"), "multiply": ("fmul", "mul"), "divide": ("fdiv", None)}  # fmt: skip


def literal(value: Any, kind: str) -> str:
    """A number in LLVM's notation."""
    if kind == "i1":
        return "true" if value else "false"
    if kind.startswith("i"):
        return str(int(value))
    value = float(np.float32(value)) if kind == "float" else float(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class Code:
    """Instructions, one a line; each method appends some and returns the name of what they compute."""

    def __init__(self) -> None:
        self.head: list[str] = []  # variables in memory; LLVM's first passes make registers of them
        self.lines: list[str] = []
        self.count = self.labels = 0

    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def put(self, instruction: str) -> str:
        name = self.name()
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        self.lines.append(f"  {instruction}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def variable(self, kind: str) -> str:
        """A variable in memory."""
        self.head.append(f"  %m{len(self.head)} = alloca {kind}")
        return f"%m{len(self.head) - 1}"

    def loop(self, low: Any, high: Any, body: Callable[[str], None]) -> None:
        """``for i in range(low, high): body(i)``."""
        self.labels += 1
        n, i = self.labels, self.variable("i64")
        self.do(f"store i64 {low}, ptr {i}")
        self.do(f"br label %head{n}")
        self.label(f"head{n}")
        x = self.put(f"load i64, ptr {i}")
        self.do(f"br i1 {self.put(f'icmp slt i64 {x}, {high}')}, label %body{n}, label %end{n}")
        self.label(f"body{n}")
        body(x)
        self.do(f"store i64 {self.put(f'add nuw nsw i64 {x}, 1')}, ptr {i}")
        self.do(f"br label %head{n}")
        self.label(f"end{n}")

    def function(self, name: str, arguments: Sequence[str], internal: bool = True) -> str:
        """The text of a function with these instructions."""
        kind = ("internal ", " noinline") if internal else ("", "")
        head = f"define {kind[0]}void @{name}({', '.join(arguments)}){kind[1]} {{"
        return "\n".join([head, "entry:", *self.head, *self.lines, "  ret void", "}"])

    def linear(self, terms: Sequence[tuple[str, int]], constant: int = 0) -> str:
        """Σ coefficient · variable + constant, of i64."""
        found = None
        for var, k in terms:
            if k:
                part = var if k == 1 else self.put(f"mul nsw i64 {var}, {k}")
                found = part if found is None else self.put(f"add nsw i64 {found}, {part}")
        if found is None:
            return str(constant)
        return found if constant == 0 else self.put(f"add nsw i64 {found}, {constant}")

    def element(self, kind: str, pointer: str, index: Any) -> str:
        """A pointer to an element of an array."""
        return pointer if str(index) == "0" else self.put(f"getelementptr inbounds {kind}, ptr {pointer}, i64 {index}")

    # ---- arithmetic of one type ----

    def f(self, op: str, kind: str, x: str, y: str) -> str:
        return self.put(f"f{op} contract {kind} {x}, {y}")

    def k(self, value: float, kind: str) -> str:
        return literal(value, kind)

    def intrinsic(self, name: str, kind: str, *args: str) -> str:
        suffix = {"float": "f32", "double": "f64"}.get(kind, kind)
        return self.put(f"call contract {kind} @llvm.{name}.{suffix}({', '.join(f'{kind} {a}' for a in args)})")

    def select(self, condition: str, kind: str, x: str, y: str) -> str:
        return self.put(f"select i1 {condition}, {kind} {x}, {kind} {y}")

    def compared(self, how: str, kind: str, x: str, y: str) -> str:
        return self.put(f"fcmp {how} {kind} {x}, {y}")

    def polynomial(self, coefficients: Any, kind: str, x: str) -> str:
        """Σ cᵢ xⁱ by pairs of pairs (Estrin's scheme): few operations wait for each other, and a processor does several at a time."""
        terms, power = [self.k(c, kind) for c in coefficients], x
        while len(terms) > 1:
            pairs = [
                self.intrinsic("fma", kind, high, power, low)
                for low, high in zip(terms[::2], terms[1::2], strict=False)
            ]
            terms = pairs + terms[2 * len(pairs) :]
            if len(terms) > 1:
                power = self.f("mul", kind, power, power)
        return terms[0]

    # ---- functions ----

    def exp(self, kind: str, x: str, low: str | None = None) -> str:
        """eˣ, or e^(x + low): 2ⁿ eʳ with |r| ≤ log(2) / 2, where 2ⁿ is two factors, so that results may be subnormal."""
        single = kind == "float"
        top, bottom = (89.0, -104.0) if single else (710.0, -746.0)
        c = self.select(self.compared("ogt", kind, x, self.k(top, kind)), kind, self.k(top, kind), x)
        c = self.select(self.compared("olt", kind, c, self.k(bottom, kind)), kind, self.k(bottom, kind), c)
        n = self.intrinsic("rint", kind, self.f("mul", kind, c, self.k(1.4426950408889634, kind)))
        high, rest = LOG_2[kind]
        r = self.intrinsic("fma", kind, n, self.k(-high, kind), c)
        r = self.intrinsic("fma", kind, n, self.k(-rest, kind), r)
        if low is not None:
            r = self.f("add", kind, r, low)
        p = self.polynomial(EXP[kind], kind, r)
        p = self.intrinsic("fma", kind, self.f("mul", kind, r, r), p, r)
        p = self.f("add", kind, p, self.k(1.0, kind))
        whole = "i32" if single else "i64"
        bits, bias = (23, 127) if single else (52, 1023)
        i = self.put(f"freeze {whole} {self.put(f'fptosi {kind} {n} to {whole}')}")
        half = self.put(f"ashr {whole} {i}, 1")
        for part in (half, self.put(f"sub {whole} {i}, {half}")):
            scale = self.put(f"shl {whole} {self.put(f'add {whole} {part}, {bias}')}, {bits}")
            p = self.put(f"fmul {kind} {p}, {self.put(f'bitcast {whole} {scale} to {kind}')}")
        return self.select(self.compared("uno", kind, x, x), kind, x, p)

    def log(self, kind: str, x: str) -> str:
        single = kind == "float"
        whole, bits, mask, tiny, lift = ("i32", 23, 0x7FFFFF, 1.17549435e-38, 25) if single else ("i64", 52, (1 << 52) - 1, 2.2250738585072014e-308, 54)  # fmt: skip
        small = self.compared("olt", kind, x, self.k(tiny, kind))
        y = self.select(small, kind, self.put(f"fmul {kind} {x}, {self.k(2.0**lift, kind)}"), x)
        b = self.put(f"bitcast {kind} {y} to {whole}")
        root = struct.unpack("<i", struct.pack("<f", 0.70710678))[0] if single else struct.unpack("<q", struct.pack("<d", 0.7071067811865476))[0]  # fmt: skip
        d = self.put(f"sub {whole} {b}, {root}")
        e = self.put(f"ashr {whole} {d}, {bits}")
        m = self.put(f"add {whole} {self.put(f'and {whole} {d}, {mask}')}, {root}")
        t = self.f("sub", kind, self.put(f"bitcast {whole} {m} to {kind}"), self.k(1.0, kind))
        n = self.put(f"sitofp {whole} {e} to {kind}")
        n = self.f("sub", kind, n, self.select(small, kind, self.k(lift, kind), self.k(0.0, kind)))
        s = self.put(f"fdiv {kind} {t}, {self.f('add', kind, t, self.k(2.0, kind))}")
        z = self.f("mul", kind, s, s)
        r = self.f("mul", kind, z, self.polynomial(LOG[kind], kind, z))
        h = self.f("mul", kind, self.f("mul", kind, t, t), self.k(0.5, kind))
        high, rest = (0.693359375, -2.12194440054690583e-4) if single else (0.6931471803691238, 1.9082149292705877e-10)
        inner = self.intrinsic("fma", kind, s, self.f("add", kind, h, r), self.f("mul", kind, n, self.k(rest, kind)))
        out = self.f("sub", kind, t, self.f("sub", kind, h, inner))
        out = self.intrinsic("fma", kind, n, self.k(high, kind), out)
        out = self.select(self.compared("oeq", kind, x, self.k(np.inf, kind)), kind, x, out)
        out = self.select(self.compared("oeq", kind, x, self.k(0.0, kind)), kind, self.k(-np.inf, kind), out)
        return self.select(self.compared("uge", kind, x, self.k(0.0, kind)), kind, self.select(self.compared("uno", kind, x, x), kind, x, out), self.k(np.nan, kind))  # fmt: skip

    def log1p(self, kind: str, x: str) -> str:
        """log(u) x / (u - 1) with u = 1 + x rounded (Kahan's)."""
        one = self.k(1.0, kind)
        u = self.put(f"fadd {kind} {x}, {one}")
        d = self.put(f"fsub {kind} {u}, {one}")
        out = self.put(f"fmul {kind} {self.log(kind, u)}, {self.put(f'fdiv {kind} {x}, {d}')}")
        out = self.select(self.compared("oeq", kind, u, self.k(np.inf, kind)), kind, u, out)
        out = self.select(self.compared("oeq", kind, u, self.k(0.0, kind)), kind, self.k(-np.inf, kind), out)
        return self.select(self.compared("oeq", kind, u, one), kind, x, out)

    def expm1(self, kind: str, x: str) -> str:
        """(u - 1) x / log(u) with u = eˣ rounded (Kahan's)."""
        one = self.k(1.0, kind)
        u = self.exp(kind, x)
        d = self.put(f"fsub {kind} {u}, {one}")
        out = self.put(f"fmul {kind} {d}, {self.put(f'fdiv {kind} {x}, {self.log(kind, u)}')}")
        far = self.put(f"or i1 {self.compared('ogt', kind, x, self.k(30.0, kind))}, {self.compared('oeq', kind, d, self.k(-1.0, kind))}")  # fmt: skip
        out = self.select(far, kind, d, out)
        return self.select(self.compared("oeq", kind, u, one), kind, x, out)

    def tanh(self, kind: str, x: str) -> str:
        """h / (h + 1) of h = (e^2|x| - 1) / 2 = 2ⁿ (e^2r - 1) / 2 + (2ⁿ - 1) / 2, |r| ≤ log(2) / 4, in which nothing cancels.

        n is taken from the last bits of its sum with a large number: processors have that for vectors, but few a conversion to i64.
        """
        single = kind == "float"
        whole, bits, bias = ("i32", 23, 127) if single else ("i64", 52, 1023)
        large, top = self.k(1.5 * 2.0**bits, kind), self.k(22.0, kind)  # tanh 22 is 1
        a = self.intrinsic("fabs", kind, x)
        a = self.select(self.compared("ogt", kind, a, top), kind, top, a)
        t = self.intrinsic("fma", kind, a, self.k(2.0 * 1.4426950408889634, kind), large)
        n = self.put(f"fsub {kind} {t}, {large}")
        high, rest = LOG_2[kind]
        r = self.intrinsic("fma", kind, n, self.k(-0.5 * high, kind), a)
        r = self.intrinsic("fma", kind, n, self.k(-0.5 * rest, kind), r)
        p = self.polynomial([2.0 ** (i + 1) * c for i, c in enumerate(EXP[kind])], kind, r)  # of 2r, times two
        p = self.intrinsic("fma", kind, self.f("mul", kind, r, r), p, r)
        scale = self.put(f"shl {whole} {self.put(f'bitcast {kind} {t} to {whole}')}, {bits}")
        scale = self.put(f"bitcast {whole} {self.put(f'add {whole} {scale}, {bias << bits}')} to {kind}")
        half = self.intrinsic("fma", kind, scale, self.k(0.5, kind), self.k(-0.5, kind))
        h = self.intrinsic("fma", kind, scale, p, half)
        out = self.put(f"fdiv {kind} {h}, {self.put(f'fadd {kind} {h}, {self.k(1.0, kind)}')}")
        return self.intrinsic("copysign", kind, out, x)

    def sigmoid(self, kind: str, x: str) -> str:
        one = self.k(1.0, kind)
        e = self.exp(kind, self.put(f"fneg {kind} {self.intrinsic('fabs', kind, x)}"))
        top = self.select(self.compared("olt", kind, x, self.k(0.0, kind)), kind, e, one)
        return self.put(f"fdiv {kind} {top}, {self.f('add', kind, e, one)}")

    def _erf_near(self, kind: str, x: str) -> str:
        z = self.f("mul", kind, x, x)
        p = self.intrinsic("fma", kind, z, self.polynomial(ERF[kind], kind, z), self.k(1.1283791670955126, kind))
        return self.f("mul", kind, x, p)

    def _erfc_far(self, kind: str, a: str) -> str:
        """erfc of a ≥ 0: exp(-a²) by way of a² and its rounding error."""
        k = self.k(3.75, kind)
        large = self.compared("ogt", kind, a, self.k(28.0, kind))
        a = self.select(large, kind, self.k(28.0, kind), a)
        u = self.put(f"fdiv {kind} {self.f('sub', kind, a, k)}, {self.f('add', kind, a, k)}")
        p = self.polynomial(ERFCX[kind], kind, u)
        p = self.put(f"fdiv {kind} {p}, {self.intrinsic('fma', kind, a, self.k(2.0, kind), self.k(1.0, kind))}")
        square = self.put(f"fmul {kind} {a}, {a}")
        low = self.intrinsic("fma", kind, a, a, self.put(f"fneg {kind} {square}"))
        e = self.exp(kind, self.put(f"fneg {kind} {square}"), self.put(f"fneg {kind} {low}"))
        return self.put(f"fmul {kind} {p}, {e}")

    def erfc(self, kind: str, x: str) -> str:
        far = self._erfc_far(kind, self.intrinsic("fabs", kind, x))
        mirrored = self.f("sub", kind, self.k(2.0, kind), far)
        far = self.select(self.compared("olt", kind, x, self.k(0.0, kind)), kind, mirrored, far)
        near = self.f("sub", kind, self.k(1.0, kind), self._erf_near(kind, x))
        inside = self.compared("olt", kind, self.intrinsic("fabs", kind, x), self.k(0.5, kind))
        out = self.select(inside, kind, near, far)
        return self.select(self.compared("uno", kind, x, x), kind, x, out)

    def erf(self, kind: str, x: str) -> str:
        a = self.intrinsic("fabs", kind, x)
        far = self.f("sub", kind, self.k(1.0, kind), self._erfc_far(kind, a))
        far = self.intrinsic("copysign", kind, far, x)
        out = self.select(self.compared("olt", kind, a, self.k(1.0, kind)), kind, self._erf_near(kind, x), far)
        return self.select(self.compared("uno", kind, x, x), kind, x, out)

    def sqrt(self, kind: str, x: str) -> str:
        return self.intrinsic("sqrt", kind, x)

    # ---- any elementwise term ----

    def apply(self, op: str, dtype: Any, given: Any, args: list[str]) -> str:
        """A function of arguments of dtype ``given``, with a result of ``dtype``."""
        kind, source = TYPES[dtype.name], TYPES[given.name]
        is_float = source in ("float", "double")
        if op == "copy":
            return args[0]
        if op == "cast":
            return self.cast(source, kind, given.name, dtype.name, args[0])
        if op == "where":
            return self.select(args[0], kind, args[1], args[2])
        if op in COMPARE:
            ordered, whole = COMPARE[op]
            if source in ("i1", "i8"):
                whole = whole.replace("s", "u", 1) if whole[0] == "s" else whole
            return self.put(f"{'fcmp ' + ordered if is_float else 'icmp ' + whole} {source} {args[0]}, {args[1]}")
        if op in ARITHMETIC:
            return self.put(f"{ARITHMETIC[op][0 if is_float else 1]} {kind} {args[0]}, {args[1]}")
        if op in ("and", "or", "xor"):
            return self.put(f"{op} {kind} {args[0]}, {args[1]}")
        if op in ("maximum", "minimum"):
            if is_float:
                return self.intrinsic(op, kind, *args)
            sign = "u" if kind == "i8" else "s"
            return self.put(f"call {kind} @llvm.{sign}{op[:3]}.{kind}({kind} {args[0]}, {kind} {args[1]})")
        if op == "negative":
            return self.put(f"fneg {kind} {args[0]}" if is_float else f"sub {kind} 0, {args[0]}")
        if op == "abs":
            if is_float:
                return self.intrinsic("fabs", kind, args[0])
            return args[0] if kind == "i8" else self.put(f"call {kind} @llvm.abs.{kind}({kind} {args[0]}, i1 false)")
        if op in ("floor", "ceil", "trunc", "sin", "cos"):
            return self.intrinsic(op, kind, args[0])
        return getattr(self, op)(kind, *args)  # type: ignore[no-any-return]

    def cast(self, source: str, kind: str, given: str, dtype: str, x: str) -> str:
        floats, unsigned = ("float", "double"), given in ("bool", "uint8")
        if dtype == "bool":
            return self.put(
                f"fcmp une {source} {x}, {self.k(0.0, source)}" if source in floats else f"icmp ne {source} {x}, 0"
            )
        if source in floats and kind in floats:
            return self.put(f"{'fptrunc' if kind == 'float' else 'fpext'} {source} {x} to {kind}")
        if source in floats:
            how = "fptoui" if kind == "i8" else "fptosi"
            return self.put(f"freeze {kind} {self.put(f'{how} {source} {x} to {kind}')}")
        if kind in floats:
            return self.put(f"{'ui' if unsigned else 'si'}tofp {source} {x} to {kind}")
        if int(source[1:]) == int(kind[1:]):
            return x
        how = "trunc" if int(source[1:]) > int(kind[1:]) else "zext" if unsigned else "sext"
        return self.put(f"{how} {source} {x} to {kind}")
