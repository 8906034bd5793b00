"""What do all layer pairs of two networks cost beyond the forward passes, and how true are they?

Prints a table: time as a ratio to the forward passes of both networks, all in turns in one run, the
least of several; and the largest difference from float64 of trained networks, of untrained
ones, and of trained ones whose every layer bears a common offset of 10, 100 and 1,000 times its
spread. The limit is the forward passes and one Gram matrix a layer.
"""

import contextlib
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdprobe.datasets.contract import DATASETS, Images
from kdprobe.manifest import DataEntry
from kdprobe.metrics.alignment import normalised
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.lens import Lens
from kdprobe.probes.similarity import hsic

IMAGES, BATCH, ROUNDS, STEPS = 1024, 128, 3, 30
OFFSETS = (10.0, 100.0, 1000.0)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Pair = tuple[Network, Network]


class Bench(Lens):
    """A lens that lends networks, already read."""

    def network(self, checkpoint: Network) -> Network:  # type: ignore[override]  # no file behind
        return checkpoint


class Add(nn.Module):
    """Moves all features of a layer by one number."""

    def __init__(self, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset


class Moved(nn.Module):
    """A body, and beside each of its layers the same layer with a common offset."""

    def __init__(
        self, body: nn.Module, layers: Sequence[str], times: float, pixels: Tensor
    ) -> None:
        super().__init__()
        self.body, spread = body, spreads(body, layers, pixels)
        self.moved = nn.ModuleList(Add(times * spread[name]) for name in layers)
        for name, add in zip(layers, self.moved, strict=True):
            body.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, add=add: (add(output), None)[1]
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@torch.no_grad()
def spreads(body: nn.Module, layers: Sequence[str], pixels: Tensor) -> dict[str, Tensor]:
    """The standard deviation over images of every layer's features."""
    return {name: x.std(0).mean() for name, x in features(body, layers, pixels).items()}


def features(body: nn.Module, layers: Sequence[str], pixels: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    handles = [
        body.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: found.update({name: output.flatten(1)})
        )
        for name in layers
    ]
    body(pixels)
    for handle in handles:
        handle.remove()
    return {name: found[name] for name in layers}


def body_of(seed: int, trained: Images | None = None) -> nn.Module:
    """A ResNet-20; after some steps on `trained` where that is given."""
    torch.manual_seed(seed)
    body = make_body("resnet20", num_classes=10)
    if trained is None:
        return body
    optimiser = torch.optim.SGD(body.parameters(), lr=0.05, momentum=0.9)
    for some in torch.randint(len(trained), (STEPS, 64)):
        optimiser.zero_grad()
        cross_entropy(body(trained.pixels[some]), trained.labels[some]).backward()
        optimiser.step()
    return body


def network(body: nn.Module) -> Network:
    found = Network(body, (0.0,) * 3, (1.0,) * 3).eval().requires_grad_(False)
    return found.to(DEVICE)


def ours(pair: Pair, layers: Sequence[str], images: Images, **changes: object) -> np.ndarray:
    """CKA of all layers of the second with all of the first."""
    lens = Bench(DEVICE, DataEntry(name="digits"), len(images), 0, chosen=images)
    settings = {
        "layers": tuple(f"{i}/{name}" for i in range(2) for name in layers),
        "references": 1,
        "batch": BATCH,
        "permutations": 1,
        "kernel": "linear",
        "bandwidth": 0.8,
        "estimator": "debiased",
        "precision": "float32",
    }
    seen = hsic(pair, lens, **settings | changes)
    cross, own = (seen[name].numpy() for name in ("cross", "own"))
    return normalised(cross, own, own[: len(layers)])[len(layers) :]


def theirs(pair: Pair, layers: Sequence[str], images: Images) -> np.ndarray:
    """The same by pytorch-cka."""
    library = importlib.import_module("cka")
    loader = torch.utils.data.DataLoader(images.pixels, batch_size=BATCH)
    one, two = (each.body for each in pair)
    (found,) = library.compute_cka(
        two, one, loader, layers=list(layers), device=str(DEVICE), progress=False
    )
    return found.cpu().numpy()


PEERS: dict[str, tuple[str, Callable[[Pair, Sequence[str], Images], np.ndarray]]] = {
    "pytorch-cka": ("cka", theirs)
}


def installed() -> dict[str, Callable[[Pair, Sequence[str], Images], np.ndarray]]:
    """Those of the peers that are here."""
    found = {}
    for name, (module, work) in PEERS.items():
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            found[name] = work
    return found


@torch.no_grad()
def exact(pair: Pair, layers: Sequence[str], images: Images) -> np.ndarray:
    """In double precision, by Song et al. 2012, equation 4, as it is written; no code of ours."""
    doubles = [deepcopy(each.body).double() for each in pair]
    parts = []
    for pixels in torch.split(images.pixels.double().to(DEVICE), BATCH):
        kernels = []
        for body in doubles:
            for x in features(body, layers, pixels).values():
                k = (x - x.mean(0)) @ (x - x.mean(0)).T
                kernels.append(k.fill_diagonal_(0).cpu())
        k, n = torch.stack(kernels), len(pixels)
        rows, whole = k.sum(2), k.sum((1, 2))
        trace = k.flatten(1) @ k.flatten(1).T
        middle = torch.outer(whole, whole) / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows @ rows.T
        parts.append((trace + middle) / (n * (n - 3)))
    h = torch.stack(parts).mean(0).numpy()
    return normalised(h, h.diagonal(), h.diagonal())[len(layers) :, : len(layers)]


@torch.no_grad()
def forward(pair: Pair, images: Images) -> None:
    for each in pair:
        for pixels in torch.split(images.pixels, BATCH):
            each(pixels.to(DEVICE))


@torch.no_grad()
def limit(pair: Pair, layers: Sequence[str], images: Images) -> None:
    """Forward passes, and one product of features a layer, which nothing is done with."""
    for each in pair:
        for pixels in torch.split(images.pixels, BATCH):
            for x in features(each.body, layers, pixels.to(DEVICE)).values():
                x @ x.T


def clock() -> float:
    """Seconds: of the processor on a CPU, so that other programs do not count."""
    if DEVICE.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def least(works: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The least seconds of each in `ROUNDS` rounds, all in turns."""
    found = dict.fromkeys(works, float("inf"))
    for turn in range(ROUNDS + 1):
        for name, work in works.items():
            start = clock()
            work()
            spent = clock() - start
            if turn:  # the first round warms up
                found[name] = min(found[name], spent)
    return found


def pairs(images: Images, layers: Sequence[str]) -> dict[str, tuple[Pair, Sequence[str]]]:
    """Networks, and the layers to look at, of every column of the table."""
    train = DATASETS["photodigits"].make("train", train=512, test=8)
    bodies = {"trained": [body_of(seed, train) for seed in (0, 1)]}
    bodies["untrained"] = [body_of(seed) for seed in (0, 1)]
    found = {name: (tuple(map(network, each)), layers) for name, each in bodies.items()}
    for times in OFFSETS:
        moved = [
            Moved(deepcopy(b), layers, times, images.pixels[:256].to(DEVICE))
            for b in bodies["trained"]
        ]
        names = [f"moved.{i}" for i in range(len(layers))]
        found[f"+ {times:g} spreads"] = (tuple(map(network, moved)), names)
    return found


@pytest.mark.bench
def test_cka_against_forward_passes_and_peers(capsys: pytest.CaptureFixture[str]) -> None:
    images = DATASETS["photodigits"].make("test", train=8, test=IMAGES)
    names = [name for name, _ in make_body("resnet20", num_classes=10).named_modules()]
    layers = [name for name in names if name.endswith(("relu1", "relu2"))] + ["avgpool", "fc"]
    columns = pairs(images, layers)
    pair, _ = columns["trained"]
    ways = {
        "kdprobe": ours,
        "kdprobe, bf16": lambda *given: ours(*given, precision="bf16"),
        **installed(),
    }
    seconds = least(
        {
            "forward passes": lambda: forward(pair, images),
            "and one Gram a layer": lambda: limit(pair, layers, images),
            **{name: lambda way=way: way(pair, layers, images) for name, way in ways.items()},
            "kdprobe, 200 permutations": lambda: ours(pair, layers, images, permutations=200),
        }
    )
    off = {name: [] for name in ways}
    truths = {name: exact(columns[name][0], layers, images) for name in ("trained", "untrained")}
    for column, (other, wanted) in columns.items():
        truth = truths.get(column, truths["trained"])  # an offset changes nothing
        for name, way in ways.items():
            off[name].append(float(np.abs(way(other, wanted, images) - truth).max()))
    with capsys.disabled():
        print(f"\nCKA of {len(layers) ** 2} layer pairs on {DEVICE}, {IMAGES} images by {BATCH}")
        print(f"{'':27} x forward  x limit  largest error: " + ", ".join(columns))
        for name, spent in seconds.items():
            ratios = [spent / seconds[k] for k in ("forward passes", "and one Gram a layer")]
            errors = "  ".join(f"{error:.1e}" for error in off.get(name, []))
            print(f"{name:27} {ratios[0]:9.2f} {ratios[1]:8.2f}  {errors}")
    assert max(off["kdprobe"]) < 1e-5
    assert max(off["kdprobe, bf16"][:2]) < 0.05, "what bf16 makes of offsets is its own"
