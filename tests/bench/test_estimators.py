"""How true and how fast are the three estimators of concept entropies?  Against a long fit.

Prints a table for each of three layers of the demo's first student: seconds an image, how many
times faster than the paper's procedure, the correlation with a long converged fit over cells, how
many concepts are found with other weights of the entropy, and rho of one fixed network.
"""

from collections.abc import Mapping, Sequence

import pytest
import torch
from bench_tools import LAYERS, demo, entropies, features_of, network_of, rho, timed
from official import LAM, converged, correlation, official
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kdprobe.datasets.contract import Images
from kdprobe.manifest import DataEntry
from kdprobe.metrics.scope import Discarding
from kdprobe.models.contract import Network
from kdprobe.probes.contract import PROBES
from kdprobe.probes.lens import Lens

GRID, FEW, MANY, AGAIN = 16, 4, 32, 15
WEIGHTS = (1.0, 3.0, LAM, 15.0)
CUT = Discarding(grid=GRID)
ONE_BY_ONE = "paper, one by one"


class Bench(Lens):
    """A lens that lends one network, already read."""

    def network(self, checkpoint: Network) -> Network:  # type: ignore[override]  # no file behind
        return checkpoint


def look(
    estimator: str,
    network: Network,
    images: Images,
    layers: Sequence[str],
    seed: int = 0,
    **changes: float,
) -> Mapping[str, Tensor]:
    cut = Discarding(grid=GRID, estimator=estimator, **changes)
    nothing = DataEntry(name="photodigits")
    lens = Bench(torch.device("cpu"), nothing, len(images), seed, chosen=images)
    return PROBES[estimator].look([network], lens, layers=layers, **cut.asked)


def map_of(found: Mapping[str, Tensor], layer: str) -> Tensor:
    if f"energy/{layer}" in found:
        return entropies(found[f"energy/{layer}"], GRID)
    return found[f"entropy/{layer}"].double().view(-1, GRID, GRID)


def official_maps(network: Network, images: Images, layer: str, lam: float = LAM) -> Tensor:
    """(n, g, g) by the paper's procedure, one image after another."""
    inside = features_of(network, layer, normalised=True)
    maps = [
        official(lambda x: inside(x).relu(), network.normalised(image[None]), GRID, lam)
        for image in images.pixels
    ]
    return torch.stack(maps)


def objects(images: Images) -> Tensor:
    """(n, g, g) bool."""
    return adaptive_avg_pool2d(images.objects.float(), GRID) >= 0.5


def relevant(h: Tensor, on: Tensor) -> float:
    """N_fg, mean of an image."""
    level = torch.where(on, torch.nan, h).flatten(1).nanmean()
    return float(((level - h > CUT.b) & on).sum()) / len(h)


def counts(network: Network, images: Images, layer: str) -> dict[str, list[float]]:
    """N_fg with every weight of the entropy, by the closed form and by the paper."""
    on, found = objects(images), {"jacobian": [], ONE_BY_ONE: []}
    for lam in WEIGHTS:
        closed = look("jacobian", network, images, LAYERS, lam=lam)
        torch.manual_seed(0)
        theirs = official_maps(network, images, layer, lam)
        found["jacobian"].append(relevant(map_of(closed, layer), on))
        found[ONE_BY_ONE].append(relevant(theirs, on))
    return found


def stability(network: Network, few: Images, many: Images, layer: str) -> dict[str, list[float]]:
    """rho of one fixed network, with fresh chance, at b and at 1 nat; and with common chance."""
    closed = [map_of(look("jacobian", network, many, LAYERS, i), layer) for i in range(AGAIN)]
    same = map_of(look("jacobian", network, many, LAYERS, 0), layer)
    torch.manual_seed(0)
    theirs = [official_maps(network, few, layer) for _ in range(AGAIN)]
    found = {}
    for name, maps, images in (("jacobian", closed, many), (ONE_BY_ONE, theirs, few)):
        stacked, on = torch.stack(maps).flatten(2), objects(images).flatten(1)
        found[name] = [rho(stacked, on, b) for b in (CUT.b, 1.0)]
    common = torch.stack([closed[0], same]).flatten(2)
    found["common"] = [rho(common, objects(many).flatten(1), CUT.b)]
    return found


@pytest.mark.bench
@pytest.mark.parametrize("layer", LAYERS)
def test_estimators_against_a_long_fit(layer: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, split = demo()
    network = network_of(run)
    few, many = split.sample(FEW, seed=0), split.sample(MANY, seed=0)
    features = features_of(network, layer)

    def long(seed: int) -> Tensor:
        return converged(features, few.pixels, GRID, noise=CUT.noise, seed=seed)

    torch.manual_seed(0)
    truth, long_time = timed(lambda: long(1))
    rows = {"long converged fit": (long_time / FEW, long(2))}
    _, seconds = timed(lambda: look("jacobian", network, many, LAYERS), times=3)
    closed = map_of(look("jacobian", network, few, LAYERS), layer)
    rows["jacobian"] = (seconds / MANY / len(LAYERS), closed)  # of all layers in one look
    for estimator in ("fit", "paper"):
        found, seconds = timed(lambda name=estimator: look(name, network, few, [layer]))
        each = seconds / FEW / (CUT.restarts if estimator == "paper" else 1)
        rows[estimator] = (each, map_of(found, layer))
    theirs, seconds = timed(lambda: official_maps(network, few, layer))
    rows[ONE_BY_ONE] = (seconds / FEW, theirs)
    paper = rows[ONE_BY_ONE][0]
    agreed = {name: correlation(h, truth) for name, (_, h) in rows.items()}
    counted, still = counts(network, few, layer), stability(network, few, many, layer)
    with capsys.disabled():
        print(f"\n{layer:18}  s/image  x faster  corr.  N_fg, lam {WEIGHTS}  rho, b = 0.2 and 1")
        for name, (each, _) in rows.items():
            number = " / ".join(f"{count:4.1f}" for count in counted.get(name, []))
            floors = " / ".join(f"{ratio:.3f}" for ratio in still.get(name, []))
            left = f"{name:18} {each:8.4f} {paper / each:9.1f} {agreed[name]:6.3f}"
            print(f"{left}  {number:26} {floors}")
    assert agreed["jacobian"] >= 0.97
    assert agreed["fit"] >= (0.99 if layer != "logits" else 0.97)
    assert agreed["paper"] < agreed["jacobian"]
    change = {name: max(found) - min(found) for name, found in counted.items()}
    assert change["jacobian"] < 2 < change[ONE_BY_ONE], "N_fg over all weights"
    assert still["common"] == [1]
    assert still["jacobian"][0] >= 0.95
