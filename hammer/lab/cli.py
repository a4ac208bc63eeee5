"""The ``hammer`` command: its options and exit codes. What it does is imported when it is asked for."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .errors import UsageError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EXIT_CODES = """exit codes:
  0    done
  1    done, but a trial raised an error (the report names it), `hammer check` found a wrong derivative, `hammer reproduce` other
       bits, `hammer doctor` a fault, or a diagnostic of `hammer diagnose` does not count; or training could not go on (a loss
       that is not finite)
  2    bad input or a missing library: one line says what, and nothing was run
  130  interrupted: what was done is kept, and a message says how to go on
"""


_CHECK_EXAMPLES = f"""examples:
  hammer check autograd
  hammer check autograd --rows exp,matmul --examples 200
  hammer check mymodule:loss --shape w=n --shape x=k,n --domain x=positive

{_EXIT_CODES}"""


_RUN_EXAMPLES = f"""examples:
  hammer run experiments/mnist.yaml
  hammer run experiments/mnist.yaml training.lr=1e-3 optimizer.chain=[sgd]
  hammer run --print-config experiments/mnist.yaml

{_EXIT_CODES}"""


_REPRODUCE_EXAMPLES = f"""examples:
  hammer reproduce quick
  hammer reproduce reports/quick@3f2a --jobs 1
  hammer reproduce quick.zip --trials 20

{_EXIT_CODES}"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(USAGE)


