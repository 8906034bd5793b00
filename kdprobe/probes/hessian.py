"""How does the loss bend around a solution?  Eigenvalues, trace and density of its Hessian.

All from one budget of Hessian-vector products, each used as often as it can be:
1. Lanczos from a random start: the largest eigenvalues and the least one, with their bounds.
2. Its converged eigenvectors are set aside, and Lanczos from several vectors of random signs gives
   the density of the rest: nodes with weights, a quadrature each.
3. The first product of each is also a draw for the trace, whose large part is known from 1; more
   are drawn until the standard error is as asked for.
4. Every layer's trace comes from the same draws; Lanczos on its diagonal block is its own.

Memory: the graph of the gradient at all images where about three times a forward pass fits into
the budget of a batch, and no graph from product to product where it does not; steps x p numbers of
Lanczos at a time beside those of 1, each within twice that budget: steps beyond it are not taken.

Source: Ghorbani et al. 2019, arXiv:1901.10159 (stochastic Lanczos quadrature); Meyer et al. 2021,
arXiv:2010.09649 (trace).

Axes: n images, p weights, l layers, e eigenvalues, s draws for the trace, m vectors for the
density, i nodes of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.utils.rnn import pad_sequence

from kdprobe.batches import budget
from kdprobe.errors import InputError
from kdprobe.probes.contract import probe
from kdprobe.probes.lanczos import CHECK, Ritz, lanczos, orthogonal
from kdprobe.probes.lens import Lens
from kdprobe.probes.parts import Part, parts_of
from kdprobe.probes.products import Hessian, lean
from kdprobe.probes.quadrature import averaged
from kdprobe.probes.stillness import (
    LOOKED_AT,
    must_answer_alone,
    must_be_in_evaluation_mode,
    must_be_still,
)
from kdprobe.probes.traces import Draw, Goal, signs, trace
from kdprobe.restore import lent
from kdprobe.study import Checkpoint

GROUPS = 8  # of images, whose difference shows what another sample would do
START, SIGNS, LAYERS, TWICE = 50, 51, 52, 53  # purposes of chance
LAYER_STEPS, LAYER_TOLERANCE = 12, 2e-2
VECTORS = 2  # times the memory of a batch that the vectors of Lanczos may take


@dataclass(frozen=True)
class Aim:
    """What is asked of the estimates."""

    top: int
    tolerance: float  # bound of an eigenvalue, of itself; of the least one, of the largest in size
    steps: int
    trace_tolerance: float  # standard error of the trace, of itself
    draws: int
    probes: int
    probe_steps: int

    def reached(self, ritz: Ritz) -> bool:
        """Whether the eigenvalues that are wanted are known well enough."""
        top = min(self.top, len(ritz.values))
        near = ritz.bounds[-top:] <= self.tolerance * ritz.values[-top:].abs()
        least = ritz.bounds[0] <= self.tolerance * ritz.values.abs().max()
        return len(ritz.values) > self.top and bool(near.all() & least)


@probe("hessian", version=1)
def hessian(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    top: int,
    tolerance: float,
    steps: int,
    trace_tolerance: float,
    draws: int,
    probes: int,
    probe_steps: int,
    per_layer: bool,
) -> Mapping[str, Tensor]:
    """Of the mean cross-entropy (nats) over the lens's images.

    Returns eigenvalues (e, 2), the largest in descending order, and least (2,), each with its
    bound; groups (u,), the largest again, of groups of images; steps (), how many Lanczos took;
    known (l,) and drawn (s, l): the trace of a layer is known plus the mean of drawn; sizes (l,)
    in weights; density (m, i, 2), eigenvalues and how many each stands for, about p together, and
    density_before, the same of one step less; images (). Of every layer layer/NAME (), its place
    in l, and where `per_layer` blocks (l, 2): the largest eigenvalue of its diagonal block, with
    its bound.
    """
    aim = Aim(top, tolerance, steps, trace_tolerance, draws, probes, probe_steps)
    network, images = lens.network(subjects[0]), lens.images
    lens.must_have_classes(subjects[0], images)
    parts = parts_of(network.body)
    must_be_in_evaluation_mode(network)
    rows = lens.rows(network, images)
    with lent(network):
        network.requires_grad_(True)
        pixels, labels = images.pixels.to(lens.device), images.labels.to(lens.device)
        must_answer_alone(network, pixels)
        with lean(network, pixels[:LOOKED_AT]):
            weights = [weight for part in parts for weight in part.weights]
            bent = Hessian(network, weights, pixels, labels, rows, budget(lens.device))
            must_be_still(bent, lens.generator(TWICE))
            found = spectrum(bent, parts, aim, lens)
            if per_layer:
                found["blocks"] = blocks(bent, parts, lens.generator(LAYERS))
    found["images"] = torch.tensor(len(pixels))
    return found | {f"layer/{part.name}": torch.tensor(i) for i, part in enumerate(parts)}


def spectrum(bent: Hessian, parts: Sequence[Part], aim: Aim, lens: Lens) -> dict[str, Tensor]:
    """Eigenvalues, density and traces; `parts` are the layers, in the order of the vectors."""
    edges = [0, *accumulate(part.size for part in parts)]
    layers = [slice(low, high) for low, high in pairwise(edges)]
    like = parts[0].weights[0].detach()
    room = max(CHECK, VECTORS * budget(like.device) // (edges[-1] * like.element_size()))
    start = torch.randn(edges[-1], generator=lens.generator(START)).to(like)
    krylov = lanczos(bent, start, min(aim.steps, room), aim.reached)
    ritz = krylov.ritz()
    _must_be_finite(ritz)
    chance = lens.generator(SIGNS)
    locked = ritz.bounds <= aim.tolerance * ritz.values.abs()
    apart = krylov.vectors(ritz.vectors[:, locked])
    met, first = [], []
    for _ in range(aim.probes):
        g = signs(edges[-1], chance, like)
        within = orthogonal(g, apart)
        beyond = lanczos(bent, within, min(aim.probe_steps, room), locked=apart)
        size = vector_norm(within, dtype=torch.float64)
        met.append((beyond.diagonal, beyond.beside, size.square().cpu()))
        first.append(Draw(g, within, size * beyond.first_answer))
    goal = Goal(aim.trace_tolerance, aim.draws, min(aim.steps, room))
    known, drawn = trace(bent, krylov, layers, first, goal, chance)
    values = torch.stack([ritz.values, ritz.bounds], 1).flip(0)
    return {
        "eigenvalues": values[: aim.top],
        "least": values[-1],
        "groups": over_images(bent, krylov.vectors(ritz.vectors[:, -1:])[0]),
        "steps": torch.tensor(len(ritz.values)),
        "known": known,
        "drawn": drawn,
        "sizes": torch.tensor([part.size for part in parts]),
        "density": density(met, ritz.values[locked], 0),
        "density_before": density(met, ritz.values[locked], 1),
    }


def density(met: Sequence[tuple[Tensor, Tensor, Tensor]], apart: Tensor, less: int) -> Tensor:
    """(m, i, 2) eigenvalues and how many each stands for: those known `apart` (v,), and what
    random vectors met, by the numbers on and beside their T, `less` steps before the last, and by
    their squared lengths.
    """
    rows = []
    for diagonal, beside, square in met:
        nodes, weights = averaged(diagonal, beside, less)
        masses = torch.cat([torch.ones_like(apart), weights * square])
        rows.append(torch.stack([torch.cat([apart, nodes]), masses], 1))
    return pad_sequence(rows, batch_first=True)


def blocks(bent: Hessian, parts: Sequence[Part], chance: torch.Generator) -> Tensor:
    """(l, 2) the largest eigenvalue of every layer's diagonal block, and its bound."""

    def known(ritz: Ritz) -> bool:
        return bool(ritz.bounds[-1] <= LAYER_TOLERANCE * ritz.values[-1].abs())

    found, first = [], 0
    for part in parts:
        block = slice(first, first + len(part.weights))
        first = block.stop
        start = torch.randn(part.size, generator=chance).to(part.weights[0])
        ritz = lanczos(partial(bent, block=block), start, LAYER_STEPS, known).ritz()
        found.append(torch.stack([ritz.values[-1], ritz.bounds[-1]]))
    return torch.stack(found)


def over_images(bent: Hessian, v: Tensor) -> Tensor:
    """(u,) v' H v for the unit vector `v` (p,), of u groups of images apart."""
    count = min(GROUPS, len(bent.pixels))
    groups = [slice(first, None, count) for first in range(count)]
    found = [(bent.bend(bent.graph(some), v) @ v) / len(bent.labels[some]) for some in groups]
    return torch.stack(found).cpu() * len(bent.pixels)


def _must_be_finite(ritz: Ritz) -> None:
    if not bool(torch.isfinite(ritz.values).all()):
        raise InputError(
            "found a Hessian with numbers that are not finite; wanted a network whose loss is "
            "smooth at these images: look for a root, norm or logarithm at 0 in it"
        )
