"""The options of the laboratory's commands, a function for each; only argparse is imported here."""

import argparse
from pathlib import Path

SUITES = ("smoke", "light", "full", "long")
"""The shipped configs that are suites of problems."""

EXECUTORS = ("serial", "processes", "mpi")
"""The names of ``executors.EXECUTORS``, which is not imported for a `--help`."""


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="own", type=Path, action="append", default=[], metavar="FOLDER",
        help="look for problems and optimizers of your own in FOLDER/problems and FOLDER/optimizers as well",
    )  # fmt: skip


def _store(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--store", type=Path, default=Path("runs"), metavar="DIR", help=f"{what} (default: runs)")


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("reports"), metavar="DIR", help="where reports go (default: reports)"
    )


def _sweep(parser: argparse.ArgumentParser) -> None:
    """What `compare` and `bench` have in common."""
    parser.add_argument(
        "--rules",
        metavar="RULES",
        help="tuned (default), default (published defaults) or self-tuning (docs/protocol.md)",
    )
    parser.add_argument("--trials", type=int, metavar="K", help="settings tried for each optimizer and problem")
    parser.add_argument("--seeds", type=int, metavar="N", help="scoring seeds")
    parser.add_argument(
        "--name", help="the report's name, a folder in --out (default: the config's, or made of what is compared)"
    )
    _out(parser)
    _store(parser, "where finished trials are kept")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="trials that run at a time (default: the number of usable cores)"
    )
    parser.add_argument(
        "--executor", choices=EXECUTORS, default="processes",
        help="where trials run: in this process, in worker processes (the default), or on the other ranks of an MPI job",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be run and how long it may take, and stop"
    )
    _own(parser)


def compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="*", metavar="CONFIG|OPTIMIZER",
        help="a YAML file, a shipped config (quick, smoke, light, full, long, targets), or optimizers to compare instead of the config's; default: quick",
    )  # fmt: skip
    parser.add_argument(
        "--problems", "--workloads", dest="workloads", metavar="A,B|SUITE",
        help="compare on these problems, or those of a suite, instead of the config's",
    )  # fmt: skip
    _sweep(parser)


def bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "optimizers", nargs="*", metavar="OPTIMIZER", help="what to compare instead of the suite's optimizers"
    )
    parser.add_argument("--suite", choices=SUITES, default="smoke", help="which problems (default: smoke)")
    _sweep(parser)


def report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a report (its name or folder) or an archive of `hammer export`"
    )
    parser.add_argument(
        "--name", help="the name of what is written (default: that of the run, or of all of them joined)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where it goes (default: where the run is, or reports for several)"
    )
    _store(parser, "where the trials' whole records are looked for")
    _own(parser)


def watch(parser: argparse.ArgumentParser) -> None:
    _store(parser, "the store of the sweeps")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="on which port (default: a free one)")


def reproduce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN[@TRIAL]",
        help="a report (its name or folder), an archive of `hammer export`, or a store; @ and the first digits of a trial's key",
    )  # fmt: skip
    parser.add_argument("--trials", type=int, metavar="K", help="how many trials are drawn (default: 3)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the draw (default: another one each time)")
    parser.add_argument("--jobs", type=int, metavar="N", help="trials at a time (default: the usable cores)")


def export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a report: its name or folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the archive (default: the report's name and .zip)")
    _store(parser, "where the trials' records are")


def diagnose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("optimizers", nargs="+", metavar="OPTIMIZER", help="what to try (hammer list optimizers)")
    parser.add_argument("--only", metavar="A,B", help="only these diagnostics")
    _own(parser)


def agents(p: argparse.ArgumentParser) -> None:
    p.add_argument("action", choices=("launch",), help="what to do")
    p.add_argument("-n", dest="ranks", type=int, default=2, metavar="N", help="how many ranks (default: %(default)s)")
    p.add_argument("config", metavar="CONFIG", help="a YAML or TOML file, as for `hammer run`")
    p.add_argument("settings", nargs="*", metavar="key=value", help="settings that go before what the file says")
    p.add_argument("--survive", action="store_true", help="go on without ranks that are killed (Open MPI's ULFM)")
    p.add_argument("--dry-run", action="store_true", help="print the line and stop")


def listing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        choices=["problems", "workloads", "optimizers"],
        help="workloads are problems (default: both)",
    )
    _own(parser)


def new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=["problem", "optimizer"])
    parser.add_argument("name", help="its name: lower-case letters, digits and _")
    parser.add_argument(
        "--in", dest="folder", type=Path, default=Path("lab"), metavar="FOLDER", help="where (default: lab)"
    )
