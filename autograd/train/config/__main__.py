"""``python -m autograd.train.config`` prints the reference page, ``docs/config.md``."""

import sys

from .render import reference

sys.stdout.write(reference())
