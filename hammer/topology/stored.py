"""Diagrams of several things at several moments, and a file for them: what a page shows, kept as JSON.

    save_diagrams("run.json", {"layer 1": {"epoch 1": rips(a), "epoch 2": rips(b)}}, landscape)
    diagrams, landscape = load_diagrams("run.json")

Numbers of a file are those of the diagrams to the last digit, in float64; places and derivatives are not kept.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autograd.atomic import write_atomically

from .diagram import Diagram, host_of
from .metric import host
from .pictures import as_diagrams
from .slices import Landscape, as_landscape

FORMAT = "hammer diagrams 1"

Sets = dict[str, dict[str, tuple[Diagram, ...]]]
"""What -> moment -> diagrams, one for each dimension; moments in order."""


def sets_of(diagrams: Any) -> Sets:
    """Diagrams in the one form that pages and files have.

    Args:
        diagrams: a Diagram or a sequence of them; or moment -> those; or name -> moment -> those. None: nothing.

    Raises:
        TypeError, ValueError: something else, or moments of one name that have different dimensions.
    """
    if diagrams is None:
        return {}
    if not isinstance(diagrams, Mapping):
        return {"": {"": as_diagrams(diagrams, "diagrams")}}
    if not any(isinstance(value, Mapping) for value in diagrams.values()):
        diagrams = {"": diagrams} if diagrams else {}
    found: Sets = {}
    for name, moments in diagrams.items():
        if not isinstance(moments, Mapping):
            moments = {"": moments}
        if not moments:
            raise ValueError(f"diagrams: {name!r} has no moments")
        found[str(name)] = {str(m): as_diagrams(d, f"diagrams of {name!r}, {m!r}") for m, d in moments.items()}
        kinds = {tuple(d.dimension for d in one) for one in found[str(name)].values()}
        if len(kinds) > 1:
            raise ValueError(f"diagrams: the moments of {name!r} have different dimensions: {sorted(kinds)}")
    return found


def save_diagrams(path: Path | str, diagrams: Any = None, landscape: Any = None) -> None:
    """Write diagrams, a landscape, or both to a JSON file, as a whole or not at all.

    Args:
        path: the file.
        diagrams: see ``sets_of``: a Diagram, several, by moment, or by name and moment.
        landscape: a Landscape of two axes, or a 2-D array.
    """
    shape = None if landscape is None else as_landscape(landscape)
    content: dict[str, Any] = {
        "format": FORMAT,
        "sets": [
            {
                "name": name,
                "moments": [
                    {
                        "label": label,
                        "diagrams": [
                            {"dimension": d.dimension, "pairs": _numbers(d.pairs), "essential": _numbers(d.essential)}
                            for d in one
                        ],
                    }
                    for label, one in moments.items()
                ],
            }
            for name, moments in sets_of(diagrams).items()
        ],
    }
    if shape is not None:
        content["landscape"] = {
            "values": _numbers(shape.values),
            "coordinates": [_numbers(c) for c in shape.coordinates],
        }
        if shape.path is not None:
            content["landscape"]["path"] = _numbers(shape.path)
    write_atomically(Path(path), json.dumps(content, allow_nan=False) + "\n")


def load_diagrams(path: Path | str) -> tuple[Sets, Landscape | None]:
    """What ``save_diagrams`` wrote: name -> moment -> diagrams, and the landscape if there is one.

    Raises:
        ValueError: the file is something else, or damaged; the message says what is wrong. OSError: it cannot be read.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"its format is {content.get('format')!r}, not {FORMAT!r}")
        sets = {
            one["name"]: {
                moment["label"]: tuple(
                    Diagram(int(d["dimension"]), _array(d["pairs"], (-1, 2)), _array(d["essential"], (-1,)))
                    for d in moment["diagrams"]
                )
                for moment in one["moments"]
            }
            for one in content["sets"]
        }
        shape = content.get("landscape")
        if shape is not None:
            coordinates = tuple(_array(c, (-1,)) for c in shape["coordinates"])
            steps = _array(shape["path"], (-1, len(coordinates))) if "path" in shape else None
            shape = Landscape(_array(shape["values"], tuple(map(len, coordinates))), coordinates, steps)
        return sets_of(sets), None if shape is None else as_landscape(shape)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no file of save_diagrams, or a damaged one: {error}") from None


def _numbers(values: Any) -> list:
    return host_of(values).tolist()  # type: ignore[no-any-return]


def _array(values: list, shape: tuple[int, ...]) -> np.ndarray:
    return host(np.asarray(values, np.float64).reshape(shape), "numbers")
