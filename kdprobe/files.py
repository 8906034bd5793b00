"""How does a file reach the disk?  Whole or not at all: a temporary name first, then a rename."""

import contextlib
import os
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


def write_whole(path: Path, content: bytes, *, shared: bool = False) -> Path:
    """Write `content` to `path`, making its folder; a reader sees the old file or the whole new.

    Args:
        path: the file.
        content: all of it.
        shared: other processes may write the same file at once; the temporary name is then this
            process's own. Otherwise one that a killed process left is used again.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    beside = path.with_name(f".{path.name}.tmp" + (f"-{os.getpid()}" if shared else ""))
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(content)
            beside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    return path
