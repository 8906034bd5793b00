"""How much curvature is there in all?  The trace of the Hessian, whole and of every layer.

A random vector g of signs has E[g' M g] = tr M, with an error from the largest part of M. So that
part is taken exactly: with the rows of Q from Lanczos and P = I - Q'Q,
    tr H = tr T + E[g' P H P g],
whatever Q is, as long as g is independent of it; the standard error is that of the mean over g.
With E_l the weights of layer l, and H Q' = Q' T + r e_j',
    tr H_ll = sum_ab T_ab (Q E_l Q')_ab + 2 (r E_l q_j) + E[g' E_l P H P g],
from the same products; the layers add up to the whole.

Source: Meyer et al. 2021, arXiv:2010.09649 (Hutch++), with the Krylov space of an independent start
instead of its sketch; Hutchinson 1990.

Axes: p weights, l layers, s random vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdprobe.probes.lanczos import Krylov, Product, lanczos

FEWEST = 8  # random vectors, before their own spread is believed
SHARE = 0.25  # steps of Lanczos for every draw that would be needed


def signs(count: int, chance: torch.Generator, like: Tensor) -> Tensor:
    """(count,) of -1 and 1, with equal chance."""
    return torch.randint(0, 2, (count,), generator=chance).mul(2).sub(1).to(like)


def known_part(krylov: Krylov, layers: Sequence[slice]) -> Tensor:
    """(l,) the part of every layer's trace that Lanczos knows exactly; float64 on the CPU."""
    found = []
    for layer in layers:
        basis = krylov.basis[:, layer].double()
        inside = (krylov.matrix.to(basis) * (basis @ basis.T)).sum()
        found.append(inside + 2 * (krylov.rest[layer].double() * basis[-1]).sum())
    return torch.stack(found).cpu()


@dataclass(frozen=True)
class Draw:
    """A random vector, and one product that tells of it whatever Q will be in the end."""

    g: Tensor  # (p,) signs
    within: Tensor  # (p,) g, less a part of it that lies in the span of Q
    answer: Tensor  # (p,) H within


@dataclass(frozen=True)
class Goal:
    """When a trace is known well enough."""

    tolerance: float  # standard error, of the trace
    most: int  # draws
    steps: int  # Lanczos may take in all

    def needed(self, whole: Tensor) -> float:
        """Draws that it will take, by the estimates `whole` (s,) of the trace so far."""
        wanted = self.tolerance * float(whole.mean().abs())
        spread = float(whole.std())
        return (spread / wanted) ** 2 if wanted > 0 else float(self.most if spread > 0 else 0)


def trace(
    product: Product,
    krylov: Krylov,
    layers: Sequence[slice],
    first: Sequence[Draw],
    goal: Goal,
    chance: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """(l,) known and (s, l) drawn: every layer's trace is known + the mean of drawn.

    `first` are draws that were made for something else. Where many more are needed, Lanczos goes
    on first, for a quarter as many steps: what it knows need not be drawn.
    """
    pilot = [*first]
    while len(pilot) < min(FEWEST, goal.most):
        pilot.append(draw(product, krylov, chance))
    known, drawn = _estimates(krylov, layers, pilot)
    needed = min(goal.needed((known + drawn).sum(1)), goal.most)
    further = min(int(needed * SHARE), goal.steps)
    if further > len(krylov.basis):
        krylov = lanczos(product, krylov.basis[0], further, begun=krylov)
        known, drawn = _estimates(krylov, layers, pilot)
    found = list(drawn)
    while len(found) < goal.most and goal.needed((known + torch.stack(found)).sum(1)) > len(found):
        found.append(residual(krylov, layers, draw(product, krylov, chance)).cpu())
    return known, torch.stack(found)


def _estimates(
    krylov: Krylov, layers: Sequence[slice], draws: Sequence[Draw]
) -> tuple[Tensor, Tensor]:
    drawn = torch.stack([residual(krylov, layers, one) for one in draws])
    return known_part(krylov, layers), drawn.cpu()


def draw(product: Product, krylov: Krylov, chance: torch.Generator) -> Draw:
    """One more, for one product."""
    g = signs(krylov.basis.shape[1], chance, krylov.basis)
    within = krylov.without(g)
    return Draw(g, within, product(within))


def residual(krylov: Krylov, layers: Sequence[slice], one: Draw) -> Tensor:
    """(l,) g' E_l P H P g."""
    beyond = krylov.without(one.answer) - krylov.rest * (krylov.basis[-1] @ one.within)
    shares = one.g.double() * beyond.double()
    return torch.stack([shares[layer].sum() for layer in layers])
