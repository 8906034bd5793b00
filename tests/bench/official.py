"""The official procedure and a long converged fit, written plainly, to be measured against.

Source: Cheng et al. 2020, arXiv:2003.03622, equations 1-3, and the constants of their released code
(step size, number of steps and noises, stopping). `features` maps (n, 3, h, w) pixels to (n, d).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Features = Callable[[Tensor], Tensor]
HALF_LOG_2PIE = 0.5 * math.log(2 * math.pi * math.e)
LAM, TARGET = 6.0, -2.8  # weight of the entropy for ResNets; mean entropy to end near, nats


def unit_of_change(features: Features, image: Tensor, noises: int, noise: float = 0.01) -> Tensor:
    """d2: mean squared change of the features under a small uniform noise, over many noises."""
    with torch.no_grad():
        clean = features(image)
        noisy = image + noise * torch.randn(noises, *image.shape[1:])
        return (features(noisy) - clean).square().mean()


def official(features: Features, image: Tensor, grid: int, lam: float = LAM) -> Tensor:
    """(g, g) entropies of one image (1, 3, h, w), as the released code finds them.

    `features` takes normalised pixels.
    """
    with torch.no_grad():
        clean = features(image)
    unit = unit_of_change(features, image, 96)
    s = torch.full((grid, grid), 0.01, requires_grad=True)
    kept, nearest, highest = s.detach().clone(), math.inf, -math.inf
    for step in range(80):
        if step == 60:
            if highest > TARGET:
                break
            lam *= 1.5
        spread = interpolate(s[None, None], size=image.shape[2:])
        noisy = image + spread * torch.randn(96, *image.shape[1:])
        entropy = s.log().mean() + HALF_LOG_2PIE
        loss = (features(noisy) - clean).square().mean() / unit - lam * entropy
        (gradient,) = torch.autograd.grad(loss, s)
        with torch.no_grad():
            s -= 1e-4 * gradient
            s.clamp_(0.001, 1)
        level = float(s.detach().log().mean() + HALF_LOG_2PIE)
        highest = max(highest, level)
        if abs(level - TARGET) < nearest:
            nearest, kept = abs(level - TARGET), s.detach().clone()
    return kept.log() + HALF_LOG_2PIE


def converged(
    features: Features,
    images: Tensor,
    grid: int,
    *,
    noise: float,
    seed: int,
    steps: int = 1200,
    lam: float = LAM,
) -> Tensor:
    """(n, g, g) entropies by Adam on log s from a flat start, averaged over the second half.

    16 noises a step in opposite pairs, step size falling from 0.05 along a cosine; `noise` is the
    standard deviation that sets the unit of change.
    """
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        clean = features(images)
    unit = torch.stack([unit_of_change(features, image[None], 512, noise) for image in images])
    log_s = torch.full((len(images), grid, grid), math.log(noise), requires_grad=True)
    optimiser = torch.optim.Adam([log_s], lr=0.05)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=0.0025)
    total = torch.zeros_like(log_s)
    for step in range(steps):
        draw = torch.randn(8, *images.shape, generator=chance)
        both = torch.cat([draw, -draw])
        spread = interpolate(log_s.exp()[:, None], size=images.shape[2:])
        noisy = (images + spread * both).flatten(0, 1)
        change = features(noisy).view(16, *clean.shape) - clean
        distortion = change.square().mean((0, 2)) / unit
        loss = (distortion - lam * log_s.mean((1, 2))).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slower.step()
        if step >= steps // 2:
            total += log_s.detach()
    return total / (steps - steps // 2) + HALF_LOG_2PIE


def correlation(one: Tensor, two: Tensor) -> float:
    """Mean over images of Pearson's correlation over cells: (n, g, g) and (n, g, g)."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (one.double(), two.double()))
    return float(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean())
