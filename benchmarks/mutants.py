"""Broken derivative rules: changes of the source text that each make one rule of the op table wrong.

``mutants(package)`` reads the rows out of the package's source (calls ``name = op("name", forward, infer, *rules)``) and
makes changes in the expressions by which a rule, or a private function that only rules call, computes an array: never in
shapes, indices or conditions, where a change would crash rather than compute something wrong. Kinds:

=========  =========================================================================================
sign       the result, or a part of it, has the other sign
factor     the result is doubled, or a constant is larger by one
operator   + for -, · for /, and the other way round
drop       a term or factor is left out (g · y becomes g; or y, so that the incoming gradient is ignored)
swap       operands exchanged: of -, /, @, **, and of functions of two arrays
saved      another input, or the output, is read in the place of the one that should be
function   a relative in the place of a function (sin for cos, sum for mean); conj or a transpose left out
branches   where's two values exchanged, or a constant branch changed
axis       another axis, or another diagonal
tie        what differs at ties and singular points only: "or equal" for a strict comparison, another value there
=========  =========================================================================================

What could change nothing is not made: a saved value exchanged where it is only compared (relu may read its output as well
as its input), a sign or factor inside a private function that may occur twice in a product.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("sign", "factor", "operator", "swap", "drop", "saved", "function", "branches", "axis", "tie")
COMPARE = {"greater": "greater_equal", "greater_equal": "greater", "less": "less_equal", "less_equal": "less"}
COMPARISONS = {*COMPARE, "equal", "not_equal"}
RELATIVES = {
    "sin": "cos", "cos": "sin", "sinh": "cosh", "cosh": "sinh", "exp": "expm1", "sum": "mean", "mean": "sum", "tril": "triu",
    "triu": "tril", "rsqrt": "sqrt", "sigmoid": "tanh", "erf": "tanh", "minimum": "maximum", "maximum": "minimum",
}  # fmt: skip
SYMMETRIC = {
    "add",
    "multiply",
    "maximum",
    "minimum",
    "logaddexp",
    "hypot",
    "equal",
    "not_equal",
    "logical_and",
    "logical_or",
}
OMITTED = {"conj", "flip", "_transposed"}  # functions of one array that can be left out


@dataclass(frozen=True)
class Mutant:
    """One change: bytes ``start`` to ``end`` of ``file`` (a path within the package) become ``after``."""

    row: str
    rule: int
    kind: str
    file: str
    line: int
    start: int
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.row}, rule {self.rule} ({self.kind}), {self.file}:{self.line}: {self.before}  →  {self.after}"

    def applied(self, source: bytes) -> bytes:
        if " ".join(source[self.start : self.end].decode(errors="replace").split()) != self.before:
            raise ValueError(f"{self.file} is not the source that this mutant was made from: {self}")
        return source[: self.start] + self.after.encode() + source[self.end :]


@dataclass(frozen=True)
class _Row:
    name: str
    call: ast.Call
    file: str


class _Module:
    """A source file, parsed: its rows, its private functions, and where each node stands in its bytes."""

    def __init__(self, path: Path, file: str):
        self.file, self.source = file, path.read_bytes()
        self.tree = ast.parse(self.source)
        self.functions = {n.name: n for n in self.tree.body if isinstance(n, ast.FunctionDef)}
        self.lines = [0]
        for line in self.source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.known = {
            a.asname or a.name for n in self.tree.body if isinstance(n, ast.ImportFrom) for a in n.names
        } | self.functions.keys()
        self.rows: list[_Row] = []
        self.named: set[str] = set()  # names under which rows can be called
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _called(node.value) == "op":
                self.named |= {t.id for t in node.targets if isinstance(t, ast.Name)}
            if (
                isinstance(node, ast.Call)
                and _called(node) == "op"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                self.rows.append(_Row(str(node.args[0].value), node, file))
        self.known |= self.named

    def span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.lines[node.lineno - 1] + node.col_offset, self.lines[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr) -> str:
        start, end = self.span(node)
        return " ".join(self.source[start:end].decode().split())

    def reached(self, roots: list[ast.AST]) -> set[str]:
        """Names of this file's functions that ``roots`` call or name, directly or through each other."""
        found: set[str] = set()
        work = list(roots)
        while work:
            for node in ast.walk(work.pop()):
                if isinstance(node, ast.Name) and node.id in self.functions and node.id not in found:
                    found.add(node.id)
                    work.append(self.functions[node.id])
        return found


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def mutants(package: Path) -> list[Mutant]:
    """All mutants of all rows found in the package's source, in the order of the files."""
    modules = [_Module(path, path.relative_to(package).as_posix()) for path in sorted(package.rglob("*.py"))]
    modules = [m for m in modules if m.rows]
    arrays = {name for m in modules for name in m.named} | {
        name for m in modules for name in m.functions if name[0] != "_"
    }
    found: dict[tuple, Mutant] = {}
    for module in modules:
        forward = module.reached([part for row in module.rows for part in row.call.args[1:3]] + _kernels(module.tree))
        for row in module.rows:
            for i, rule in enumerate(row.call.args[3:]):
                for mutant in _of_rule(module, row, i, rule, arrays, forward):
                    found.setdefault((mutant.row, mutant.file, mutant.start, mutant.end, mutant.after), mutant)
    return list(found.values())


