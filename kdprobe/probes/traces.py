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

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kdprobe.probes.lanczos import Krylov, Product

FEWEST = 8  # random vectors, before their own spread is believed


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


def residual(
    krylov: Krylov, layers: Sequence[slice], g: Tensor, within: Tensor, answer: Tensor
) -> Tensor:
    """(l,) g' E_l P H P g, from the product `answer` (p,) of H with `within` (p,).

    `within` is g less any part of it that lies in the span of Q, none at least.
    """
    beyond = krylov.without(answer) - krylov.rest * (krylov.basis[-1] @ within)
    shares = g.double() * beyond.double()
    return torch.stack([shares[layer].sum() for layer in layers])


def fresh(
    product: Product, krylov: Krylov, layers: Sequence[slice], chance: torch.Generator
) -> Iterator[Tensor]:
    """One residual (l,) after another, each for one product."""
    while True:
        g = signs(krylov.basis.shape[1], chance, krylov.basis)
        within = krylov.without(g)
        yield residual(krylov, layers, g, within, product(within))


def until_sure(
    first: Sequence[Tensor],
    more: Iterator[Tensor],
    known: Tensor,
    tolerance: float,
    most: int,
) -> Tensor:
    """(s, l) residuals until the standard error of the trace is `tolerance` of it, or `most`."""
    found = list(first)
    while len(found) < most and not (len(found) >= FEWEST and _sure(found, known, tolerance)):
        found.append(next(more))
    return torch.stack(found).cpu()


def _sure(found: Sequence[Tensor], known: Tensor, tolerance: float) -> bool:
    whole = torch.stack(list(found)).sum(1).cpu()
    error = whole.std() / len(whole) ** 0.5
    return bool(error <= tolerance * (known.sum() + whole.mean()).abs())
