"""Small archives and folders of images, written as the official ones are, for whoever tests."""

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN, TEST = 2, 3  # images in each file
CLASSES = ("ant", "bee")


def records(count: int, seed: int, labels: int, classes: int) -> bytes:
    """Images as the binary archives hold them: label bytes, then red, green and blue."""
    chance = np.random.default_rng(seed)
    marks = chance.integers(0, classes, (count, labels), dtype=np.uint8)
    pixels = chance.integers(0, 256, (count, 3072), dtype=np.uint8)
    return np.concatenate([marks, pixels], 1).tobytes()


def write_cifar10(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(records(TRAIN, number, 1, 10))
    (folder / "test_batch.bin").write_bytes(records(TEST, 9, 1, 10))
    return folder


def write_cifar100(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.bin").write_bytes(records(5 * TRAIN, 1, 2, 20))
    (folder / "test.bin").write_bytes(records(TEST, 2, 2, 20))
    return folder


def packed(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return archive


def save(pixels: np.ndarray, file: Path, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)
    return file


def write_folder(root: Path, side: int = 32) -> Path:
    """Two classes, three training and two test images of each."""
    chance = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in CLASSES:
            for number in range(count):
                pixels = chance.integers(0, 256, (side, side, 3), dtype=np.uint8)
                save(pixels, root / split / name / f"{number}.png")
    return root


def write_all(root: Path) -> Mapping[str, Path]:
    """For every data set that needs files, a place with some."""
    return {
        "cifar10": write_cifar10(root / "cifar10"),
        "cifar100": write_cifar100(root / "cifar100"),
        "folder": write_folder(root / "folder"),
    }