def _kernels(tree: ast.Module) -> list[ast.AST]:
    """What is assigned to ``row.kernels[...]``: part of the forward pass."""
    targets = ((node, node.targets[0]) for node in ast.walk(tree) if isinstance(node, ast.Assign))
    return [
        node.value
        for node, target in targets
        if isinstance(target, ast.Subscript) and ast.unparse(target.value).endswith("kernels")
    ]


def _of_rule(
    module: _Module, row: _Row, index: int, rule: ast.expr, arrays: set[str], forward: set[str]
) -> Iterator[Mutant]:
    function = module.functions.get(rule.id) if isinstance(rule, ast.Name) else rule
    if not isinstance(function, (ast.Lambda, ast.FunctionDef)):
        return  # None: no gradient

    def make(kind: str, node: ast.expr, after: str) -> Mutant:
        start, end = module.span(node)
        return Mutant(row.name, index, kind, module.file, node.lineno, start, end, module.text(node), after)

    own = module.reached([function]) - forward - ({rule.id} if isinstance(rule, ast.Name) else set())
    helpers: list[Any] = [
        module.functions[name] for name in sorted(own) if name[0] == "_" and _of_arrays(module.functions[name], arrays)
    ]
    callable_ = arrays | {h.name for h in helpers}
    if not (isinstance(function, ast.FunctionDef) and function.name in forward):
        for value in _results(function):
            text = module.text(value)
            yield make("sign", value, f"(-({text}))")
            yield make("factor", value, f"(2.0 * ({text}))")
        if isinstance(function, ast.Lambda):
            yield from (make("saved", function, after) for after in _exchanged(function, row.call))
        helpers = [function, *helpers]
    for part in helpers:
        for value in _roots(part, callable_):
            for node, at_tie in _values(value, callable_):
                for kind, where, after in (*_changes(node, callable_), *_misread(node, part)):
                    if kind != "function" or not after.isidentifier() or after in module.known:
                        yield make("tie" if at_tie else kind, where, after)


def _of_arrays(function: ast.FunctionDef, arrays: set[str]) -> bool:
    """Whether a private function computes an array, rather than a shape or a list of axes."""
    takes_gradient = bool(function.args.args) and function.args.args[0].arg in ("g", "gs")
    return takes_gradient or any(isinstance(n, ast.Call) and _called(n) in arrays for n in ast.walk(function))


def _results(function: ast.Lambda | ast.FunctionDef) -> list[ast.expr]:
    if isinstance(function, ast.Lambda):
        return [function.body]
    return [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None]


def _roots(function: ast.Lambda | ast.FunctionDef, callable_: set[str]) -> list[ast.expr]:
    """The expressions of a function that compute arrays: its results, and what it assigns if an array function is called."""
    if isinstance(function, ast.Lambda):
        return [function.body]
    assigned = [n.value for n in ast.walk(function) if isinstance(n, ast.Assign)]
    return _results(function) + [
        v for v in assigned if any(isinstance(n, ast.Call) and _called(n) in callable_ for n in ast.walk(v))
    ]


def _values(node: ast.expr, callable_: set[str], at_tie: bool = False) -> Iterator[tuple[ast.expr, bool]]:
    """The parts of an expression whose value is an array, and whether they count only where two values are equal."""
    yield node, at_tie
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp):
        parts = [node.operand]
    elif isinstance(node, ast.IfExp):
        parts = [node.body, node.orelse]
    elif isinstance(node, ast.Subscript):
        parts = [node.value]
    elif isinstance(node, ast.Call) and _called(node) in callable_:
        parts = [a for a in node.args if not isinstance(a, ast.Starred)]
        if _if_equal(node):
            yield from _values(parts.pop(1), callable_, True)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        parts = [node.func.value] if not isinstance(node.func.value, ast.Name) else []
    for part in parts:
        yield from _values(part, callable_, at_tie)


def _if_equal(node: ast.Call) -> bool:
    """Whether this is ``where(equal(...), a, b)``."""
    return _called(node) == "where" and isinstance(node.args[0], ast.Call) and _called(node.args[0]) == "equal"


def _misread(node: ast.expr, function: ast.Lambda | ast.FunctionDef) -> Iterator[tuple[str, ast.expr, str]]:
    """Another saved value at one place: of a function's parameters (gradient first), or of what a tuple is unpacked into."""
    if not isinstance(node, ast.Name) or isinstance(function, ast.Lambda):
        return  # all places of a lambda at once: ``_exchanged``
    given = [a.arg for a in function.args.args][
        function.args.args[:1] != [] and function.args.args[0].arg in ("g", "gs") :
    ]
    groups = [[name for name in given if name[0] != "_" and len(name) <= 2]]
    unpacked = (n.targets[0] for n in ast.walk(function) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Name))
    groups += [
        [t.id for t in target.elts if isinstance(t, ast.Name) and t.id[0] != "_"]
        for target in unpacked
        if isinstance(target, ast.Tuple)
    ]
    for group in groups:
        if node.id in group:
            yield from (("saved", node, other) for other in group if other != node.id)


