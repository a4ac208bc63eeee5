"""The options of `hammer run`; only argparse is imported here."""

import argparse
from pathlib import Path


def run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG|STUDY", help="a YAML or TOML file, or the folder of a study (study.py)"
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings that go before what the file says")
    parser.add_argument(
        "--print-config", action="store_true", help="print the whole config, defaults included, and stop"
    )
    study = parser.add_argument_group("of studies")
    study.add_argument("--quick", action="store_true", help="a small version of the study, in seconds")
    study.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="parts that run at a time, a process each (default: 1)"
    )
    study.add_argument(
        "--out", type=Path, metavar="DIR", help="where the report goes (default: reports; with --quick STORE/quick)"
    )
    study.add_argument(
        "--store", type=Path, default=Path("runs"), metavar="DIR", help="where finished parts are kept (default: runs)"
    )
