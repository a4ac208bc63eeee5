"""``hammer agents launch``: `hammer run` on several ranks of this machine."""

import argparse
import sys

from hammer.agents import AgentsError, launch

from .errors import UsageError


def agents(arguments: argparse.Namespace) -> int:
    """Print the line that starts the ranks, and, unless it is a dry run, run it; returns the exit code."""
    program = [sys.executable, "-m", "hammer.lab", "run", arguments.config, *arguments.settings]
    try:
        plan = launch.plan(arguments.ranks, program, survive=arguments.survive)
    except (AgentsError, ValueError) as error:
        raise UsageError(str(error)) from None
    print(plan.line(), file=sys.stdout if arguments.dry_run else sys.stderr, flush=True)
    return 0 if arguments.dry_run else plan.run()
