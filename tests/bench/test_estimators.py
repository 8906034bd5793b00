"""How true and how fast are the three estimators of concept entropies?  Against a long fit.

Prints, for the demo's first student and each of its three layers: seconds an image, how many times
faster than the paper's procedure, and the correlation with a long converged fit over cells; then
what the paper's procedure makes of its own settings, and rho of one fixed network.
"""

from collections.abc import Mapping

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
CUT = Discarding(grid=GRID)


class Bench(Lens):
    """A lens that lends one network, already read."""

    def network(self, checkpoint: Network) -> Network:  # type: ignore[override]  # no file behind
        return checkpoint


def look(
    estimator: str, network: Network, images: Images, layer: str, seed: int = 0
) -> Mapping[str, Tensor]:
    cut = Discarding(grid=GRID, estimator=estimator)
    nothing = DataEntry(name="photodigits")
    lens = Bench(torch.device("cpu"), nothing, len(images), seed, chosen=images)
    return PROBES[estimator].look([network], lens, layers=(layer,), **cut.asked)


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
    look("jacobian", network, few, layer)

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
    _, seconds = timed(lambda: look("jacobian", network, many, layer), times=3)
    rows["jacobian"] = (seconds / MANY, map_of(look("jacobian", network, few, layer), layer))
    for estimator in ("fit", "paper"):
        found, seconds = timed(lambda name=estimator: look(name, network, few, layer))
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

    def counts(h: Tensor) -> str:
        level = torch.where(on, torch.nan, h).flatten(1).nanmean()
        kept = level - h > CUT.b
        inner, outer = (float((kept & side).sum()) / FEW for side in (on, ~on))
        return f"{inner:.1f} / {outer:.1f}"

    with capsys.disabled():
        print(f"\nlogits: concepts on / off the object at b = {CUT.b:g}, mean of {FEW} images")
        for lam in (1.0, 3.0, LAM, 15.0):
            torch.manual_seed(0)
            paper = [
                official(lambda x: inside(x).relu(), network.normalised(image[None]), GRID, lam)
                for image in few.pixels
            ]
            print(f"  lam {lam:4g}: paper {counts(torch.stack(paper))}")
        closed = map_of(look("jacobian", network, few, "logits"), "logits")
        print(f"  any lam : jacobian {counts(closed)}")


@pytest.mark.bench
@pytest.mark.parametrize("layer", LAYERS)
def test_rho_of_one_fixed_network(layer: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, split = demo()
    network = network_of(run)
    images = split.sample(2 * FEW, seed=0)
    on = (adaptive_avg_pool2d(images.objects.float(), GRID) >= 0.5).flatten(1)

    def again(estimator: str, seeds: list[int]) -> float:
        maps = [map_of(look(estimator, network, images, layer, seed), layer) for seed in seeds]
        return rho(torch.stack(maps).flatten(2), on, CUT.b)

    common, fresh = again("jacobian", [0] * AGAIN), again("jacobian", list(range(AGAIN)))
    features = features_of(network, layer, normalised=True)
    torch.manual_seed(0)
    theirs = torch.stack(
        [
            torch.stack(
                [
                    official(lambda x: features(x).relu(), network.normalised(image[None]), GRID)
                    for image in images.pixels[:FEW]
                ]
            )
            for _ in range(AGAIN)
        ]
    )
    paper = rho(theirs.flatten(2), on[:FEW], CUT.b)
    with capsys.disabled():
        print(f"\n{layer}: rho of one fixed network over {AGAIN} estimates at b = {CUT.b:g}")
        print(
            f"  jacobian, common chance {common:.3f}, fresh chance {fresh:.3f}; paper {paper:.3f}"
        )
    assert common == 1
    assert fresh >= 0.95
