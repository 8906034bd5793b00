"""How much faster and truer is the closed form than the official procedure?"""

import time
from collections.abc import Callable

import pytest
import torch
from official import converged, correlation, official
from torch import Tensor

from kdprobe.loading import load_network
from kdprobe.metrics.discarding import entropy
from kdprobe.models.contract import Network
from kdprobe.probes.jacobian import directions, energies
from kdprobe.probes.lens import test_images as images_of
from kdprobe.study import load_study
from kdprobe.taps import Tap, find_taps, flat, watch

IMAGES, GRID, PROBES, EXACT = 4, 16, 64, 64
SMALL = 0.05  # weight of the entropy at which the noise is small


def features_of(network: Network, tap: dict[str, Tap]) -> Callable[[Tensor], Tensor]:
    def features(pixels: Tensor) -> Tensor:
        with watch(network.body, tap) as seen:
            network(pixels)
        return flat(next(iter(seen.values())))

    return features


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


@pytest.mark.bench
@pytest.mark.parametrize("layer", ["logits", "pooled", "stage3"])
def test_closed_form_against_official(layer: str, capsys: pytest.CaptureFixture[str]) -> None:
    study = load_study("checkpoints/demo")
    student = next(run for run in study.students if run.arm == "kd")
    network = load_network(student.last)
    pixels = images_of(study.data, frozenset()).sample(IMAGES, seed=0).pixels
    taps = find_taps(network.body, [layer])
    features = features_of(network, taps)

    def closed() -> Tensor:
        vectors = directions(network, taps, pixels, PROBES, EXACT, 0)
        g = energies(network, taps, pixels, vectors, grid=GRID, chunk=128 // IMAGES)
        return torch.from_numpy(entropy(g[f"energy/{layer}"].numpy(), 6.0))

    torch.manual_seed(0)
    closed()
    ours, our_time = timed(closed)
    truth, fit_time = timed(lambda: converged(features, pixels, GRID, steps=1000, seed=1))
    again = converged(features, pixels, GRID, steps=1000, seed=2)
    limit = converged(features, pixels, GRID, steps=1000, seed=1, lam=SMALL)
    theirs, their_time = timed(
        lambda: torch.stack([official(features, image[None], GRID) for image in pixels])
    )
    rows = [
        ("long converged fit", fit_time, correlation(truth, again)),
        ("closed form", our_time, correlation(ours, truth)),
        ("official procedure", their_time, correlation(theirs, truth)),
    ]
    with capsys.disabled():
        print(f"\n{layer}: seconds an image, time ÷ closed form, correlation with the long fit")
        for name, seconds, found in rows:
            print(f"  {name:20} {seconds / IMAGES:8.4f} {seconds / our_time:9.1f} {found:8.3f}")
        found = correlation(ours, limit)
        print(f"  closed form against the long fit at lambda = {SMALL:g}: {found:.3f}")
    assert correlation(ours, truth) > correlation(theirs, truth)
    assert correlation(ours, limit) > 0.95
