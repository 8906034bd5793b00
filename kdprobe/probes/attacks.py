"""Where are the boundaries, and does an attack on the teacher fool its students?

Boundary attack, from class b towards class k, always so many steps:
    x <- clip(x + eta (z_b - z_k + 1e-4) g / |g|_2),      g = d/dx (z_k - z_b)
Where eta is below 2 / |g| it comes to rest just behind the boundary of the two classes, else it
leaps over it; eta = 0 stands for 1 / |g|, the step to the boundary of a linear network. What it
moved by is compared between networks.

Projected gradient: x <- clip(x + step sign(d CE / dx)), within eps of the image in every pixel,
from a random start.

Pixels are in [0, 1] and stay there; sequences have no bounds. All networks are attacked in one
look, so that no attack is made twice and no perturbation has to be stored.

Source: Heo et al. 2019, arXiv:1805.05532 (boundary attack); Madry et al. 2018, arXiv:1706.06083
(projected gradient).

Axes: s networks, n images, t classes aimed at, m attacks at once.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from kdprobe.batches import budget, in_batches
from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.passes import passing
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint

BEYOND = 1e-4  # logits: how far behind the boundary the attack aims
TINY = 1e-12  # of a gradient that is none
START, NOISE = 60, 61  # purposes of chance


@probe("boundary_attacks", version=1)
def boundary_attacks(
    subjects: Sequence[Checkpoint], lens: Lens, *, targets: int, steps: int, eta: float
) -> Mapping[str, Tensor]:
    """Attack every subject from the label towards the first subject's likeliest other classes.

    Returns right (s, n), 1 where the image itself is given its label; left (s, n, t), 1 where the
    attacked one is not; norms (s, n, t) of the perturbations; rest (s, n, t), how much of the gap
    between the two logits is left; cosines (s, s, n, t) between the networks' perturbations; and
    strange (s, n, t), the cosine with the first subject's for another image.
    """
    images = lens.images
    networks = _networks(subjects, lens, images)
    pixels, labels = images.pixels.to(lens.device), images.labels.to(lens.device)
    rows = min(lens.rows(network, images) for network in networks)
    logits = torch.stack([_answers(network, pixels, rows) for network in networks])
    aims = _likeliest(logits[0], labels, targets)  # (n, t)
    size = len(subjects) * aims.shape[1] * pixels[0].numel() * pixels.element_size()
    at_once = max(2, budget(lens.device) // (4 * size))
    parts = [
        _compared(networks, pixels[some], labels[some], aims[some], steps, eta, rows)
        for some in torch.arange(len(pixels)).tensor_split(max(1, len(pixels) // at_once))
    ]
    kinds = ("left", "norms", "rest", "cosines", "strange")
    found = {kind: torch.cat([part[kind] for part in parts], dim=-2).cpu() for kind in kinds}
    return found | {"right": (logits.argmax(2) == labels).float().cpu()}


def _networks(subjects: Sequence[Checkpoint], lens: Lens, images: Images) -> list[Network]:
    for subject in subjects:
        lens.must_have_classes(subject, images)
    return [lens.network(subject) for subject in subjects]


def _answers(network: Network, pixels: Tensor, rows: int) -> Tensor:
    """(n, c) logits."""
    with torch.no_grad():
        return torch.cat(in_batches(lambda some: network(pixels[some]), len(pixels), rows))


def _likeliest(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """(n, t) the classes of the highest logits (n, c) that are not the label, highest first."""
    wrong = logits.scatter(1, labels[:, None], -torch.inf)
    return wrong.topk(min(count, logits.shape[1] - 1), dim=1).indices


def _compared(
    networks: Sequence[Network],
    pixels: Tensor,
    labels: Tensor,
    aims: Tensor,
    steps: int,
    eta: float,
    rows: int,
) -> dict[str, Tensor]:
    """What the attacks on a few images say of each other."""
    n, t = aims.shape
    start = pixels.repeat_interleave(t, dim=0)
    source, aim = labels.repeat_interleave(t), aims.flatten()

    def attacked(network: Network) -> list[Tensor]:
        parts = in_batches(
            lambda some: to_boundary(
                network, start[some], source[some], aim[some], steps=steps, eta=eta
            ),
            len(start),
            rows,
        )
        return [torch.cat(kind) for kind in zip(*parts, strict=True)]

    moves, left, rest = zip(*map(attacked, networks), strict=True)
    moved = torch.stack(moves).flatten(2)  # (s, n * t, d)
    ways = normalize(moved, dim=2)
    beside = ways[0].view(n, t, -1).roll(1, dims=0).flatten(0, 1)
    return {
        "left": torch.stack(left).float().view(-1, n, t),
        "rest": torch.stack(rest).view(-1, n, t),
        "norms": moved.norm(dim=2).view(-1, n, t),
        "cosines": torch.einsum("imd,jmd->ijm", ways, ways).view(len(moves), len(moves), n, t),
        "strange": torch.einsum("imd,md->im", ways, beside).view(-1, n, t),
    }


def to_boundary(
    network: Network, pixels: Tensor, source: Tensor, aim: Tensor, *, steps: int, eta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every attack: the move (m, ...) of `pixels`, whether it left class `source` (m,), and how
    much of the gap to class `aim` (m,) is left, of what it was.
    """
    x, first = pixels, torch.zeros(())
    longest = pixels.flatten(1).norm(dim=1)  # where a gradient vanishes there is no end
    for turn in range(steps):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            gap = _gap(network(x), source, aim)
            slope = _slope(-gap.sum(), x).flatten(1)
        gap = gap.detach()
        first = first if turn else gap
        size = slope.norm(dim=1).clamp(min=TINY)
        reach = eta * (gap + BEYOND) if eta else (gap + BEYOND) / size
        step = reach.clamp(-longest, longest)[:, None] * slope / size[:, None]
        x = bounded(x.detach() + step.view_as(x))
    with torch.no_grad():
        logits = network(x)
    left_over = _gap(logits, source, aim).abs() / first.abs().clamp(min=BEYOND)
    return x - pixels, logits.argmax(1) != source, left_over


