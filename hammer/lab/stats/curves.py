"""When a curve gets somewhere."""

import numpy as np


def reached(values: np.ndarray, target: float, every: int) -> float:
    """Steps until a curve is at or below ``target`` for the first time, by a straight line between evaluations.

    Args:
        values: (evaluations,), one after each ``every`` steps; NaN is not at the target. Of a curve that rises to its target give
            values and target with the other sign.
        target: where the curve is to get.
        every: steps from one evaluation to the next.

    Returns:
        ``every`` at least; of a curve that does not get there one evaluation more than it has, so that means over runs stay
        finite (say how many there are of those).
    """
    there = np.flatnonzero(values <= target)
    if not len(there):
        return float((len(values) + 1) * every)
    k = int(there[0])
    if k == 0 or not np.isfinite(values[k - 1]):
        return float((k + 1) * every)
    return every * (k + float((values[k - 1] - target) / (values[k - 1] - values[k])))
