"""What does a 2-D slice cost beside plain forward passes, and how true is it?  Prints ratios.

21 x 21 points, ResNet-20, 512 images. Every fifth row of the grid, each contender in turn, so that
all meet the same machine: the forward passes alone of a network that is not moved, in batches of
128; and the slice. On some rows also plain writes, bf16, and the peer library loss-landscapes,
which is given the images at once, as its documentation shows, and in batches of 128. A ratio is the
median over rows of the time to that of the same row's forward passes.
"""

import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kdprobe.datasets.contract import Images
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.directions import random_direction, steps_within
from kdprobe.probes.walking import ROWS, Loss, Place, mean, settling, walk

IMAGES, BATCH, POINTS = 512, 128, 21
STRIDE, SELDOM, SPARSE = 5, 2, 4  # rows; of those, rows for all contenders; their true points


def resnet() -> Network:
    """ResNet-20 of fixed weights, its statistics those of the images."""
    torch.manual_seed(0)
    network = Network(make_body("resnet20", num_classes=10), (0.5,) * 3, (0.25,) * 3)
    for weight in network.parameters():
        if not weight.any():  # a bias of 0 makes loss-landscapes divide by its length
            weight.data.normal_(0, 0.01)
    settling(network, pictures().pixels, BATCH)()
    return network.eval().requires_grad_(False)


def pictures() -> Images:
    chance = torch.Generator().manual_seed(0)
    pixels = torch.rand(IMAGES, 3, 32, 32, generator=chance)
    labels = torch.randint(10, (IMAGES,), generator=chance)
    return Images(pixels, labels, tuple("0123456789"), None)


@torch.no_grad()
def forward(network: Network, pixels: Tensor) -> Tensor:
    return torch.cat([network(batch) for batch in torch.split(pixels, BATCH)])


@torch.no_grad()
def written(network: Network, data: Images, places: list[Place]) -> Tensor:
    """Plain in-place writes, in the precision of `network`."""
    weights = dict(network.body.named_parameters())
    start = {name: weight.clone() for name, weight in weights.items()}
    pixels, found = data.pixels.to(network.mean.dtype), []
    for place in places:
        for name, weight in weights.items():
            weight.copy_(start[name])
            for step, way in place:
                if name in way:
                    weight.add_(way[name].to(weight), alpha=step)
        found.append(cross_entropy(forward(network, pixels), data.labels))
    for name, weight in weights.items():
        weight.copy_(start[name])
    return torch.stack(found)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peer(data: Images) -> dict[str, Callable[[], float]]:
    """Seconds a point of loss-landscapes; empty where it is not installed."""
    try:
        import loss_landscapes
        from loss_landscapes.metrics import Loss as Whole
        from loss_landscapes.metrics.metric import Metric
    except ImportError:
        return {}

    class Batched(Metric):  # type: ignore[misc]  # of a library without types
        def __call__(self, model: Network) -> float:
            total = 0.0
            for x, y in zip(data.pixels.split(BATCH), data.labels.split(BATCH), strict=True):
                total += float(cross_entropy(model.forward(x), y, reduction="sum"))
            return total / IMAGES

    side, network = 3, resnet()

    def point(metric: object) -> float:
        how = {"distance": 1, "steps": side, "normalization": "filter", "deepcopy_model": True}
        plane = partial(loss_landscapes.random_plane, network, metric, **how)
        return seconds(plane) / side**2

    return {
        "loss-landscapes, one batch": lambda: point(Whole(cross_entropy, data.pixels, data.labels)),
        f"loss-landscapes, batches of {BATCH}": lambda: point(Batched()),
    }


@pytest.mark.bench
def test_a_slice_against_forward_passes_and_a_peer(capsys: pytest.CaptureFixture[str]) -> None:
    network, data, device = resnet(), pictures(), torch.device("cpu")
    exact, peers = resnet().double(), peer(data)
    steps, chance = steps_within(1.0, POINTS).tolist(), torch.Generator().manual_seed(1)
    one, two = (random_direction(network.body, chance) for _ in range(2))
    forward(network, data.pixels)
    ratios: dict[str, list[float]] = {}
    worst = {"float32": 0.0, "bf16": 0.0}

    def compare(name: str, found: Tensor, truth: Tensor) -> None:
        worst[name] = max(worst[name], float((found.double() / truth - 1).abs().max()))

    def losses(precision: str, rows: int = ROWS) -> Loss:
        return Loss(network, data, device, rows, precision)

    ours, same, small = losses("float32"), losses("float32", BATCH), losses("bf16")
    plain = 0.0
    for row, y in enumerate(steps[::STRIDE]):
        places: list[Place] = [[(x, one), (y, two)] for x in steps]
        plain = seconds(lambda: [forward(network, data.pixels) for _ in steps]) / POINTS
        found: list[Tensor] = []

        def slice_by(
            loss: Loss, places: list[Place] = places, found: list[Tensor] = found
        ) -> Callable[[], None]:
            return lambda: found.append(mean(walk(network, places, loss)))

        plainly = partial(written, network, data, places)
        rivals: dict[str, Callable[[], float]] = {
            "slice": lambda by=slice_by: seconds(by(ours)) / POINTS
        }
        if row % SELDOM == 0:
            rivals |= {
                "slice, bf16": lambda by=slice_by: seconds(by(small)) / POINTS,
                f"slice, batches of {BATCH}": lambda by=slice_by: seconds(by(same)) / POINTS,
                "plain writes": lambda plainly=plainly: seconds(plainly) / POINTS,
                **peers,
            }
        for name, work in rivals.items():
            ratios.setdefault(name, []).append(work() / plain)
        if row % SELDOM == 0:
            truth = written(exact, data, places[::SPARSE])
            for name, loss in zip(worst, found, strict=False):
                compare(name, loss[::SPARSE], truth)
    setup = seconds(lambda: losses("float32")) / plain
    middle = {name: sorted(values)[len(values) // 2] for name, values in ratios.items()}
    with capsys.disabled():
        print(f"\n2-D slice, {POINTS} x {POINTS} points, ResNet-20, {IMAGES} images; 1 = the")
        print(f"forward passes alone in batches of {BATCH}")
        for name, value in middle.items():
            print(f"  {name:34s} {value:.2f}")
            if name in peers:
                print(f"  {'':34s} the slice is {value / middle['slice']:.1f} times as fast")
        print(f"  set-up of a slice: forward passes of {setup:.1f} points")
        for name, value in worst.items():
            print(f"  {name}: largest relative difference from float64 {value:.1e}")
    assert worst["float32"] < 1e-5
    assert worst["bf16"] < 0.05
    assert ours._follower is not None