def _changes(node: ast.expr, callable_: set[str]) -> Iterator[tuple[str, ast.expr, str]]:
    """Changes at one place: (kind, what is replaced, by what)."""
    text = ast.unparse
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult, ast.Pow)):
            sign = {ast.Sub: "-", ast.Div: "/", ast.MatMult: "@", ast.Pow: "**"}[type(node.op)]
            yield "swap", node, f"(({text(node.right)}) {sign} ({text(node.left)}))"
        a, b = f"({text(node.left)})", f"({text(node.right)})"
        other = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}.get(type(node.op))
        if other:
            yield "operator", node, f"({a} {other} {b})"
            yield "drop", node, a
        if isinstance(node.op, (ast.Add, ast.Mult)):
            yield "drop", node, b
        if other:
            for side, rest in (
                (node.left, f"({{}} {_symbol(node.op)} {b})"),
                (node.right, f"({a} {_symbol(node.op)} {{}})"),
            ):
                if isinstance(side, ast.Constant) and isinstance(side.value, (int, float)):
                    yield "factor", node, rest.format(side.value + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", node, f"({text(node.operand)})"
    elif isinstance(node, ast.Call):
        yield from _changed_call(node)
        several = [a for a in node.args if not isinstance(a, ast.Starred)]
        if len(several) == len(node.args) == 2 and _called(node) in callable_ and _called(node) not in SYMMETRIC:
            exchanged = ast.Call(node.func, [node.args[1], node.args[0]], node.keywords)
            yield "swap", node, f"({text(exchanged)})"


def _symbol(op: ast.operator) -> str:
    return {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}[type(op)]


def _changed_call(node: ast.Call) -> Iterator[tuple[str, ast.expr, str]]:
    name, text = _called(node), ast.unparse
    if name in RELATIVES:
        yield "function", node.func, RELATIVES[name]
    if name in OMITTED and node.args:
        yield "function", node, f"({text(node.args[0])})"
    if name in COMPARE:
        yield "tie", node.func, COMPARE[name]
    if name == "where" and len(node.args) == 3:
        c, a, b = map(text, node.args)
        yield "branches", node, f"where({c}, {b}, {a})"
        for i, branch in enumerate(node.args[1:]):
            if isinstance(branch, ast.Constant) and branch.value == 0:
                yield "tie" if i == 0 and _if_equal(node) else "branches", branch, "1.0"
    for keyword in node.keywords:
        value = keyword.value
        if keyword.arg == "axis" and name not in ("concat", "stack", "split"):
            if isinstance(value, ast.Name):
                yield "axis", value, "0" if name not in ("sum", "mean", "flip") else "None"
            elif text(value) in ("-1", "0"):
                yield "axis", value, "0" if text(value) == "-1" else "-1"
        elif keyword.arg == "k":
            yield "axis", value, f"({text(value)}) + 1"
        elif keyword.arg == "shift":
            yield "sign", value, "shift"


def _exchanged(rule: ast.Lambda, call: ast.Call) -> Iterator[str]:
    """The rule with another saved value in the place of one that it reads."""
    if {k.arg for k in call.keywords} & {"outputs", "variadic"}:
        return
    vjps = call.args[3:]
    tracked = [i for i, v in enumerate(vjps) if not (isinstance(v, ast.Constant) and v.value is None)]
    names = [p.arg for p in rule.args.args]
    places = [1, *(i + 2 for i in tracked)]  # parameters: the gradient, the output, the inputs
    for place in places:
        read = names[place]
        if read[0] == "_" or not _computed_with(rule.body, read):
            continue
        for other in (names[p] for p in places if p != place):
            clean = other.lstrip("_")
            renamed = _Renamer({read: clean, other: clean}).visit(ast.parse(ast.unparse(rule), mode="eval").body)
            renamed.args.args[place].arg = "_" + read
            renamed.args.args[names.index(other)].arg = clean
            yield f"({ast.unparse(renamed)})"


class _Renamer(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]):
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


def _computed_with(body: ast.expr, name: str) -> bool:
    """Whether a value takes part in arithmetic, and is not just compared or asked for its shape."""
    parts = [body]
    while parts:
        node = parts.pop()
        if isinstance(node, ast.Name) and node.id == name:
            return True
        if isinstance(node, ast.Attribute) or (isinstance(node, ast.Call) and _called(node) in COMPARISONS):
            continue
        parts += [n for n in ast.iter_child_nodes(node) if isinstance(n, (ast.expr, ast.keyword))]  # type: ignore[misc]
    return False
