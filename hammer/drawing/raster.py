"""An image of an array: colours for numbers, and the bytes of a PNG file (ISO/IEC 15948) by the standard library."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

MAPS: dict[str, Sequence[tuple[int, int, int]]] = {
    # dark to bright in equal steps of lightness, also for eyes that do not see all colours
    "heat": ((13, 8, 62), (62, 20, 110), (120, 28, 109), (174, 48, 91), (219, 81, 59), (245, 130, 32), (251, 188, 62), (252, 246, 170)),
    # blue and orange about a white middle
    "diverging": ((8, 48, 107), (33, 113, 181), (107, 174, 214), (189, 215, 231), (247, 247, 247), (253, 208, 162), (253, 141, 60), (217, 72, 1), (127, 39, 4)),
}  # fmt: skip
"""Colours at equally spaced values; between them they are interpolated."""


def colours(values: np.ndarray, low: float = 0.0, high: float = 1.0, name: str = "heat") -> np.ndarray:
    """The colours of numbers.

    Args:
        values: real numbers of any shape; NaN becomes grey, what lies outside takes the nearer end's colour.
        low, high: the numbers of the first and the last colour.
        name: of ``MAPS``.

    Returns:
        uint8 of shape ``values.shape + (3,)``: red, green, blue.
    """
    if name not in MAPS:
        raise ValueError(f"colours: no map {name!r}; known: {', '.join(MAPS)}")
    if not low < high:
        raise ValueError(f"colours: low must be below high, not {low} and {high}")
    anchors = np.array(MAPS[name], np.float64)
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    place = np.clip((np.where(known, values, low) - low) / (high - low), 0, 1)
    steps = np.linspace(0, 1, len(anchors))
    found = np.stack([np.interp(place, steps, anchors[:, c]) for c in range(3)], -1)
    found[~known] = 128
    return np.rint(found).astype(np.uint8)


def png(pixels: np.ndarray, scale: int = 1) -> bytes:
    """The bytes of a PNG file.

    Args:
        pixels: uint8 of shape (height, width) for grey or (height, width, 3) for red, green, blue; row 0 is the top.
        scale: each pixel becomes a square of so many pixels a side.
    """
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(
            f"png: pixels must be uint8 of shape (height, width) or (height, width, 3), not {pixels.dtype} {pixels.shape}"
        )
    if 0 in pixels.shape:
        raise ValueError(f"png: an image without pixels: {pixels.shape}")
    pixels = pixels.repeat(scale, 0).repeat(scale, 1)
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # the first byte of a row is its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    kind = 0 if pixels.ndim == 2 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
