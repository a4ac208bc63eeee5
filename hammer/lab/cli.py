"""The ``hammer`` command: its commands and exit codes. What a command does is imported when it is asked for.

The options of the laboratory's commands are in ``options``, those of `check` and `run` beside what they belong to.
Nothing that takes long to import (NumPy, autograd) is imported for `--help` or for an option that does not exist.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from .errors import UsageError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

EXIT_CODES = """exit codes:
  0    done
  1    done, but a trial raised an error (the report names it), `hammer check` found a wrong derivative, `hammer reproduce` other
       bits, `hammer doctor` a fault, or a diagnostic of `hammer diagnose` does not count; or training could not go on (a loss
       that is not finite)
  2    bad input or a missing library: one line says what, and nothing was run
  130  interrupted: what was done is kept, and a message says how to go on
"""


class Command(NamedTuple):
    """A command: its function ``MODULE:NAME``, a line of help, the function that adds its options, its examples."""

    function: str
    help: str
    options: str | None = None
    description: str | None = None
    examples: tuple[str, ...] = ()


COMMANDS = {
    "compare": Command(
        "commands:compare", "compare optimizers on problems and write a report", "options:compare",
        "Tune every optimizer under the same budget, score it on fresh seeds, and write a report.\n"
        "Finished trials are kept in a store, so a second run of the same comparison only reads them.",
        ("compare quick", "compare vortex adam sgd --problems light --trials 16 --seeds 10", "compare study.yaml --jobs 4 --dry-run",
         "compare mine adam --from lab", "mpiexec -n 5 hammer compare full --executor mpi"),
    ),
    "bench": Command(
        "commands:bench", "compare optimizers on a shipped suite of problems", "options:bench",
        "`hammer compare SUITE`: the suites are smoke (less than a minute), light (minutes), full (three quarters of an hour of one "
        "core for the shipped optimizers) and long.",
        ("bench --suite smoke", "bench --suite light vortex adam"),
    ),
    "report": Command(
        "reports:report", "write the report of finished runs again, or merge several into one", "options:report",
        "Write a report anew from what is stored with it, or one report of several runs that followed the same rules.",
        ("report quick", "report monday tuesday --name both", "report quick.zip --out elsewhere"),
    ),
    "watch": Command(
        "watch:watch", "a live page of the sweeps in a store, on this machine only", "options:watch",
        "Serve a page on 127.0.0.1 that shows what is planned, done and failed, the time left and the curves so far. Ends with Ctrl-C.",
        ("watch", "watch --store runs --port 8000"),
    ),
    "reproduce": Command(
        "reproduce:reproduce", "run trials of a finished comparison again and compare bits", "options:reproduce",
        "Run stored trials again and say whether every step has the same bits, or where the first one differs.",
        ("reproduce quick", "reproduce reports/quick@3f2a --jobs 1", "reproduce quick.zip --trials 20"),
    ),
    "export": Command(
        "export:export", "write a report and its trials as one archive that another machine can reproduce", "options:export"
    ),
    "diagnose": Command(
        "diagnostics.command:diagnose", "pass/fail diagnostics of optimizers: saddles, cliffs, noise, delay, ...", "options:diagnose",
        "Try optimizers on small landscapes with one difficulty each, and print who passes.",
        ("diagnose vortex adam",),
    ),
    "list": Command("commands:listing", "list the problems or optimizers there are", "options:listing"),
    "new": Command("templates:new", "write a small working problem or optimizer of your own, with its test", "options:new"),
    "check": Command(
        "checks.command:check", "property-test derivatives: of the op table, or of a function", "checks.options:check",
        "Check every row of the op table, or a function of yours, on drawn calls.\n"
        "A failure is shown as small as it can be made, with the operation that is wrong and a test to paste.",
        ("check autograd", "check autograd --rows exp,matmul --examples 200",
         "check mymodule:loss --shape w=n --shape x=k,n --domain x=positive"),
    ),
    "run": Command(
        "training.command:run", "train a model as a config file says, or run a study", "training.options:run",
        "Train what a config file describes: data, model, optimizer, schedule, logs, checkpoints (docs/config.md lists the keys).\n"
        "Given a folder with a study.py, run that study and write its report. Ctrl-C saves and says how to go on.",
        ("run experiments/mnist.yaml", "run experiments/mnist.yaml training.lr=1e-3 optimizer.chain=[sgd]",
         "run --print-config experiments/mnist.yaml", "run experiments/bilinear_game", "run experiments/grokking --jobs 2"),
    ),
    "agents": Command(
        "launching:agents", "train a model as a config file says, on several ranks of this machine", "options:agents",
        "Print the mpiexec line, with what this machine needs set, and run it: every rank runs `hammer run`.\n"
        "Bits do not depend on the number of ranks. Needs the extra mpi. On a cluster: srun hammer run CONFIG.",
        ("agents launch -n 4 experiments/mnist.yaml", "agents launch -n 2 --dry-run experiments/mnist.yaml training.micro_batches=8",
         "agents launch -n 4 experiments/mnist.yaml training.timeline=run.html"),
    ),
    "schema": Command("training.command:schema", "print the JSON Schema of configs, for editors"),
    "energy": Command(
        "energy:command", "show which energy meters work here; fit the cost model to this machine", "energy:options",
        "Show which meters of joules work on this machine and why others do not, or fit the coefficients of the cost model to it, from a\n"
        "counter or from the log of a meter at the wall socket.",
        ("energy", "energy calibrate --out mine.json", "energy calibrate --record runs.json --seconds 20",
         "energy calibrate --runs runs.json --wall watts.csv --out mine.json"),
    ),
    "topology": Command(
        "topology:command", "a page of the shape of a training run: barcodes over epochs, loss landscape, merge tree", "topology:options",
        "Write one HTML page, which needs no network: barcodes beside diagrams of the weights at every checkpoint, with a slider, and a\n"
        "slice of the loss around the last weights with its minima, passes and merge tree. RUN is the folder of checkpoints of `hammer\n"
        "run` (training.checkpoint_dir; set training.save_every_epoch=true), a checkpoint, or stored diagrams or numbers.",
        ("topology runs/mnist", "topology runs/mnist --landscape 41 --radius 0.5 --out page.html", "topology runs/mnist --plane trajectory",
         "topology diagrams.json --pictures figures --format pdf", "topology landscape.npy"),
    ),
    "doctor": Command(
        "doctor:doctor", "show what Hammer finds on this machine: Python, BLAS, GPU, MPI, energy meters, extras"
    ),
}  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(USAGE)


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> NoReturn:
        from hammer import __version__

        print(f"hammer {__version__}")
        sys.exit(DONE)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        "hammer",
        description="Compare gradient-based optimizers, reproducibly, and check derivatives.",
        epilog=EXIT_CODES,
        formatter_class=form,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, command in COMMANDS.items():
        lines = [one if one.startswith("mpiexec") else f"hammer {one}" for one in command.examples]
        examples = "examples:\n" + "".join(f"  {line}\n" for line in lines) + "\n" if lines else ""
        own = commands.add_parser(
            name, help=command.help, description=command.description or command.help, epilog=examples + EXIT_CODES, formatter_class=form,
        )  # fmt: skip
        if command.options is not None:
            _imported(command.options)(own)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (the process's own arguments if None); returns the exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        close = difflib.get_close_matches(given[0].lower(), COMMANDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(COMMANDS)}"
        print(f"hammer: unknown command {given[0]!r}{hint} (see hammer --help)", file=sys.stderr)
        return USAGE
    parser = _parser()
    arguments, unknown = parser.parse_known_args(given)
    try:
        if unknown:
            raise UsageError(_unknown(parser, arguments.command, unknown[0]))
        run: Callable[[argparse.Namespace], int] = _imported(COMMANDS[arguments.command].function)
        if own := getattr(arguments, "own", []):
            from .discovery import looking_in

            with looking_in(own):
                return run(arguments)
        return run(arguments)
    except UsageError as error:
        print(f"hammer {arguments.command}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:  # before any trial ran, or a second time
        print(f"hammer {arguments.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `hammer list optimizers | head -1`
        sys.stderr.close()
        return DONE


def _unknown(parser: argparse.ArgumentParser, command: str, argument: str) -> str:
    hint = ""
    if argument.startswith("--"):
        (choices,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        options = [name for action in choices[command]._actions for name in action.option_strings]
        close = difflib.get_close_matches(argument.partition("=")[0], options, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown argument {argument!r}{hint} (see hammer {command} --help)"
