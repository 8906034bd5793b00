"""What does the loss look like around a solution?  Cross-entropy along random directions.

A direction is Gaussian, every filter of it scaled to the norm of the network's filter, and zero for
biases and BatchNorm. The network itself is the point 0; it ends exactly as it began. BatchNorm uses
its stored statistics.

Source: Li et al. 2018, arXiv:1712.09913, section 4 (filter normalisation).

Axes: n images, r directions, p points of a slice.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import cross_entropy

from kdprobe.batches import in_batches
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.restore import lent
from kdprobe.study import Checkpoint

Direction = dict[str, Tensor]


@probe("slice_1d", version=2)
@torch.no_grad()
def slice_1d(
    subjects: Sequence[Checkpoint], lens: Lens, *, radius: float, points: int, directions: int
) -> Mapping[str, Tensor]:
    """Returns steps (p,) in filter norms, loss (r, p) in nats along each random direction, and
    images (), how many the loss is a mean of.
    """
    network = lens.network(subjects[0])
    steps = steps_within(radius, points)
    chance = lens.generator(2)
    lines = [random_direction(network.body, chance) for _ in range(directions)]
    loss = loss_of(subjects[0], lens, network)
    places = [[(step, line)] for line in lines for step in steps.tolist()]
    line = walk(network, places, loss).view(directions, points)
    return {"steps": steps, "loss": line, "images": torch.tensor(len(lens.images))}


@probe("slice_2d", version=2)
@torch.no_grad()
def slice_2d(
    subjects: Sequence[Checkpoint], lens: Lens, *, radius: float, points: int
) -> Mapping[str, Tensor]:
    """Returns steps (p,) in filter norms, and loss (p, p) in nats over a plane, rows = second."""
    network = lens.network(subjects[0])
    steps = steps_within(radius, points)
    chance = lens.generator(3)
    one, two = (random_direction(network.body, chance) for _ in range(2))
    loss = loss_of(subjects[0], lens, network)
    places = [[(x, one), (y, two)] for y in steps.tolist() for x in steps.tolist()]
    return {"steps": steps, "loss": walk(network, places, loss).view(points, points)}


def steps_within(radius: float, points: int) -> Tensor:
    """(p,) even steps from -radius to radius; of an odd number the middle one is exactly 0."""
    even = torch.linspace(-radius, radius, points)
    return (even - even.flip(0)) / 2


def random_direction(body: nn.Module, chance: torch.Generator) -> Direction:
    """One filter-normalised Gaussian direction over the weights of `body`.

    Networks of one architecture get the same draw from equal generators.
    """
    found = {}
    for name, weight in body.named_parameters():
        draw = torch.randn(weight.shape, generator=chance).to(weight)
        if weight.dim() > 1:
            filters = tuple(range(1, weight.dim()))
            size = vector_norm(draw, dim=filters, keepdim=True).clamp(min=1e-10)
            found[name] = draw * vector_norm(weight, dim=filters, keepdim=True) / size
    return found


def walk(
    network: nn.Module,
    places: Sequence[Sequence[tuple[float, Direction]]],
    loss: Callable[[], Tensor],
) -> Tensor:
    """The loss at every place: a sum of steps along directions from where the network stands."""
    body = network.get_submodule("body")
    with lent(network):
        start = {name: weight.clone() for name, weight in body.named_parameters()}
        losses = []
        for place in places:
            for name, weight in body.named_parameters():
                moved = [(step, line[name]) for step, line in place if name in line]
                weight.copy_(start[name])
                for step, way in moved:
                    weight.add_(way, alpha=step)
            losses.append(loss())
    return torch.stack(losses).cpu()


def loss_of(subject: Checkpoint, lens: Lens, network: nn.Module) -> Callable[[], Tensor]:
    """A function that gives the mean cross-entropy (nats) of `network` as it stands now."""
    images = lens.images
    lens.must_have_classes(subject, images)
    pixels, labels = images.pixels.to(lens.device), images.labels.to(lens.device)
    rows = lens.rows(network, images)  # type: ignore[arg-type]  # a Network, seen as its base

    def mean_loss() -> Tensor:
        parts = in_batches(
            lambda some: cross_entropy(network(pixels[some]), labels[some], reduction="sum"),
            len(pixels),
            rows,
        )
        return torch.stack(parts).sum() / len(pixels)

    return mean_loss
