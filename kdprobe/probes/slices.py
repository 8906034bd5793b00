"""What does the loss look like around a solution?  Cross-entropy along random directions.

The network itself is the point 0; it ends exactly as it began. BatchNorm uses its stored
statistics. Directions and their lengths: `directions`; how the loss is found: `walking`.

Source: Li et al. 2018, arXiv:1712.09913, section 4.

Axes: n images, r directions or pairs of them, p points of a slice.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.probes.contract import probe
from kdprobe.probes.directions import random_direction, steps_within
from kdprobe.probes.lens import Lens
from kdprobe.probes.walking import loss_of, mean, walk
from kdprobe.study import Checkpoint

LINES, PLANES = 2, 3  # purposes of chance


@probe("slice_1d", version=3)
@torch.no_grad()
def slice_1d(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    radius: float,
    points: int,
    directions: int,
    normalisation: str = "filter",
    precision: str = "float32",
) -> Mapping[str, Tensor]:
    """Returns steps (p,) in norms of the weights, loss (r, p) in nats along each direction,
    images (), how many the loss is a mean of, and off (), its largest relative error found.
    """
    network = lens.network(subjects[0])
    steps, chance = steps_within(radius, points), lens.generator(LINES)
    lines = [random_direction(network.body, chance, normalisation) for _ in range(directions)]
    loss = loss_of(subjects[0], lens, network, precision=precision)
    places = [[(step, line)] for line in lines for step in steps.tolist()]
    line = mean(walk(network, places, loss)).view(directions, points)
    return {
        "steps": steps,
        "loss": line,
        "images": torch.tensor(len(lens.images)),
        "off": torch.tensor(loss.off),
    }


@probe("slice_2d", version=3)
@torch.no_grad()
def slice_2d(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    radius: float,
    points: int,
    pairs: int = 1,
    normalisation: str = "filter",
    precision: str = "float32",
) -> Mapping[str, Tensor]:
    """Returns steps (p,), loss (r, p, p) in nats over the plane of each pair of directions,
    rows = the second one, and off (), the largest relative error found.
    """
    network = lens.network(subjects[0])
    steps, chance = steps_within(radius, points), lens.generator(PLANES)
    loss = loss_of(subjects[0], lens, network, precision=precision)
    planes = []
    for _ in range(pairs):
        one, two = (random_direction(network.body, chance, normalisation) for _ in range(2))
        places = [[(x, one), (y, two)] for y in steps.tolist() for x in steps.tolist()]
        planes.append(mean(walk(network, places, loss)).view(points, points))
    return {"steps": steps, "loss": torch.stack(planes), "off": torch.tensor(loss.off)}
