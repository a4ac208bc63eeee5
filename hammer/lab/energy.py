"""``hammer energy``: which meters work here; and the cost model fitted to this machine."""

import argparse
from pathlib import Path

from .errors import UsageError


def options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("meters", help="which meters work here, and why others do not (what is done without an action)")
    calibrate = actions.add_parser("calibrate", help="fit the cost model's coefficients to this machine")
    calibrate.add_argument(
        "--out", type=Path, default=Path("technology.json"), metavar="FILE", help="the table (default: %(default)s)"
    )
    calibrate.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="of each run of a workload; a wall meter needs 10 (default: %(default)s)",
    )
    calibrate.add_argument(
        "--repeats", type=int, default=3, help="runs of each of the six workloads (default: %(default)s)"
    )
    calibrate.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="run the workloads and keep their times; the joules come later, from --wall",
    )
    calibrate.add_argument(
        "--wall",
        type=Path,
        metavar="CSV",
        help="a wall-socket meter's log, columns time and watts, of the recorded runs",
    )
    calibrate.add_argument("--runs", type=Path, metavar="FILE", help="the runs that --record kept, for --wall")


def command(arguments: argparse.Namespace) -> int:
    """What ``hammer energy`` does; returns 0."""
    return _calibrate(arguments) if arguments.action == "calibrate" else _meters()


def _meters() -> int:
    from hammer.energy import Unavailable
    from hammer.energy.counters import SOURCES
    from hammer.energy.hardware import available

    for name, open_ in SOURCES.items():
        try:
            source = open_()
        except Unavailable as error:
            print(f"{name:<8}no: {error}")
        else:
            print(f"{name:<8}yes: {'; '.join((source.name, *source.faults))}")
            source.close()
    events = available()
    counted = [name for name, why in events.items() if why is None]
    if counted:
        print(f"events  yes: {', '.join(counted)}")
    if len(counted) < len(events):  # the first reason stands for the others of its kind
        print(f"events  no: {next(why for why in events.values() if why)}")
    print("model   yes: tables 45nm and 7nm, or one of `hammer energy calibrate`")
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    from hammer.energy import Meter, find
    from hammer.energy.calibration import fit, load_runs, read_wall, record, save_runs

    if (arguments.wall is None) != (arguments.runs is None):
        raise UsageError(
            "calibrate: --wall CSV and --runs FILE belong together; make the runs with --record FILE first"
        )
    try:
        if arguments.record is not None:
            save_runs(arguments.record, record(None, arguments.seconds, arguments.repeats))
            print(f"recorded to {arguments.record}; now: hammer energy calibrate --runs {arguments.record} --wall CSV")
            return 0
        if arguments.wall is not None:
            found = fit(load_runs(arguments.runs), read_wall(arguments.wall))
        else:
            source = find()
            if source.kind != "measured":
                raise UsageError(
                    f"calibrate: nothing measures joules here ({source.name}); with a meter at the wall socket, use --record and --wall"
                )
            with Meter(source) as meter:
                found = fit(record(meter, arguments.seconds, arguments.repeats))
    except (OSError, ValueError) as error:
        raise UsageError(f"calibrate: {error}") from error
    found.table.save(arguments.out)
    print(f"{found}\ntable: {arguments.out}")
    return 0
