"""What lies between given solutions?  Cross-entropy over the plane of a training, or of three runs.

    training   through its last checkpoint, along the first two principal components of all of them
    three runs the affine plane w_1 + x e_1 + y e_2, e by Gram and Schmidt from w_2 - w_1, w_3 - w_1

Lengths are those of parameters. BatchNorm has statistics found anew at every place, on one half of
the images without their labels, and the loss is taken on the other half. The network ends exactly
as it began.

Source: Li et al. 2018, arXiv:1712.09913, section 7 (trajectories); Garipov et al. 2018,
arXiv:1802.10026 (the plane of three solutions).

Axes: n images of a half, k checkpoints, p points of a side.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.models.contract import Network
from kdprobe.probes.contract import probe
from kdprobe.probes.directions import (
    Direction,
    differences,
    gram,
    mixed,
    orthonormal,
    principal,
)
from kdprobe.probes.lens import Lens
from kdprobe.probes.walking import Place, halves, loss_of, mean, settling, walk
from kdprobe.study import Checkpoint

MARGIN = 0.2  # of the marks' own extent, on every side
THIRD = 1 / 3
TRIANGLE = (  # shares of the second and third network: corners, middles of the sides, centre
    (0.0, 0.0),
    (1.0, 0.0),
    (0.0, 1.0),
    (0.5, 0.0),
    (0.0, 0.5),
    (0.5, 0.5),
    (THIRD, THIRD),
)


@probe("route", version=1)
@torch.no_grad()
def route(subjects: Sequence[Checkpoint], lens: Lens) -> Mapping[str, Tensor]:
    """Of a run's checkpoints: parts (k - 1,) of the variance that each principal component
    explains, lengths (k - 1,) of the steps, and displacement () from first to last.
    """
    _, products = _trained(subjects, lens)[1:]
    squares = products.diagonal()
    steps = squares[1:] + squares[:-1] - 2 * products.diagonal(1)
    return {
        "parts": principal(products)[2],
        "lengths": steps.clamp(min=0).sqrt(),
        "displacement": squares[0].sqrt(),
    }


@probe("route_plane", version=1)
@torch.no_grad()
def route_plane(subjects: Sequence[Checkpoint], lens: Lens, *, points: int) -> Mapping[str, Tensor]:
    """Returns x and y (p,), loss (p, p) in nats, rows = y, and marks (k, 2), the checkpoints."""
    network, ways, products = _trained(subjects, lens)
    basis, marks, _ = principal(products)
    one, two = (mixed(ways, row) for row in basis.tolist())
    return _plane(subjects[-1], lens, network, (one, two), marks, points)


@probe("triangle", version=1)
@torch.no_grad()
def triangle(subjects: Sequence[Checkpoint], lens: Lens) -> Mapping[str, Tensor]:
    """Returns loss (7, n) nats of every image at `TRIANGLE`, and sides (3,): 1-2, 1-3, 2-3."""
    network, ways = _three(subjects, lens)
    products = gram(ways, network.body)
    orthonormal(products)  # else there is no triangle
    first, second = products.diagonal()
    places = [[(x, ways[0]), (y, ways[1])] for x, y in TRIANGLE]
    sides = torch.stack([first, second, first + second - 2 * products[0, 1]])
    return {"loss": _losses(subjects[0], lens, network, places), "sides": sides.sqrt()}


@probe("triangle_plane", version=1)
@torch.no_grad()
def triangle_plane(
    subjects: Sequence[Checkpoint], lens: Lens, *, points: int
) -> Mapping[str, Tensor]:
    """Returns x and y (p,), loss (p, p) in nats, rows = y, and marks (3, 2), the networks."""
    network, ways = _three(subjects, lens)
    basis, corners = orthonormal(gram(ways, network.body))
    one, two = (mixed(ways, row) for row in basis.tolist())
    marks = torch.cat([torch.zeros(1, 2, dtype=corners.dtype), corners])
    return _plane(subjects[0], lens, network, (one, two), marks, points)


def _trained(subjects: Sequence[Checkpoint], lens: Lens) -> tuple[Network, list[Direction], Tensor]:
    """The last network, the ways from it to all, and their inner products."""
    *before, network = (lens.network(subject) for subject in subjects)
    ways = differences([*(other.body for other in before), network.body], network.body)
    return network, ways, gram(ways, network.body)


def _three(subjects: Sequence[Checkpoint], lens: Lens) -> tuple[Network, list[Direction]]:
    network, *others = (lens.network(subject) for subject in subjects)
    return network, differences([other.body for other in others], network.body)


def _plane(
    subject: Checkpoint,
    lens: Lens,
    network: Network,
    axes: tuple[Direction, Direction],
    marks: Tensor,
    points: int,
) -> Mapping[str, Tensor]:
    """The loss over a rectangle that holds all marks."""
    low, high = marks.min(0).values, marks.max(0).values
    room = MARGIN * (high - low)
    x, y = (
        torch.linspace(float(a), float(b), points)
        for a, b in zip(low - room, high + room, strict=True)
    )
    places = [[(a, axes[0]), (b, axes[1])] for b in y.tolist() for a in x.tolist()]
    loss = mean(_losses(subject, lens, network, places)).view(points, points)
    return {"x": x, "y": y, "loss": loss, "marks": marks}


def _losses(subject: Checkpoint, lens: Lens, network: Network, places: Sequence[Place]) -> Tensor:
    """(p, n) nats of every image of one half, with statistics of the other."""
    quiet, asked = halves(lens.images)
    loss = loss_of(subject, lens, network, asked)
    settle = settling(network, quiet.pixels.to(lens.device), lens.rows(network, quiet))
    return walk(network, places, loss, settle)
