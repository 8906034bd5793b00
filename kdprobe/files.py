"""How does a file reach the disk?  Whole or not at all: a temporary name first, then a rename."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdprobe.errors import OutputError


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); free some space, or choose another "
            "folder with --out; what was finished is kept, and the same command continues"
        ) from error


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` to `path`, making its folder; a reader sees the old file or the whole new.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    return path
