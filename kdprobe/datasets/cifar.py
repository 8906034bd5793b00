"""CIFAR-10 and CIFAR-100 out of the official binary archives: 32x32 photographs of 10 or 100 kinds.

Each record of a file is one image: the label (CIFAR-100: the coarse one, then the fine one), then
1,024 bytes of red, of green and of blue, row by row. The archives "for python" are pickles, which
can run code when they are read; they are refused.

Source: A. Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images;
www.cs.toronto.edu/~kriz/cifar.html, section "Binary version".
"""

import logging
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from kdprobe.datasets._memory import require_room
from kdprobe.datasets.contract import Images, dataset, require_split
from kdprobe.errors import InputError

log = logging.getLogger("kdprobe")

SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE  # bytes of an image
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
HUNDRED = tuple(NAMES.split())
PICKLES = frozenset({"data_batch_1", "batches.meta", "test_batch", "train", "test", "meta"})
PICKLED = ("cifar-10-batches-py/", "cifar-100-python/")


@dataclass(frozen=True)
class _Archive:
    """How one of the two archives is laid out."""

    name: str  # of the archive
    inside: str  # the folder that it holds
    files: dict[str, tuple[str, ...]]  # split -> the files of its images
    each: dict[str, int]  # split -> images in one of these files
    labels: int  # bytes before the pixels; the last of them is the label
    names: str  # the file of class names
    known: tuple[str, ...]  # the class names, where there is no such file

    @property
    def record(self) -> int:
        return self.labels + PIXELS


CIFAR10 = _Archive(
    name="cifar-10-binary.tar.gz",
    inside="cifar-10-batches-bin",
    files={
        "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test": ("test_batch.bin",),
    },
    each={"train": 10_000, "test": 10_000},
    labels=1,
    names="batches.meta.txt",
    known=TEN,
)
CIFAR100 = _Archive(
    name="cifar-100-binary.tar.gz",
    inside="cifar-100-binary",
    files={"train": ("train.bin",), "test": ("test.bin",)},
    each={"train": 50_000, "test": 10_000},
    labels=2,
    names="fine_label_names.txt",
    known=HUNDRED,
)


@dataset(
    "cifar10",
    title="CIFAR-10 from its binary archive, 32x32 photographs of 10 classes",
    source="Krizhevsky 2009; cifar-10-binary.tar.gz",
    has_masks=False,
    needs_files=True,
)
def cifar10(split: str, *, folder: str, seed: int = 0) -> Images:
    """50,000 training or 10,000 test images, in the order of the files; `seed` changes nothing.

    Args:
        split: "train" or "test".
        folder: cifar-10-binary.tar.gz, or the folder that comes out of it.
        seed: taken as every data set takes it.

    Raises:
        InputError: `folder` is not there, lacks a file, or holds pickles; a file is cut off.
    """
    return _images(CIFAR10, split, folder)


@dataset(
    "cifar100",
    title="CIFAR-100 from its binary archive, 32x32 photographs of 100 classes (fine labels)",
    source="Krizhevsky 2009; cifar-100-binary.tar.gz",
    has_masks=False,
    needs_files=True,
)
def cifar100(split: str, *, folder: str, seed: int = 0) -> Images:
    """50,000 training or 10,000 test images with fine labels; `seed` changes nothing.

    Args:
        split: "train" or "test".
        folder: cifar-100-binary.tar.gz, or the folder that comes out of it.
        seed: taken as every data set takes it.

    Raises:
        InputError: `folder` is not there, lacks a file, or holds pickles; a file is cut off.
    """
    return _images(CIFAR100, split, folder)


