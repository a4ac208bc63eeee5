"""Files that are there whole or not at all: a temporary file beside the target, flushed to the disk, takes its name."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """``with replacing(path) as temporary: ...``: what the block writes to ``temporary`` becomes ``path`` when it ends.

    A reader sees the old content or the new, never a part of it, also after a loss of power. If the block raises, the old
    content stays and the temporary file goes.

    Args:
        path: the file to write, in a folder that exists.
        temporary: a name of its own for the temporary file, in the same folder; None: one that no other writer has.
    """
    if temporary is None:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        os.chmod(name, 0o644)
        temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except BaseException:  # also a KeyboardInterrupt must not leave the temporary file behind; it is raised again
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file, text in UTF-8 as it is, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def flush_folder(folder: Path) -> None:
    """Wait until names in the folder are on the disk, where the system can do that."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
