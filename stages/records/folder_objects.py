"""Objects of a store that is a folder, each whole or not there: written beside, then renamed, or linked where none may be.

fsspec's own `pipe_file` writes a local file in place, and its `mode="create"` asks first and writes then. A hard link is made where no
name is, of any number of makers by one, on a network file system as well.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import Generator
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)


def write_whole(path: Path, data: bytes, *, beside: Path) -> None:
    """Write or replace a file; `beside` is a folder of the same file system. Raises OSError."""
    with _written(data, beside) as written:
        written.replace(path)


def create_whole(path: Path, data: bytes, *, beside: Path) -> bool:
    """Write a file where none is; returns whether this call did. Raises ValueError where the file system knows no links, and OSError."""
    with _written(data, beside) as written:
        try:
            path.hardlink_to(written)
        except FileExistsError:
            return written.stat().st_nlink == 2  # NFS may say so of the link that it has just made
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise ValueError(
                f"the file system of {path.parent} knows no hard links, without which no lock is safe"
            ) from error
    return True


@contextlib.contextmanager
def _written(data: bytes, folder: Path) -> Generator[Path]:
    """A file of its own in a folder, on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / uuid.uuid4().hex
    try:
        with path.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)
