"""The options of `hammer run`; only argparse is imported here."""

import argparse


def run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="a YAML or TOML file")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings that go before what the file says")
    parser.add_argument(
        "--print-config", action="store_true", help="print the whole config, defaults included, and stop"
    )
