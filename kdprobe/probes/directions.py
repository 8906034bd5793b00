"""Which way to walk?  Directions in the space of a network's weights, by name of tensor.

Random ones are Gaussian over all weights of more than one axis, and zero for biases and BatchNorm:

    filter  every filter (row of a linear layer) is scaled to the length of the network's filter
    layer   every weight tensor is scaled to the length of the network's
    none    the draw as a whole is scaled to the length of all these weights together

so that with each of them a step of 1 is as long, in all, as the weights themselves. Given ones are
differences of networks of one architecture; a length is one of parameters, statistics move along.

Source: Li et al. 2018, arXiv:1712.09913, section 4 (filter normalisation).

Axes: k networks.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from kdprobe.errors import InputError, UsageError

Direction = Mapping[str, Tensor]
NORMALISATIONS = ("filter", "layer", "none")
SMALL = 1e-10  # a longer draw is divided by its length
FLAT = 1e-9  # of the first direction's square: a second one below has no length


def steps_within(radius: float, points: int) -> Tensor:
    """(p,) even steps from -radius to radius; of an odd number the middle one is exactly 0."""
    even = torch.linspace(-radius, radius, points)
    return (even - even.flip(0)) / 2


def random_direction(
    body: nn.Module, chance: torch.Generator, normalisation: str = "filter"
) -> Direction:
    """One Gaussian direction over the weights of `body`, of their own length.

    Networks of one architecture get the same draw from equal generators.

    Raises:
        InputError: there is no weight of more than one axis.
        UsageError: no normalisation is called so.
    """
    if normalisation not in NORMALISATIONS:
        raise UsageError(
            f"found normalisation {normalisation!r}; wanted {', '.join(NORMALISATIONS)}"
        )
    weights = {name: value for name, value in body.named_parameters() if value.dim() > 1}
    if not weights:
        raise InputError(
            "found no weight of more than one axis in the network; wanted a linear layer or a "
            "convolution to move: leave this network out"
        )
    draws = {
        name: torch.randn(weight.shape, generator=chance).to(weight)
        for name, weight in weights.items()
    }
    if normalisation == "none":
        scale = _length(weights.values()) / _length(draws.values()).clamp(min=SMALL)
        return {name: draw * scale for name, draw in draws.items()}
    return {name: _as_long(draw, weights[name], normalisation) for name, draw in draws.items()}


def _as_long(draw: Tensor, weight: Tensor, normalisation: str) -> Tensor:
    axes = tuple(range(normalisation == "filter", weight.dim()))
    size = vector_norm(draw, dim=axes, keepdim=True).clamp(min=SMALL)
    scaled: Tensor = draw * vector_norm(weight, dim=axes, keepdim=True) / size
    return scaled


def _length(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt()


def moving(body: nn.Module) -> dict[str, Tensor]:
    """The tensors that a walk may change, each once: what is counted in whole numbers stays."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, value in body.state_dict().items():
        if value.is_floating_point():
            found.setdefault(value.data_ptr(), (name, value))
    return dict(found.values())


def differences(networks: Sequence[nn.Module], origin: nn.Module) -> list[Direction]:
    """The ways from `origin` to each of `networks`; all are bodies of one architecture.

    Raises:
        InputError: they are not.
    """
    start = moving(origin)
    found: list[Direction] = []
    for network in networks:
        end = moving(network)
        odd = next((name for name in start | end if _shape(start, name) != _shape(end, name)), None)
        if odd is not None:
            raise InputError(
                f"found tensor {odd!r} of shapes {_shape(start, odd)} and {_shape(end, odd)}; "
                "wanted networks of one architecture: only between such there is a straight way"
            )
        found.append({name: end[name] - value for name, value in start.items()})
    return found


def _shape(tensors: Direction, name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def gram(ways: Sequence[Direction], body: nn.Module) -> Tensor:
    """(k, k) inner products over the parameters of `body`, float64, on the CPU."""
    names = [name for name, _ in body.named_parameters()]
    total = torch.zeros(len(ways), len(ways), dtype=torch.float64)
    for name in names:
        if name in ways[0]:
            rows = torch.stack([way[name].flatten() for way in ways]).double()
            total += (rows @ rows.T).cpu()
    return total


def mixed(ways: Sequence[Direction], shares: Sequence[float]) -> Direction:
    """The sum of `ways`, each times its share."""
    return {
        name: torch.stack([way[name] * share for way, share in zip(ways, shares, strict=True)]).sum(
            0
        )
        for name in ways[0]
    }


def orthonormal(products: Tensor) -> tuple[Tensor, Tensor]:
    """Two ways with Gram matrix `products` (2, 2) made orthonormal by Gram and Schmidt.

    Returns:
        The basis (2, 2), row i the shares of the two ways in it, and the coordinates (2, 2) of
        the two ways, row by row.

    Raises:
        InputError: they have one direction, or none.
    """
    first = products[0, 0].sqrt()
    along = products[0, 1] / first.clamp(min=SMALL)
    rest = products[1, 1] - along**2
    if first <= 0 or rest <= FLAT * products.diagonal().max():
        raise InputError(
            "found three networks on one line, or two that are equal; wanted three corners of a "
            "triangle: choose other runs"
        )
    across = rest.sqrt()
    zero = torch.zeros_like(first)
    basis = torch.stack([1 / first, zero, -along / (first * across), 1 / across]).view(2, 2)
    return basis, torch.stack([first, zero, along, across]).view(2, 2)


def principal(products: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """PCA of k points from the Gram matrix (k, k) of their differences to the last one.

    Returns:
        The first two components (2, k), row i the shares of the differences in it, each of unit
        length; the coordinates (k, 2) of the points, the last one at 0; and the parts (k - 1,) of
        the variance about the mean that every component explains.

    Raises:
        InputError: the points lie on a line, or a weight of theirs is no number.
    """
    if not bool(torch.isfinite(products).all()):
        raise InputError(
            "found a checkpoint with weights that are NaN or infinite; wanted finite ones: train "
            "the run again, or take that checkpoint out of the study"
        )
    centred = products - products.mean(0) - products.mean(1, keepdim=True) + products.mean()
    values, vectors = torch.linalg.eigh(centred)
    values, vectors = values.flip(0).clamp(min=0)[:-1], vectors.flip(1)
    if len(values) < 2 or values[1] <= FLAT * values[0]:
        raise InputError(
            "found checkpoints on one line in the space of weights; wanted at least three that "
            "span a plane: keep more checkpoints of the run"
        )
    two = vectors[:, :2]
    two = two * two.gather(0, two.abs().argmax(0, keepdim=True)).sign()  # a sign that is the same
    lengths = values[:2].sqrt()
    return (two / lengths).T, products @ two / lengths, values / values.sum()
