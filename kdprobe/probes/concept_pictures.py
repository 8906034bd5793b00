"""Which pictures show a concept?  A folder of the user's: one folder of pictures for each concept.

No torch here, so that a metric can name the concepts before anything is looked at.

Axes: h and w pixels.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdprobe.errors import InputError

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # as PIL has it


def concepts_in(folder: str) -> dict[str, list[Path]]:
    """The pictures of every concept, in order of their names.

    Raises:
        InputError: there is no such folder, or none in it with pictures.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(
            f"found no folder {folder!r}; wanted one with a folder of pictures for every concept: "
            "correct concept_vectors.folders"
        )
    found = {}
    for inner in sorted(path for path in place.iterdir() if path.is_dir()):
        files = sorted(file for file in inner.iterdir() if file.suffix.lower() in KINDS)
        if files:
            found[inner.name] = files
    if not found:
        raise InputError(
            f"found no pictures in folders of {folder!r}; wanted {folder}/CONCEPT/PICTURE, ending "
            f"in {', '.join(KINDS)}: put the pictures of each concept into a folder of its own"
        )
    return found


def content_of(folder: str) -> str:
    """SHA-256 of the names and pictures of all concepts: what was seen of others is not used."""
    found = hashlib.sha256()
    for name, files in concepts_in(folder).items():
        for file in files:
            found.update(repr((name, file.name)).encode())
            found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def picture(file: Path, height: int, width: int) -> NDArray[np.float32]:
    """(3, h, w) in [0, 1], made as large as the data set's images.

    Raises:
        InputError: it is no picture that can be read.
    """
    try:
        with Image.open(file) as opened:
            fitting = opened.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            values = np.asarray(fitting, dtype=np.float32) / 255
    except UNREADABLE as error:
        raise InputError(
            f"found {file}, which cannot be read ({error}); wanted a picture, such as PNG or JPEG: "
            "mend it or take it out"
        ) from error
    return np.ascontiguousarray(values.transpose(2, 0, 1))
