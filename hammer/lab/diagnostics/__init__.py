"""Pass/fail diagnostics: small landscapes with one difficulty each (after Schaul et al., "Unit tests for stochastic
optimization", 2014, arXiv:1312.6055).

``landscape`` says what a diagnostic is and runs one, ``shapes`` and ``oracles`` have the diagnostics (difficult functions;
gradients that are spoiled on the way), ``verdict`` decides who passes and whether a diagnostic counts, and ``command`` is
`hammer diagnose`.
"""

from . import oracles, shapes
from .landscape import Diagnostic

ALL: dict[str, Diagnostic] = {d.name: d for d in (*shapes.DIAGNOSTICS, *oracles.DIAGNOSTICS)}
"""Every diagnostic, by name."""
