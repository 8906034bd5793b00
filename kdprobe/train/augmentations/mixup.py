"""Two images in one: x = m x_i + (1 - m) x_j, and the target is the same mix of the two.

m ~ Beta(alpha, alpha), one a batch; the partners are the same batch in another order.

Source: Zhang et al. 2018, arXiv:1710.09412, equation 1 and figure 1.

Axes: n images, c classes.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kdprobe.errors import InputError
from kdprobe.train.augmentations.contract import View, augmentation


@augmentation("mixup", title="Two images laid over each other", source="arXiv:1710.09412, eq. 1")
def mixup(seen: View, chance: torch.Generator, *, alpha: float = 0.2) -> View:
    """Mix by a share of Beta(alpha, alpha). Raises InputError where `alpha` is not above 0."""
    share, partners = drawn_share(alpha, chance), drawn_partners(seen, chance)
    target = shares(seen)
    return seen._replace(
        pixels=mixed(seen.pixels, seen.pixels[partners], share).clamp_(0, 1),
        target=mixed(target, target[partners], share),
    )


def drawn_share(alpha: float, chance: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha), by the inverse of its distribution function."""
    from scipy.special import betaincinv

    if isinstance(alpha, (bool, str)) or not 0 < alpha < math.inf:
        raise InputError(f"found alpha={alpha!r}; wanted a number above 0")
    level = float(torch.rand(1, generator=chance, dtype=torch.float64))
    return float(betaincinv(alpha, alpha, level))


def drawn_partners(seen: View, chance: torch.Generator) -> Tensor:
    """(n,) int64: with which image each is mixed, itself not excluded."""
    return torch.randperm(len(seen.pixels), generator=chance).to(seen.pixels.device)


def shares(seen: View) -> Tensor:
    """(n, c) float32: the target as shares of the classes."""
    if seen.target.dim() == 2:
        return seen.target
    return one_hot(seen.target, seen.classes).float()


def mixed(one: Tensor, other: Tensor, share: float) -> Tensor:
    """share one + (1 - share) other."""
    return one * share + other * (1 - share)