def _images(archive: _Archive, split: str, folder: str) -> Images:
    require_split(split)
    place = Path(folder).expanduser()
    found = _contents(archive, place, (*archive.files[split], archive.names))
    parts = [_records(archive, split, place, name, found) for name in archive.files[split]]
    count = sum(map(len, parts))
    require_room(6 * count * PIXELS, f"{count:,} images", "close other programs")
    records = np.concatenate(parts)
    labels = torch.from_numpy(records[:, archive.labels - 1].astype(np.int64))
    bytes_ = records[:, archive.labels :].reshape(-1, 3, SIDE, SIDE)
    pixels = torch.from_numpy(bytes_).float().div_(255)
    return Images(pixels, labels, _classes(archive, place, found.get(archive.names)), None)


def _contents(archive: _Archive, place: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    """The `wanted` files of the folder or archive at `place`. Raises InputError for lack of one."""
    if not place.exists():
        raise InputError(
            f"found nothing at {str(place)!r}; wanted {archive.name}, or the folder "
            f"{archive.inside!r} that comes out of it: correct folder="
        )
    try:
        names, found = (_of_tar if place.is_file() else _of_folder)(archive, place, set(wanted))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"found {str(place)!r}, which cannot be read ({told}); wanted {archive.name}, whole: "
            "fetch it again"
        ) from error
    _refuse_others(archive, place, names)
    lacking = sorted(set(wanted) - set(found) - {archive.names})
    if lacking:
        raise InputError(
            f"found {', '.join(names[:6]) or 'nothing'} in {str(place)!r}; wanted "
            f"{', '.join(lacking)} of {archive.name}: correct folder=, or unpack the archive "
            "again; images in folders are read by the data set 'folder'"
        )
    return found


def _of_tar(_: _Archive, place: Path, wanted: set[str]) -> tuple[list[str], dict[str, bytes]]:
    names, found = [], {}
    with tarfile.open(place) as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            names += [name] if member.isfile() else []
            stream = tar.extractfile(member) if member.isfile() and name in wanted else None
            if stream is not None:
                found[name] = stream.read()
    return sorted(names), found


def _of_folder(
    archive: _Archive, place: Path, wanted: set[str]
) -> tuple[list[str], dict[str, bytes]]:
    inside = place / archive.inside
    files = {file.name: file for file in (inside if inside.is_dir() else place).iterdir()}
    found = {name: file.read_bytes() for name, file in files.items() if name in wanted}
    return sorted(name + "/" * file.is_dir() for name, file in files.items()), found


def _refuse_others(archive: _Archive, place: Path, names: list[str]) -> None:
    pickled = sorted((PICKLES | set(PICKLED)) & set(names))
    if pickled and not any(name.endswith(".bin") for name in names):
        raise InputError(
            f"found {', '.join(pickled)} in {str(place)!r}, pickles of the archive for python, "
            f"which can run code when they are read; wanted the binary version: fetch "
            f"{archive.name} from www.cs.toronto.edu/~kriz/cifar.html"
        )


def _records(
    archive: _Archive, split: str, place: Path, name: str, found: dict[str, bytes]
) -> np.ndarray:
    """(n, bytes of a record) uint8 of one file. Raises InputError where it is cut off."""
    content = found.pop(name)
    count, rest = divmod(len(content), archive.record)
    if rest or not count:
        raise InputError(
            f"found {len(content):,} bytes in {name!r} of {str(place)!r}; wanted a whole number of "
            f"records of {archive.record:,} bytes ({archive.each[split]:,} of them): it is cut "
            "off or no such file; unpack the archive again"
        )
    if count != archive.each[split]:
        log.warning("%s: %d images; the official file has %d", name, count, archive.each[split])
    return np.frombuffer(content, np.uint8).reshape(count, archive.record)


def _classes(archive: _Archive, place: Path, content: bytes | None) -> tuple[str, ...]:
    """The names in the archive's own file, or else the known ones."""
    if content is None:
        return archive.known
    names = tuple(content.decode("utf-8", "replace").split())
    if len(names) != len(archive.known) or len(set(names)) != len(names):
        raise InputError(
            f"found {len(set(names))} class names in {archive.names!r} of {str(place)!r}; wanted "
            f"{len(archive.known)}, a line each: unpack the archive again"
        )
    return names
