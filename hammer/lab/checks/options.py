"""The options of `hammer check`; only argparse is imported here."""

import argparse
from pathlib import Path


def check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="autograd|MODULE:FUNCTION", help="the op table, or a function (FILE.py:FUNCTION as well)"
    )
    parser.add_argument(
        "--examples", type=int, metavar="N", help="calls drawn: for each row (default: 25), or in all (default: 50)"
    )
    table = parser.add_argument_group("of the op table")
    table.add_argument("--rows", metavar="A,B", help="only these rows")
    table.add_argument(
        "--jobs", type=int, metavar="N", help="rows checked at a time (default: the number of usable cores)"
    )
    table.add_argument("--out", type=Path, metavar="DIR", help="where reports go (default: reports)")
    table.add_argument("--name", help="the report's name, a folder in --out (default: check)")
    function = parser.add_argument_group("of a function")
    function.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="X=3,4",
        help="an argument's shape; names stand for drawn sizes: X=n,4",
    )
    function.add_argument(
        "--domain", action="append", default=[], metavar="X=positive",
        help="where an argument's numbers are from: reals (the default), positive, negative, nonzero, unit, int, bool, or LOW:HIGH",
    )  # fmt: skip
    function.add_argument(
        "--dtype", action="append", default=[], metavar="X=complex128", help="an argument's dtype (default: float64)"
    )
    function.add_argument(
        "--value", action="append", default=[], metavar="AXIS=0", help="an argument with one value: a Python literal"
    )
    function.add_argument("--order", type=int, metavar="N", help="up to which order of derivative (default: 2)")
    function.add_argument("--modes", metavar="rev,fwd", help="reverse mode, forward mode, or both (the default)")
    function.add_argument("--rtol", type=float, metavar="R", help="the relative error allowed (default: 1e-6)")
    function.add_argument("--seed", type=int, metavar="N", help="of the draws (default: 0)")