def _parser() -> argparse.ArgumentParser:
    from hammer import __version__

    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        "hammer",
        description="Compare gradient-based optimizers, reproducibly, and check derivatives.",
        epilog=_EXIT_CODES,
        formatter_class=form,
    )
    parser.add_argument("--version", action="version", version=f"hammer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    compare = commands.add_parser(
        "compare", help="compare optimizers on workloads and write a report", epilog=_EXIT_CODES, formatter_class=form,
        description="Tune every optimizer under the same budget, score it on fresh seeds, and write a report.\n"
        "Finished trials are kept in a store, so a second run of the same comparison only reads them.",
    )  # fmt: skip
    compare.add_argument(
        "what", nargs="*", metavar="CONFIG|OPTIMIZER",
        help="a YAML file, a shipped config (quick, smoke, light, full, long, targets), or optimizers to compare instead of the config's; default: quick",
    )  # fmt: skip
    compare.add_argument("--workloads", metavar="A,B", help="compare on these workloads instead of the config's")
    compare.add_argument(
        "--rules",
        metavar="RULES",
        help="tuned (default), default (published defaults) or self-tuning (docs/protocol.md)",
    )
    compare.add_argument("--trials", type=int, metavar="K", help="settings tried for each optimizer and workload")
    compare.add_argument("--seeds", type=int, metavar="N", help="scoring seeds")
    compare.add_argument("--name", help="the report's name, a folder in --out (default: the config's name)")
    compare.add_argument(
        "--out", type=Path, default=Path("reports"), metavar="DIR", help="where reports go (default: reports)"
    )
    compare.add_argument(
        "--store", type=Path, default=Path("runs"), metavar="DIR", help="where finished trials are kept (default: runs)"
    )
    compare.add_argument(
        "--jobs", type=int, metavar="N", help="trials that run at a time (default: the number of usable cores)"
    )
    compare.add_argument("--dry-run", action="store_true", help="say what would be run, and stop")

    check = commands.add_parser(
        "check", help="property-test derivatives: of the op table, or of a function", epilog=_CHECK_EXAMPLES, formatter_class=form,
        description="Check every row of the op table, or a function of yours, on drawn calls.\n"
        "A failure is shown as small as it can be made, with the operation that is wrong and a test to paste.",
    )  # fmt: skip
    check.add_argument(
        "target", metavar="autograd|MODULE:FUNCTION", help="the op table, or a function (FILE.py:FUNCTION as well)"
    )
    check.add_argument(
        "--examples", type=int, metavar="N", help="calls drawn: for each row (default: 25), or in all (default: 50)"
    )
    table = check.add_argument_group("of the op table")
    table.add_argument("--rows", metavar="A,B", help="only these rows")
    table.add_argument(
        "--jobs", type=int, metavar="N", help="rows checked at a time (default: the number of usable cores)"
    )
    table.add_argument("--out", type=Path, metavar="DIR", help="where reports go (default: reports)")
    table.add_argument("--name", help="the report's name, a folder in --out (default: check)")
    function = check.add_argument_group("of a function")
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

    run = commands.add_parser(
        "run", help="train a model as a config file says", epilog=_RUN_EXAMPLES, formatter_class=form,
        description="Train what a config file describes: data, model, optimizer, schedule, logs, checkpoints.\n"
        "docs/config.md lists the keys; Ctrl-C saves and says how to go on.",
    )  # fmt: skip
    run.add_argument("config", nargs="?", metavar="CONFIG", help="a YAML or TOML file")
    run.add_argument("settings", nargs="*", metavar="key=value", help="settings that go before what the file says")
    run.add_argument("--print-config", action="store_true", help="print the whole config, defaults included, and stop")
    commands.add_parser("schema", help="print the JSON Schema of configs, for editors")

    reproduce = commands.add_parser(
        "reproduce", help="run trials of a finished comparison again and compare bits", epilog=_REPRODUCE_EXAMPLES, formatter_class=form,
        description="Run stored trials again and say whether every step has the same bits, or where the first one differs.",
    )  # fmt: skip
    reproduce.add_argument(
        "run", metavar="RUN[@TRIAL]", help="a report (its name or folder), an archive of `hammer export`, or a store; @ and the first digits of a trial's key",
    )  # fmt: skip
    reproduce.add_argument("--trials", type=int, metavar="K", help="how many trials are drawn (default: 3)")
    reproduce.add_argument("--seed", type=int, metavar="N", help="of the draw (default: another one each time)")
    reproduce.add_argument("--jobs", type=int, metavar="N", help="trials at a time (default: the usable cores)")

    export = commands.add_parser(
        "export", help="write a report and its trials as one archive that another machine can reproduce"
    )
    export.add_argument("run", metavar="RUN", help="a report: its name or folder")
    export.add_argument("--out", type=Path, metavar="FILE", help="the archive (default: the report's name and .zip)")
    export.add_argument(
        "--store", type=Path, default=Path("runs"), metavar="DIR", help="where the trials' records are (default: runs)"
    )

    diagnose = commands.add_parser(
        "diagnose", help="pass/fail diagnostics of optimizers: saddles, cliffs, noise, delay, ...", epilog=_EXIT_CODES,
        formatter_class=form, description="Try optimizers on small landscapes with one difficulty each, and print who passes.",
    )  # fmt: skip
    diagnose.add_argument("optimizers", nargs="+", metavar="OPTIMIZER", help="what to try (hammer list optimizers)")
    diagnose.add_argument("--only", metavar="A,B", help="only these diagnostics")

    listing = commands.add_parser("list", help="list the problems or optimizers there are")
    listing.add_argument("what", choices=["problems", "workloads", "optimizers"], help="workloads are problems")
    for command in (compare, diagnose, listing):
        command.add_argument(
            "--from", dest="own", type=Path, action="append", default=[], metavar="FOLDER",
            help="look for problems and optimizers of your own in FOLDER/problems and FOLDER/optimizers as well",
        )  # fmt: skip
    new = commands.add_parser("new", help="write a small working problem or optimizer of your own, with its test")
    new.add_argument("kind", choices=["problem", "optimizer"])
    new.add_argument("name", help="its name: lower-case letters, digits and _")
    new.add_argument(
        "--in", dest="folder", type=Path, default=Path("lab"), metavar="FOLDER", help="where (default: lab)"
    )
    commands.add_parser(
        "doctor", help="show what Hammer finds on this machine: Python, BLAS, GPU, MPI, energy meters, extras"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (the process's own arguments if None); returns the exit code."""
    arguments, unknown = _parser().parse_known_args(argv)
    try:
        if unknown:
            raise UsageError(f"unknown argument {unknown[0]!r} (see hammer {arguments.command} --help)")
        if own := getattr(arguments, "own", []):
            from .discovery import looking_in

            with looking_in(own):
                return _run(arguments)
        return _run(arguments)
    except UsageError as error:
        print(f"hammer {arguments.command}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:  # before any trial ran, or a second time
        print(f"hammer {arguments.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `hammer list optimizers | head -1`
        sys.stderr.close()
        return DONE


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "compare":
        from .commands import compare

        return compare(arguments)
    if arguments.command == "check":
        from .checks.command import check

        return check(arguments)
    if arguments.command == "diagnose":
        from .diagnostics.command import diagnose

        return diagnose(arguments)
    if arguments.command == "new":
        from .templates import new

        return new(arguments)
    if arguments.command == "run":
        from .training.command import run

        return run(arguments)
    if arguments.command == "schema":
        from .training.command import schema

        return schema()
    if arguments.command == "reproduce":
        from .reproduce import reproduce

        return reproduce(arguments)
    if arguments.command == "export":
        from .export import export

        return export(arguments)
    if arguments.command == "list":
        from .commands import listing

        return listing(arguments.what)
    from .doctor import doctor

    return doctor()
