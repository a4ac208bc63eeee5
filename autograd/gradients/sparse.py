"""Sparse gradients (``RowSparse``) in gradient transforms: what each link does with them.

``nn.Embedding(..., sparse=True)`` leaves a ``RowSparse`` in its weight's ``.grad``. It goes through a chain without ever
becoming dense, so a step costs as much as the rows that were used, whatever the size of the table:

* Links that treat every element alike (``scale``, ``trace``, ``scale_by_adam``, ``add_decayed_weights``, ``scale_by_lr``,
  and any ``leafwise`` one that is elementwise) run on the rows of the gradient and the same rows of the parameter and
  of their buffers. **Updates are lazy**: rows without a gradient this step do not move, and their buffers stay as they are.
* Plain SGD is exactly the dense SGD, for there a zero gradient is no update. With momentum it is not: a dense step
  goes on moving every row by its decaying momentum, a lazy one moves a row, and decays its momentum, only when the row is
  used. ``adam`` is PyTorch's ``SparseAdam``: moments decay only where there is a gradient, and the correction for bias counts all
  steps of the parameter, not those of the row (theirs adds eps before that correction, ours after it). Weight decay (also AdamW's) shrinks only the rows that are used.
* Clipping measures and scales the rows (zeros change no norm). The unit of ``clip_adaptively`` is a row, as in the dense case.
* ``accumulate`` adds up rows in a buffer and lets through the union of the places that the micro-batches used.
* ``compress`` encodes the array of rows, and the places go along as they are; error feedback is kept for each row of
  the table and taken up when the row is next used.
* A link that looks at a whole leaf (``leafwise(..., elementwise=False)``) raises a TypeError.
* A pair of functions from outside gets the ``RowSparse`` itself: ``g.indices``, ``g.rows``, ``g.map(function)``, ``g.dense()``.

Buffers (momentum, Adam's moments, accumulated sums, error feedback) are dense arrays of the parameter's shape, made once
by ``init``.
"""

from collections.abc import Callable
from typing import Any

from ..sparse import RowSparse, put_rows, take_rows

__all__ = ["RowSparse", "on_values", "put_rows", "take_rows", "values"]


def values(g: Any) -> Any:
    """The array of the numbers that are not zero by construction: the rows of a RowSparse, or the array itself."""
    return g.rows if type(g) is RowSparse else g


def on_values(function: Callable[[Any], Any], g: Any) -> Any:
    """``function`` of the array, or of the rows of a RowSparse, whose places it keeps."""
    return g.map(function) if type(g) is RowSparse else function(g)
