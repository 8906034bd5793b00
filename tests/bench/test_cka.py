"""What do all layer pairs of two networks cost beyond the forward passes?  Prints the ratio."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from kdprobe.metrics.cka import normalised
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.similarity import centred_grams, pair_hsic
from kdprobe.taps import find_taps

IMAGES, BATCH = 1024, 128


def median_of(work: Callable[[], object], times: int = 3) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return sorted(found)[times // 2]


def resnet(seed: int) -> Network:
    torch.manual_seed(seed)
    network = Network(make_body("resnet20", num_classes=10), (0.0,) * 3, (1.0,) * 3)
    return network.eval().requires_grad_(False)


@pytest.mark.bench
def test_cka_against_forward_passes(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = resnet(0), resnet(1)
    layers = [name for name, _ in one.body.named_modules() if name.endswith(("relu1", "relu2"))]
    layers += ["avgpool", "fc"]
    pixels = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batches = torch.split(pixels, BATCH)
    taps, other = find_taps(one.body, layers), find_taps(two.body, layers)

    @torch.no_grad()
    def forward() -> None:
        for batch in batches:
            one(batch)
            two(batch)

    @torch.no_grad()
    def cka() -> np.ndarray:
        parts = [
            pair_hsic(
                centred_grams(one, taps, batch, BATCH), centred_grams(two, other, batch, BATCH)
            )
            for batch in batches
        ]
        cross, first, second = (
            torch.stack(kind).mean(0).numpy() for kind in zip(*parts, strict=True)
        )
        return normalised(cross, first, second)

    forward()
    plain, whole = median_of(forward), median_of(cka)
    found = cka()
    one.double(), two.double()
    batches = torch.split(pixels.double(), BATCH)
    off = float(np.abs(found - cka()).max())
    with capsys.disabled():
        pairs = len(layers) ** 2
        print(f"\nCKA of {pairs} layer pairs, {IMAGES} images, batches of {BATCH}")
        print(f"  forward passes alone 1.00, with CKA {whole / plain:.2f}")
        print(f"  largest difference from float64 {off:.1e}")
    assert off < 1e-5
