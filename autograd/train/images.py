"""A folder of images with a CSV file that names them and says what they show; images are read when they are asked for."""

import csv
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .data import DataError

TARGETS = ("class", "number", "text")
SHOWN = 5
"""Bad rows that an error lists."""


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        raise ImportError("images need the package pillow; install it with: pip install pillow") from None


class ImageFolder:
    """Images of a folder by the rows of a CSV file, whose first line names its columns.

    An example is ``(image, target)``: the image float32 (3, size, size), or (1, size, size) in grey, in [0, 1], or
    standardised. With a stream (``Loader(augment=True)``) a crop is taken at random, and mirrored if ``flip``; without, it
    is the middle one. All rows are checked when the dataset is made; the images' contents when they are read.

    Args:
        folder: where the images are; names in the file are relative to it.
        rows: the CSV file, UTF-8.
        image, target: names of its columns; None: its first and its second.
        kind: "class" (the target's place among the sorted ``classes``), "number" (float32), or "text".
        classes: the classes in order; None: all that occur.
        resize: the length that both sides are brought to, before the crop; None: ``size`` · 8/7, 256 for 224.
        size: of the crop, in pixels.
        flip: whether half of the augmented images are mirrored.
        grey: one channel in place of red, green and blue.
        mean, std: for each channel: images become (image - mean) / std.

    Attributes:
        targets: of all rows, without reading an image.

    Raises:
        DataError: rows that cannot be used, with file, line and reason; or, later, an image that cannot be read.
        ImportError: Pillow is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        rows: str | os.PathLike,
        *,
        image: str | None = None,
        target: str | None = None,
        kind: str = "class",
        classes: Sequence[str] | None = None,
        size: int = 224,
        resize: int | None = None,
        flip: bool = False,
        grey: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        _pillow()
        if kind not in TARGETS:
            raise DataError(f"ImageFolder: kind must be one of {', '.join(TARGETS)}, not {kind!r}")
        self.folder, self.rows = Path(folder), Path(rows)
        self.size, self.resize = size, resize or max(size, round(size * 8 / 7))
        if size < 1 or self.resize < size:
            raise DataError(f"ImageFolder: a crop of {size} pixels cannot be taken from images of {self.resize}")
        self.flip, self.mode = flip, "L" if grey else "RGB"
        channels = 1 if grey else 3
        self._mean = None if mean is None else np.asarray(mean, np.float32).reshape(channels, 1, 1)
        self._std = None if std is None else np.asarray(std, np.float32).reshape(channels, 1, 1)
        self.names, self.lines, found = self._read(image, target, kind, classes)
        self.classes: list[str] = []
        self.targets: Any = found
        if kind == "class":
            self.classes = list(classes) if classes is not None else sorted(set(found))
            places = {name: i for i, name in enumerate(self.classes)}
            self.targets = np.array([places[name] for name in found], np.int64)
        elif kind == "number":
            self.targets = np.array(found, np.float32)

    def _read(
        self, image: str | None, target: str | None, kind: str, classes: Sequence[str] | None
    ) -> tuple[list[str], list[int], list[Any]]:
        try:
            present = {entry.name for entry in os.scandir(self.folder)}
            with open(self.rows, encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, strict=True)
                header = next(reader, None)
                if not header:
                    raise DataError(f"{self.rows}: is empty; its first line must name the columns: image,label")
                if len(header) < 2:
                    raise DataError(
                        f"{self.rows}, line 1: two columns are needed, such as image,label; there is {header}"
                    )
                columns = [self._column(header, image, 0), self._column(header, target, 1)]
                names, lines, targets, bad = [], [], [], []
                for row in reader:
                    if not row:
                        continue
                    value, wrong = None, self._wrong(row, header, columns, present)
                    if wrong is None:
                        value, wrong = _target(row[columns[1]], kind, classes)
                    if wrong is not None:
                        bad.append(f"{self.rows}, line {reader.line_num}: {wrong}")
                    else:
                        names.append(row[columns[0]])
                        lines.append(reader.line_num)
                        targets.append(value)
        except csv.Error as error:
            raise DataError(f"{self.rows}, line {reader.line_num}: {error}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{self.rows}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}") from None
        if bad:
            more = f"\nand {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            raise DataError("\n".join(bad[:SHOWN]) + more)
        if not names:
            raise DataError(f"{self.rows}: there are no rows after the first line")
        return names, lines, targets

    def _column(self, header: list[str], name: str | None, place: int) -> int:
        if name is None:
            return place
        if name not in header:
            raise DataError(f"{self.rows}, line 1: there is no column {name!r}; there are {', '.join(header)}")
        return header.index(name)

    def _wrong(self, row: list[str], header: list[str], columns: list[int], present: set[str]) -> str | None:
        if len(row) != len(header):
            return f"{len(row)} fields where the first line has {len(header)}; put text with commas in double quotes"
        name = row[columns[0]]
        if not name:
            return "the image's name is empty"
        if name not in present and not ((os.sep in name or "/" in name) and (self.folder / name).is_file()):
            return f"there is no image {name!r} in {self.folder}"
        return None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple:
        return self.example(i, None)

    def example(self, i: int, rng: np.random.Generator | None) -> tuple:
        """Example i; with a stream, at a random crop."""
        pillow = _pillow()
        path = self.folder / self.names[i]
        try:
            with pillow.open(path) as file:
                pixels = file.convert(self.mode).resize((self.resize, self.resize), pillow.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:  # what Pillow raises
            raise DataError(f"{self.rows}, line {self.lines[i]}: {path} is no readable image: {error}") from None
        room = self.resize - self.size
        left, top = (room // 2, room // 2) if rng is None else map(int, rng.integers(0, room + 1, 2))
        mirror = self.flip and rng is not None and rng.random() < 0.5
        x = np.asarray(pixels.crop((left, top, left + self.size, top + self.size)), np.float32) / np.float32(255)
        x = x[None] if x.ndim == 2 else np.moveaxis(x, -1, 0)
        x = x[:, :, ::-1] if mirror else x
        x = x if self._mean is None else x - self._mean
        x = x if self._std is None else x / self._std
        return np.ascontiguousarray(x), self.targets[i]


def _target(text: str, kind: str, classes: Sequence[str] | None) -> tuple[Any, str | None]:
    """A row's target, or what is wrong with it."""
    if not text.strip():
        return None, "the target is empty"
    if kind == "number":
        try:
            value = float(text)
        except ValueError:
            return None, f"the target {text!r} is not a number"
        return value, None if np.isfinite(value) else f"the target {text!r} is not a finite number"
    if kind == "class" and classes is not None and text not in classes:
        return None, f"the class {text!r} is none of {', '.join(classes)}"
    return text, None
