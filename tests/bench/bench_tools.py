"""What the benches share: the demo's networks, features of a layer, and a stop-watch."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from kdprobe.datasets.contract import Images
from kdprobe.loading import load_network
from kdprobe.models.contract import Network
from kdprobe.probes.lens import test_images as images_of
from kdprobe.study import Run, load_study
from kdprobe.taps import find_taps, flat, watch

LAYERS = ("logits", "pooled", "stage3")


def demo(arm: str = "kd") -> tuple[Run, Images]:
    """The demo's first run of `arm`, and the test split."""
    study = load_study("checkpoints/demo")
    run = next(run for run in study.runs if run.arm == arm)
    return run, images_of(study.data, frozenset())


def features_of(network: Network, layer: str, *, normalised: bool = False) -> Callable:
    """Pixels, or what the body sees, to (n, d) outputs of a layer."""
    tap = find_taps(network.body, [layer])

    def features(pixels: Tensor) -> Tensor:
        with watch(network.body, tap) as seen:
            network.body(pixels) if normalised else network(pixels)
        return flat(seen[layer])

    return features


def network_of(run: Run) -> Network:
    return load_network(run.last)


def timed(work: Callable, times: int = 1) -> tuple:
    """What `work` gives, and the median seconds it takes."""
    found, seconds = None, []
    for _ in range(times):
        start = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - start)
    return found, sorted(seconds)[times // 2]


def entropies(energy: Tensor, grid: int) -> Tensor:
    """(n, g, g) nats, up to a constant an image."""
    h = -0.5 * energy.double().log()
    return h.view(len(energy), grid, grid)


def rho(estimates: Tensor, on: Tensor, b: float) -> float:
    """Of one fixed network: concepts of (k, n, q) estimates on the objects (n, q)."""
    off = torch.where(on, torch.nan, estimates)
    level = off.nanmean(2).mean(1)[:, None, None]
    found = (level - estimates > b) & on
    ever = found.any(0).sum(1)
    ratios = found.sum(2) / ever
    return float(ratios[:, ever > 0].mean())