def _gap(logits: Tensor, source: Tensor, aim: Tensor) -> Tensor:
    """(m,) by how much the logit of `source` is above that of `aim`."""
    return (logits.gather(1, source[:, None]) - logits.gather(1, aim[:, None]))[:, 0]


@probe("transfer_attack", version=1)
def transfer_attack(
    subjects: Sequence[Checkpoint], lens: Lens, *, eps: float, step: float, steps: int
) -> Mapping[str, Tensor]:
    """Attack the first subject by projected gradient, and show the images to all.

    Returns (s, n) each, 1 where the answer is the label: right of the images, attacked, and noisy,
    with noise of random signs of the size eps.
    """
    images = lens.images
    networks = _networks(subjects, lens, images)
    pixels, labels = images.pixels.to(lens.device), images.labels.to(lens.device)
    start, noise = (_uniform(pixels, lens.generator(purpose)) for purpose in (START, NOISE))
    first = networks[0]
    parts = in_batches(
        lambda some: projected(
            first, pixels[some], labels[some], start[some], eps=eps, step=step, steps=steps
        ),
        len(pixels),
        lens.rows(first, images),
    )
    shown = {
        "right": pixels,
        "attacked": torch.cat(parts),
        "noisy": bounded(pixels + eps * noise.sign()),
    }
    rows = [lens.rows(network, images) for network in networks]
    return {
        name: torch.stack(
            [
                (_answers(network, some, size).argmax(1) == labels).float()
                for network, size in zip(networks, rows, strict=True)
            ]
        ).cpu()
        for name, some in shown.items()
    }


def _uniform(pixels: Tensor, chance: torch.Generator) -> Tensor:
    """Like `pixels`, between -1 and 1; drawn on the CPU, the same for every batch size."""
    return (2 * torch.rand(pixels.shape, generator=chance) - 1).to(pixels)


def projected(
    network: Network,
    pixels: Tensor,
    labels: Tensor,
    start: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
) -> Tensor:
    """`pixels` (m, ...) moved up the cross-entropy, by at most `eps` each; `start` in [-1, 1]."""
    x = bounded(pixels + eps * start)
    for _ in range(steps):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            slope = _slope(cross_entropy(network(x), labels, reduction="sum"), x)
        near = (x.detach() + step * slope.sign()).clamp(pixels - eps, pixels + eps)
        x = bounded(near)
    return x


def bounded(pixels: Tensor) -> Tensor:
    """Images stay in [0, 1]; sequences (n, t, d) have no bounds."""
    return pixels.clamp(0, 1) if pixels.dim() == 4 else pixels


def _slope(value: Tensor, pixels: Tensor) -> Tensor:
    if not value.requires_grad:
        raise InputError(
            "found a network whose answer has no gradient in its pixels; attacks want one: let its "
            "forward pass neither detach nor switch gradients off"
        )
    with passing():
        (slope,) = torch.autograd.grad(value, pixels)
    return slope
