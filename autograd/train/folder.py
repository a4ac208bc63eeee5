"""A folder of checkpoints: which there are, which to keep, which to go on from.

Files are called ``NUMBER-epoch-E-step-S.safetensors``; NUMBER counts the saves in this folder, so the newest is the last in
order whatever its step is (a run that goes on from an old checkpoint repeats steps). Epoch, step and metric are in the
header too (``files.read_about``). There is no index that could disagree with the files. One process writes to a folder at a time.
"""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..atomic import flush_folder
from .files import (
    SUFFIX,
    CheckpointError,
    DamagedCheckpoint,
    load_state,
    read_about,
    save_state,
    temporary_of,
)

_NAME = re.compile(r"(\d{6,})-epoch-(\d+)-step-(\d+)" + re.escape(SUFFIX))


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was passed over; the message names it and the one that is used instead."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint of a folder.

    Attributes:
        path: the file.
        number: how many were saved before it in this folder, and itself.
        step, epoch: as given to ``CheckpointFolder.save``.
        metric: as given, or None.
        end_of_epoch: as given.
    """

    path: Path
    number: int
    step: int
    epoch: int
    metric: float | None
    end_of_epoch: bool


class CheckpointFolder:
    """The checkpoints of a run: its newest, its best, and, if wanted, the last of every epoch.

    Args:
        folder: made, with the folders above it, at the first ``save``.
        keep_last: how many of the newest are kept, at least 1.
        keep_best: how many of the best by metric are kept; of equal ones the older.
        every_epoch: whether every checkpoint saved at the end of an epoch is kept for good.
        mode: whether a smaller ("min") or a larger ("max") metric is better. NaN is worse than any number.
    """

    def __init__(
        self,
        folder: Path | str,
        keep_last: int = 1,
        keep_best: int = 1,
        every_epoch: bool = False,
        mode: Literal["min", "max"] = "min",
    ):
        if keep_last < 1 or keep_best < 0:
            raise ValueError(
                f"keep_last must be at least 1 and keep_best at least 0, not {keep_last!r} and {keep_best!r}"
            )
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max", not {mode!r}')
        self.folder = Path(folder)
        self.keep_last, self.keep_best, self.every_epoch, self.mode = keep_last, keep_best, every_epoch, mode

    def save(
        self,
        state: Mapping[str, Any],
        *,
        step: int,
        epoch: int,
        metric: float | None = None,
        end_of_epoch: bool = True,
    ) -> Path:
        """Write ``state`` as a new checkpoint; when it is safely on the disk, remove those that need not be kept.

        Damaged files are left where they are. A temporary file that a killed process left behind is removed.

        Returns:
            The new file.

        Raises:
            CheckpointError: it could not be written; then nothing is removed.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot be made: {error.strerror}") from None
        number = max((number for number, _ in self._files()), default=0) + 1
        path = self.folder / f"{number:06d}-epoch-{epoch}-step-{step}{SUFFIX}"
        facts = {"step": step, "epoch": epoch, "metric": metric if metric is None else float(metric)}
        save_state(path, state, {**facts, "end_of_epoch": end_of_epoch})
        self._tidy(path)
        return path

    def saved(self) -> list[Saved]:
        """The checkpoints from the oldest to the newest, as far as their headers can be read and their lengths are right."""
        return self._read()[0]

    def _read(self) -> tuple[list[Saved], list[DamagedCheckpoint]]:
        """What the headers say, and the faults of those that say nothing."""
        saved, faults = [], []
        for number, path in self._files():
            try:
                about = read_about(path)
            except DamagedCheckpoint as error:
                faults.append(error)
                continue
            facts = (about.get(name) for name in ("step", "epoch", "metric", "end_of_epoch"))
            saved.append(Saved(path, number, *facts))  # type: ignore[arg-type]
        return saved, faults

    def latest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint, as its file and its state; None where there is no checkpoint.

        Damaged newer ones are passed over with a ``CheckpointWarning`` that names each, and what is wrong with it.

        Raises:
            CheckpointError: there are checkpoints, and none is whole; or one cannot be read for another reason.
        """
        return self._first_whole([path for _, path in reversed(self._files())])

    def best(self) -> tuple[Path, dict[str, Any]] | None:
        """The best whole checkpoint by metric, in the same way; None where none has a metric."""
        saved, faults = self._read()
        for fault in faults:  # it may have been the best one
            warnings.warn(f"{fault}; it is passed over, whatever its metric was", CheckpointWarning, stacklevel=2)
        return self._first_whole([one.path for one in self._ranked(saved)])

    def _files(self) -> list[tuple[int, Path]]:
        """Numbers and files, in order."""
        if not self.folder.is_dir():
            return []
        named = ((_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted((int(match[1]), path) for match, path in named if match)

    def _ranked(self, saved: list[Saved]) -> list[Saved]:
        """Those with a metric, the best first."""
        sign = 1.0 if self.mode == "min" else -1.0
        worth = lambda one: (math.isnan(one.metric), sign * one.metric, one.number)
        return sorted((one for one in saved if one.metric is not None), key=worth)

    def _first_whole(self, paths: list[Path]) -> tuple[Path, dict[str, Any]] | None:
        faults: list[str] = []
        for path in paths:
            try:
                state = load_state(path)
            except DamagedCheckpoint as error:
                faults.append(str(error))
                continue
            for fault in faults:
                warnings.warn(f"{fault}; {path.name} is used instead", CheckpointWarning, stacklevel=3)
            return path, state
        if faults:
            raise CheckpointError(
                f"{self.folder}: none of its {len(faults)} checkpoints is whole; the first: {faults[0]}"
            )
        return None

    def _tidy(self, new: Path) -> None:
        saved = self.saved()
        kept = {one.path for one in saved[-self.keep_last :]} | {new}
        kept |= {one.path for one in self._ranked(saved)[: self.keep_best]}
        kept |= {one.path for one in saved if self.every_epoch and one.end_of_epoch}
        for one in saved:
            if one.path not in kept:
                one.path.unlink(missing_ok=True)
        for left in self.folder.glob(temporary_of(Path(f"*{SUFFIX}")).name):
            left.unlink(missing_ok=True)
        flush_folder(self.folder)


def load_checkpoint(where: Path | str, mode: Literal["min", "max"] = "min") -> tuple[Path, dict[str, Any]]:
    """What ``training.resume_from`` names: a file, a folder (its newest whole checkpoint), or ``FOLDER/best`` or ``FOLDER/last``.

    ``mode`` says which metric is better, as in ``CheckpointFolder``.

    Raises:
        CheckpointError: there is no such file or folder, or no whole checkpoint in it.
    """
    path = Path(where)
    if path.is_file():
        return path, load_state(path)
    if path.is_dir():
        found = CheckpointFolder(path).latest()
    elif path.name in ("best", "last") and path.parent.is_dir():
        folder = CheckpointFolder(path.parent, mode=mode)
        found = folder.latest() if path.name == "last" else folder.best()
    else:
        raise CheckpointError(f"{path}: there is no such file or folder")
    if found is None:
        raise CheckpointError(f"{path}: there is no checkpoint in this folder")
    return found
