"""Does a concept speak for the class?  Concept activation vectors, and the slopes along them.

    v  = normal of a linear classifier of examples of a concept against counterexamples, in a layer
    S  = grad of the logit of an image's class, in that layer, along v
    TCAV = share of the images with S > 0

The classifier is ridge regression on +-1, as its normal is then exact and needs no draw of its own;
the slopes are those of captum (LayerGradientXActivation, without the activation). Concept and
counterexamples are drawn anew for every set; the same with counterexamples on both sides is a
concept of chance. All sets share one Gram matrix, so that no vector v is ever made:
v = sum_i a_i (x_i - mean), S = sum_i a_i (g . x_i) with sum_i a_i = 0.

Source: Kim et al. 2018, arXiv:1711.11279, section 3 (equations 1 and 2, and significance testing).

Axes: n images, m examples, u sets, d features of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdprobe.batches import in_batches
from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.passes import passing
from kdprobe.probes.concept_examples import Examples, examples_of
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint
from kdprobe.taps import Tap, find_taps, flat, shapes, watch

SETS = 72  # purpose of chance
RIDGE = 0.1  # of the mean eigenvalue of the examples' Gram matrix
TRAINED = 2 / 3  # of the examples; on the rest the classifier is tested
ROUNDING = 1e-10  # of the features' squares: a layer that varies less is constant
FEWEST_IMAGES = 4
NAMES = (("toward", "accuracy"), ("by_chance", "accuracy_by_chance"))


@dataclass(frozen=True)
class Sets:
    """Which examples train and test the classifiers: rows of the examples, then counterexamples."""

    train: Tensor  # (u, 2 t) first the concept's, then those against it
    test: Tensor  # (u, 2 h) alike

    def to(self, device: torch.device) -> "Sets":
        """The same on `device`."""
        return Sets(self.train.to(device), self.test.to(device))


@probe("concept_vectors", version=1)
def concept_vectors(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    concepts: str,
    folder: str,
    content: str,
    examples: int,
    sets: int,
    of: str,
) -> Mapping[str, Tensor]:
    """The first `examples` images show the concepts, the slopes are taken at the rest.

    Returns labels (n,), and of every layer L and concept C: toward/L/C (u, n), 1 where S > 0, and
    accuracy/L/C (u,) of the classifiers on examples that did not train them; by_chance/L/C (u, n)
    and accuracy_by_chance/L/C (u,) with counterexamples on both sides. A layer that answers to all
    examples alike has none. `of` is a class: only its images are looked at; `content` tells the
    folder's pictures apart from earlier ones.

    Raises:
        InputError: too few images or examples, or the network has other classes.
    """
    images, network = lens.images, lens.network(subjects[0])
    lens.must_have_classes(subjects[0], images)
    shown = list(examples_of(images.take(torch.arange(examples)), concepts, folder))
    looked = _looked_at(images, examples, of)
    taps = find_taps(network.body, layers)
    shapes(network.body, taps, network.normalised(images.pixels[:1].to(lens.device)))
    rows = lens.rows(network, images)
    slopes = {name: _slopes(network, tap, looked, lens.device, rows) for name, tap in taps.items()}
    seen: dict[str, Tensor] = {"labels": looked.labels}
    for one in shown:
        both = torch.cat([one.shown, one.others]).to(lens.device)
        features = _features(network, taps, both, rows)
        cuts = drawn(one, sets, lens.generator(SETS))
        for layer in taps:
            for names, cut in zip(NAMES, cuts, strict=True):
                found = classified(features[layer], slopes[layer], cut.to(lens.device)) or ()
                for name, values in zip(names, found, strict=False):
                    seen[f"{name}/{layer}/{one.name}"] = values.float().cpu()
    return seen


def _looked_at(images: Images, examples: int, of: str) -> Images:
    """The images after the examples, of class `of` where one is named."""
    rows = torch.arange(examples, len(images))
    if of:
        rows = rows[images.labels[rows] == images.classes.index(of)]
    if len(rows) < FEWEST_IMAGES:
        kind = f" of class {of!r}" if of else ""
        raise InputError(
            f"found {len(rows)} images{kind} besides the {examples} that show the concepts; wanted "
            f"at least {FEWEST_IMAGES}: raise concept_vectors.images"
        )
    return images.take(rows)


def drawn(one: Examples, sets: int, chance: torch.Generator) -> tuple[Sets, Sets]:
    """Sets of the concept against counterexamples, and of counterexamples against each other.

    Where both are made of the same images, an image is on both sides, or on none.
    """
    shown, others = len(one.shown), len(one.others)
    if one.paired:
        concept = _shuffled(sets, shown, chance)
        turn = torch.randint(others // shown, (sets, shown), generator=chance)
        against = shown + turn * shown + concept
        again = shown + (turn + 1) % (others // shown) * shown + concept
    else:
        each = min(shown, others // 2)
        concept = _shuffled(sets, shown, chance)[:, :each]
        against, again = (shown + _shuffled(sets, others, chance)[:, : 2 * each]).chunk(2, dim=1)
    return _cut(concept, against), _cut(again, against)


def _cut(one: Tensor, two: Tensor) -> Sets:
    """Part the examples of both sides, (u, m) each, into those that train and those that test."""
    trained = int(one.shape[1] * TRAINED)
    return Sets(
        torch.cat([one[:, :trained], two[:, :trained]], dim=1),
        torch.cat([one[:, trained:], two[:, trained:]], dim=1),
    )


def _shuffled(sets: int, count: int, chance: torch.Generator) -> Tensor:
    """(u, count) the numbers below `count` in another order each."""
    return torch.rand(sets, count, generator=chance).argsort(1)


def classified(features: Tensor, slopes: Tensor, cut: Sets) -> tuple[Tensor, Tensor] | None:
    """(u, n) whether a slope leads towards the concept, and (u,) accuracy on the tested examples.

    None where all examples are alike.
    """
    centred = (features - features.mean(0)).double()
    gram = centred @ centred.T
    if float(gram.trace()) <= ROUNDING * float(features.double().square().sum()):
        return None
    weights = normals(gram, cut.train)
    along = slopes.double() @ centred.T
    toward = torch.einsum("num,um->un", along[:, cut.train], weights) > 0
    told = torch.einsum("utm,um->ut", _block(gram, cut.test, cut.train), weights)
    own = torch.einsum("utm,um->ut", _block(gram, cut.train, cut.train), weights)
    right = (told > own.mean(1, keepdim=True)) == (_sides(cut.test) > 0)
    return toward, right.double().mean(1)


def normals(gram: Tensor, train: Tensor) -> Tensor:
    """(u, 2 t) weights a of the examples in the normal of ridge regression on +-1."""
    inner = _block(gram, train, train)
    inner = inner - inner.mean(1, keepdim=True)
    inner = inner - inner.mean(2, keepdim=True)
    size = inner.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-300)
    ridge = RIDGE * size[:, None, None] * torch.eye(train.shape[1]).to(inner)
    weights: Tensor = torch.linalg.solve(inner + ridge, _sides(train).to(inner))
    return weights


def _sides(rows: Tensor) -> Tensor:
    """(u, 2 t) 1 for the first half, -1 for the second."""
    half = torch.ones(rows.shape[0], rows.shape[1] // 2, device=rows.device)
    return torch.cat([half, -half], dim=1).double()


def _block(gram: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(u, r, c) parts of (m, m)."""
    return gram[rows[:, :, None], columns[:, None, :]]


@torch.no_grad()
def _features(
    network: Network, taps: Mapping[str, Tap], pixels: Tensor, rows: int
) -> dict[str, Tensor]:
    """(m, d) what every layer answers."""

    def part(some: slice) -> dict[str, Tensor]:
        with watch(network.body, taps) as seen:
            network(pixels[some])
            return {name: flat(seen[name]) for name in taps}

    parts = in_batches(part, len(pixels), rows)
    return {name: torch.cat([part[name] for part in parts]) for name in taps}


def _slopes(network: Network, tap: Tap, images: Images, device: torch.device, rows: int) -> Tensor:
    """(n, d) slopes of the logit of every image's class by the layer's answer."""
    from captum.attr import LayerGradientXActivation

    slope = LayerGradientXActivation(
        network, network.body.get_submodule(tap.path), multiply_by_inputs=False
    )
    pixels, labels = images.pixels.to(device), images.labels.to(device)

    def part(some: slice) -> Tensor:
        with passing():
            return flat(slope.attribute(pixels[some], labels[some]).detach())

    return torch.cat(in_batches(part, len(pixels), rows))
