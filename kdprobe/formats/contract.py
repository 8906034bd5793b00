"""What a checkpoint format is: a file goes in, named tensors come out, and no code in it is run.

A format is a function ``read(path) -> Weights`` that claims file endings. It raises InputError
with found, wanted and do for every way in which a file can be broken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.registry import Catalogue


@dataclass(frozen=True)
class Weights:
    """The content of one checkpoint."""

    tensors: Mapping[str, Tensor]  # a network's state dict
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A reader and the file endings that it reads."""

    key: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Weights]


FORMATS: Catalogue[Format] = Catalogue("checkpoint format", "kdprobe.formats")


def checkpoint_format(
    key: str, *, suffixes: tuple[str, ...]
) -> Callable[[Callable[[Path], Weights]], Callable[[Path], Weights]]:
    """Put the reader below into FORMATS under `key`."""

    def add(read: Callable[[Path], Weights]) -> Callable[[Path], Weights]:
        FORMATS.add(key, Format(key, suffixes, read))
        return read

    return add


def read_weights(path: Path) -> Weights:
    """Read the checkpoint at `path` by the format that claims its ending.

    Raises:
        InputError: the file is missing, empty, truncated, of no known format, or holds code.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(
            f"cannot read checkpoint {path} ({error.strerror}); restore the file or take it out "
            "of the study"
        ) from error
    if size == 0:
        raise InputError(f"checkpoint {path} is empty (0 bytes); copy it again or delete it")
    for entry in FORMATS.values():
        if path.suffix in entry.suffixes:
            return entry.read(path)
    known = ", ".join(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
    raise InputError(f"found checkpoint {path} of unknown ending; wanted one of {known}")
