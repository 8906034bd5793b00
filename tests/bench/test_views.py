"""What does each augmentation cost beside the training step that it feeds?  Prints a table.

A batch of 128 images of 32 x 32, ResNet-20: milliseconds of each augmentation as it comes, and
their share of a step (forward, backward, SGD). All take turns in one run, so that all meet the same
machine; told is the median. Also the folder data set: images decoded a second.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import save
from torch.nn.functional import cross_entropy

from kdprobe.datasets.contract import DATASETS
from kdprobe.expression import parse_call
from kdprobe.models.contract import Network, make_body
from kdprobe.train.augmentations.contract import AUGMENTATIONS, View
from kdprobe.train.augmenting import augmented

BATCH, ROUNDS, FILES = 128, 15, 2000
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def step() -> Callable[[], None]:
    """One training step of ResNet-20 on random images."""
    torch.manual_seed(0)
    network = Network(make_body("resnet20", num_classes=10), (0.5,) * 3, (0.25,) * 3)
    network = network.to(DEVICE).train()
    descent = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    given = batch()

    def work() -> None:
        descent.zero_grad()
        cross_entropy(network(given.pixels), given.target).backward()
        descent.step()

    return work


def batch() -> View:
    pixels = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return View(pixels.to(DEVICE), (torch.arange(BATCH) % 10).to(DEVICE), 10)


def spent(work: Callable[[], object]) -> float:
    """Seconds, the device's work included."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@pytest.mark.bench
def test_augmentations_beside_a_training_step(capsys: pytest.CaptureFixture[str]) -> None:
    given = batch()
    works: dict[str, Callable[[], object]] = {"step": step()}
    for key in AUGMENTATIONS:
        works[key] = partial(augmented, given, (parse_call(key),), 0)
    seconds: dict[str, list[float]] = {key: [] for key in works}
    for turn in range(ROUNDS + 2):
        for key, work in works.items():
            took = spent(work)
            if turn >= 2:  # the first two warm up
                seconds[key].append(took)
    medians = {key: float(np.median(found)) for key, found in seconds.items()}
    with capsys.disabled():
        print(f"\nbatch {BATCH}, {DEVICE}; a step of ResNet-20: {1e3 * medians['step']:.1f} ms")
        for key in AUGMENTATIONS:
            share = medians[key] / medians["step"]
            print(f"  {key:14} {1e3 * medians[key]:8.2f} ms   {100 * share:6.2f}% of a step")


@pytest.mark.bench
def test_images_decoded_a_second(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for number in range(FILES):
        pixels = chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        save(pixels, tmp_path / "train" / f"class{number % 10}" / f"{number}.jpg")
    for workers in (1, 4):
        took = spent(
            lambda n=workers: DATASETS["folder"].make("train", folder=str(tmp_path), workers=n)
        )
        with capsys.disabled():
            print(f"\n{FILES / took:.0f} JPEG of 32 x 32 a second, {workers} workers")
