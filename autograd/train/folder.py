"""A folder of checkpoints: which there are, which to keep, which to go on from."""

from pathlib import Path
from typing import Any


class CheckpointFolder:
    """The checkpoints of a run: its newest, its best, and, if wanted, one of every epoch.

    Args:
        folder: made if it is not there.
        keep_last: how many of the newest are kept, at least 1.
        keep_best: how many of the best by metric are kept.
        every_epoch: whether the last checkpoint of every epoch is kept for good.
        mode: whether a smaller ("min") or a larger ("max") metric is better.
    """

    def __init__(
        self, folder: Path | str, keep_last: int = 1, keep_best: int = 1, every_epoch: bool = False, mode: str = "min"
    ):
        self.folder = Path(folder)
        self.keep_last, self.keep_best, self.every_epoch, self.mode = keep_last, keep_best, every_epoch, mode

    def save(
        self, state: dict[str, Any], *, step: int, epoch: int, metric: float | None = None, end_of_epoch: bool = True
    ) -> Path:
        """Write ``state`` as the checkpoint of ``step``; then remove what need not be kept. Returns the file."""
        raise NotImplementedError

    def latest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint: its file and state. None in an empty folder. Skips damaged files with a warning that names them."""
        raise NotImplementedError

    def best(self) -> tuple[Path, dict[str, Any]] | None:
        """The best checkpoint by metric, in the same way."""
        raise NotImplementedError
