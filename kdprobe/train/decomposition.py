"""What is a loss's gradient made of?  Least squares on cross-entropy and a soft target.

With n images, K classes, student z, p = softmax(z), label q (one-hot), guide u, p^T = softmax(z/T):

    g_i = n dL/dz_i  ~  c [ (1 - w) (p - q)_i + w T (p^T - u^T)_i ]

the gradient of c [(1 - w) CE + w T^2 KL(u^T || p^T)], a mean over images. For fixed T it is linear
in c (1 - w) and c w; T is given, or searched. A guide of equal logits at T = 1 is label smoothing
with eps = w. What the fit leaves over is told as residual = |g - fit| / |g|; explained = 1 -
residual^2, the share of the squared length, and also the squared cosine of g with the fit.

Axes: n images, c classes, m temperatures.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_T, MOST_T, GRID = 0.5, 100.0, 48
ALIKE = 1e-9  # of a length: two gradients that are one but for rounding
EXACT = 1e-8  # a residual of rounding: a temperature that gives it is the loss's own
NOTHING = 1e-6  # a share so small has no temperature


@dataclass(frozen=True)
class Blend:
    """The nearest c [(1 - w) CE + w T^2 KL]."""

    scale: float  # c
    share: float  # w; NaN where c is 0
    temperature: float  # NaN where w is 0
    residual: float  # what is left over, of the gradient's length

    @property
    def explained(self) -> float:
        return 1 - self.residual**2


def blended(
    gradient: Tensor,
    student: Tensor,
    guide: Tensor,
    target: Tensor,
    *,
    temperature: float | None = None,
    likely: Sequence[float] = (),
) -> Blend:
    """The blend nearest to `gradient` (n, c), by least squares over images and classes.

    Args:
        gradient: n times the gradient of a batch's mean loss in the student's logits.
        student, guide: logits (n, c).
        target: (n,) labels.
        temperature: T where it is known; else it is searched from 0.5 to 100.
        likely: temperatures to try first, such as the loss's own.
    """
    z, u, g = student.double(), guide.double(), gradient.double()
    hard = z.softmax(1).scatter_add(1, target[:, None], -torch.ones_like(z[:, :1]))

    def at(temperatures: Sequence[float]) -> list[Blend]:
        return _solved(g, hard, z, u, temperatures)

    if temperature is not None:
        return at([temperature])[0]
    return _searched(at, likely)


def _searched(at: Callable[[Sequence[float]], list[Blend]], likely: Sequence[float]) -> Blend:
    """The blend of the best temperature: a likely one where it leaves nothing over."""
    from scipy.optimize import minimize_scalar

    own = min(at(likely), key=lambda blend: blend.residual) if likely else None
    if own is not None and own.residual < EXACT:
        return own
    grid = torch.logspace(math.log10(LEAST_T), math.log10(MOST_T), GRID).tolist()
    first = at(grid)
    best = min(range(GRID), key=lambda place: first[place].residual)
    edges = math.log(grid[max(best - 1, 0)]), math.log(grid[min(best + 1, GRID - 1)])
    found = minimize_scalar(
        lambda log: at([math.exp(log)])[0].residual, bounds=edges, options={"xatol": 1e-7}
    )
    several = [first[best], *at([math.exp(float(found.x))]), *([own] if own else [])]
    return min(several, key=lambda blend: blend.residual)


def _solved(
    gradient: Tensor, hard: Tensor, student: Tensor, guide: Tensor, temperatures: Sequence[float]
) -> list[Blend]:
    """The least-squares blend at every temperature: what is new in `soft` beside `hard` first."""
    T = torch.tensor(temperatures, dtype=torch.float64)[:, None, None]
    soft = (T * ((student / T).softmax(2) - (guide / T).softmax(2))).flatten(1)  # (m, n * c)
    g, a = gradient.flatten(), hard.flatten()
    along = soft @ a / a.dot(a)
    new = soft - along[:, None] * a
    size = new.square().sum(1)
    told = size.sqrt() > ALIKE * soft.square().sum(1).sqrt()
    of_soft = torch.where(told, new @ g / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0)
    of_hard = g.dot(a) / a.dot(a) - of_soft * along
    left = (g - of_hard[:, None] * a - of_soft[:, None] * soft).square().sum(1).sqrt() / g.norm()
    return [
        _blend(*numbers)
        for numbers in zip(
            of_hard.tolist(), of_soft.tolist(), temperatures, left.tolist(), strict=True
        )
    ]


def _blend(of_hard: float, of_soft: float, temperature: float, left: float) -> Blend:
    scale = of_hard + of_soft
    share = of_soft / scale if abs(scale) > ALIKE * (abs(of_hard) + abs(of_soft)) else math.nan
    return Blend(scale, share, math.nan if abs(share) < NOTHING else temperature, left)
