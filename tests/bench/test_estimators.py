"""How true and how fast are the three estimators of concept entropies?  Against a long fit.

Prints, for the demo's first student and each of its three layers: seconds an image, how many times
faster than the paper's procedure, and the correlation with a long converged fit over cells; then
what the paper's procedure makes of its own settings, and rho of one fixed network.
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


@pytest.mark.bench
@pytest.mark.parametrize("layer", LAYERS)
def test_estimators_against_a_long_fit(layer: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, split = demo()
    network = network_of(run)
    few, many = split.sample(FEW, seed=0), split.sample(MANY, seed=0)
    features = features_of(network, layer)
    look("jacobian", network, few, LAYERS)

    def long(seed: int) -> Tensor:
        return converged(features, few.pixels, GRID, noise=CUT.noise, seed=seed)

    torch.manual_seed(0)
    truth, long_time = timed(lambda: long(1))
    again = long(2)
    inside = features_of(network, layer, normalised=True)
    theirs, their_time = timed(
        lambda: torch.stack(
            [
                official(lambda x: inside(x).relu(), network.normalised(image[None]), GRID)
                for image in few.pixels
            ]
        )
    )
    rows = {"long converged fit": (long_time / FEW, again)}
    _, seconds = timed(lambda: look("jacobian", network, many, LAYERS), times=3)
    closed = map_of(look("jacobian", network, few, LAYERS), layer)
    rows["jacobian"] = (seconds / MANY / len(LAYERS), closed)  # of all layers in one look
    for estimator in ("fit", "paper"):
        found, seconds = timed(lambda name=estimator: look(name, network, few, [layer]))
        each = seconds / FEW / (CUT.restarts if estimator == "paper" else 1)
        rows[estimator] = (each, map_of(found, layer))
    rows["paper, one by one"] = (their_time / FEW, theirs)
    paper = their_time / FEW
    agreed = {name: correlation(h, truth) for name, (_, h) in rows.items()}
    with capsys.disabled():
        print(f"\n{layer}: seconds an image, times faster than paper, correlation with a long fit")
        for name, (each, _) in rows.items():
            print(f"  {name:20} {each:9.4f} {paper / each:9.1f} {agreed[name]:8.3f}")
    assert agreed["jacobian"] >= 0.97
    assert agreed["fit"] >= (0.99 if layer != "logits" else 0.97)
    assert agreed["paper"] < agreed["jacobian"]


@pytest.mark.bench
def test_the_paper_depends_on_its_weight_and_the_closed_form_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, split = demo()
    network, few = network_of(run), split.sample(FEW, seed=0)
    on = adaptive_avg_pool2d(few.objects.float(), GRID) >= 0.5
    inside = features_of(network, "logits", normalised=True)

    def counts(h: Tensor) -> tuple[float, float]:
        level = torch.where(on, torch.nan, h).flatten(1).nanmean()
        kept = level - h > CUT.b
        return tuple(float((kept & side).sum()) / FEW for side in (on, ~on))

    paper, closed = [], []
    for lam in WEIGHTS:
        torch.manual_seed(0)
        maps = [
            official(lambda x: inside(x).relu(), network.normalised(image[None]), GRID, lam)
            for image in few.pixels
        ]
        paper.append(counts(torch.stack(maps)))
        closed.append(counts(map_of(look("jacobian", network, few, LAYERS, lam=lam), "logits")))
    with capsys.disabled():
        print(f"\nlogits: concepts on / off the object at b = {CUT.b:g}, mean of {FEW} images")
        for lam, theirs, ours in zip(WEIGHTS, paper, closed, strict=True):
            told = " / ".join(f"{count:.1f}" for count in theirs)
            print(f"  lam {lam:4g}: paper {told:12} jacobian {ours[0]:.1f} / {ours[1]:.1f}")
    inner = [[count[0] for count in found] for found in (paper, closed)]
    change = [max(found) / max(min(found), 0.1) for found in inner]
    assert change[0] > 2 > 1.2 > change[1], "the object's concepts, over all weights"


@pytest.mark.bench
def test_rho_of_one_fixed_network(capsys: pytest.CaptureFixture[str]) -> None:
    run, split = demo()
    network = network_of(run)
    images, few = split.sample(MANY, seed=0), split.sample(FEW, seed=0)

    def on(some: Images) -> Tensor:
        return (adaptive_avg_pool2d(some.objects.float(), GRID) >= 0.5).flatten(1)

    def jacobian(seeds: Sequence[int], layer: str, b: float = CUT.b) -> float:
        maps = [map_of(looks[seed], layer).flatten(1) for seed in seeds]
        return rho(torch.stack(maps), on(images), b)

    def paper(layer: str) -> float:
        inside = features_of(network, layer, normalised=True)
        torch.manual_seed(0)
        maps = [
            official(lambda x: inside(x).relu(), network.normalised(image[None]), GRID).flatten()
            for _ in range(AGAIN)
            for image in few.pixels
        ]
        return rho(torch.stack(maps).view(AGAIN, FEW, -1), on(few), CUT.b)

    looks = {seed: look("jacobian", network, images, LAYERS, seed) for seed in range(AGAIN)}
    looks[-1] = look("jacobian", network, images, LAYERS, 0)
    with capsys.disabled():
        print(f"\nrho of one fixed network over {AGAIN} estimates at b = {CUT.b:g}")
        print(f"  ({MANY} images; paper: {FEW})")
        for layer in LAYERS:
            common, fresh = jacobian([0, -1] * 7 + [0], layer), jacobian(range(AGAIN), layer)
            at_one = jacobian(range(AGAIN), layer, b=1.0)
            told = f"common chance {common:.3f}, fresh {fresh:.3f}, at b = 1 {at_one:.3f}"
            print(f"  {layer:8} jacobian: {told}; paper: {paper(layer):.3f}")
            assert common == 1
            assert fresh >= 0.95
