"""How does a file reach the disk?  Whole or not at all: a temporary name first, then a rename."""

import os
import tempfile
from pathlib import Path

from kdprobe.errors import OutputError


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` to `path`, making its folder.

    Raises:
        OutputError: the folder cannot be made or the file cannot be written.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        _forget(temporary)
        raise OutputError(
            f"found {path} not writable ({error.strerror or error}); wanted a folder with room "
            "for the report; free some space, or pass another folder with --out"
        ) from error
    return path


def _forget(temporary: str) -> None:
    if temporary:
        Path(temporary).unlink(missing_ok=True)
