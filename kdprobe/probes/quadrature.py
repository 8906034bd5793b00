"""How is the spectrum spread, as one start meets it?  Nodes and weights from Lanczos.

The eigenvalues of T_j and the squares of the first components of its eigenvectors are Gauss's rule
for the spectrum as weighted by the start. About a sum of |lambda|, bent at 0 where most eigenvalues
are, it errs to and fro with j. Multiplying the last number beside T_j's diagonal by sqrt 2 gives
the anti-Gauss rule, which errs as far to the other side as the Gauss rule of j - 1 steps does; the
mean of both errs several times less, and keeps all moments that are exact.

Source: Golub and Welsch 1969; Laurie 1996, Anti-Gaussian quadrature formulas, section 2; Ghorbani
et al. 2019, arXiv:1901.10159, for Hessians.

Axes: j steps, i nodes.
"""

import torch
from torch import Tensor

from kdprobe.probes.lanczos import tridiagonal

Rule = tuple[Tensor, Tensor]  # nodes (i,) and weights (i,), which sum to 1


def averaged(diagonal: Tensor, beside: Tensor, less: int = 0) -> Rule:
    """The mean of Gauss's and the anti-Gauss rule after all steps (j,), or `less` of them.

    Gauss's alone where it is exact, or where one step is all there is.
    """
    steps = max(1, len(diagonal) - less)
    diagonal, beside = diagonal[:steps], beside[:steps]
    if steps == 1 or float(beside[-1]) == 0:
        return gauss(diagonal, beside)
    against = beside.clone()
    against[-2] *= 2**0.5
    rules = gauss(diagonal[:-1], beside[:-1]), gauss(diagonal, against)
    nodes, weights = (torch.cat(parts) for parts in zip(*rules, strict=True))
    return nodes, weights / 2


def gauss(diagonal: Tensor, beside: Tensor) -> Rule:
    """From T_j (j,) and the numbers beside it; the last of these is not read."""
    values, vectors = torch.linalg.eigh(tridiagonal(diagonal, beside))
    return values, vectors[0].square()
