"""Gudhi, where it is installed: loops, voids and cubical complexes need it; connected components, distances and summaries do not.

Only the parts of gudhi under the MIT licence are used (its bottleneck distance and Delaunay complexes are GPL, by way of CGAL).
"""

import importlib
from typing import Any


def gudhi(module: str, what: str) -> Any:
    """A module of gudhi, such as "sklearn.rips_persistence" ("" for the package itself), for something that needs it.

    Raises:
        ImportError: gudhi, or scikit-learn, which it uses here, is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(f"gudhi.{module}" if module else "gudhi")
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("gudhi", "sklearn", "joblib"):
            raise
        raise ImportError(
            f'{what} needs gudhi and scikit-learn (missing: {error.name}); install them with: pip install "hammer-grad[topology]". '
            "Connected components (dimensions=(0,)) need neither."
        ) from error
