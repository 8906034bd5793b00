"""How alike are two maps of one image, and does a map lie on the object?  One number an image.

    rank correlation  Pearson's of the ranks of the pixels (Spearman)
    top overlap       |A & B| / |A | B|, A and B the pixels of the highest tenth of each map
    SSIM              mean of (2 m_a m_b + C1) / (m_a^2 + m_b^2 + C1)
                            * (2 s_ab + C2) / (s_a^2 + s_b^2 + C2)
    relevance mass    sum over the object of max(0, r) / sum over the image of max(0, r)
    rank accuracy     the part of the K highest pixels that is on the object, K its size

SSIM compares the maps as pictures: each divided by its own largest size, and brought from [-1, 1]
to [0, 1], so that 0.5 is nothing; C1 = 0.01^2, C2 = 0.03^2, in windows of 11 pixels (Gaussian, sd
1.5) that lie inside. A map that is the same everywhere has no order: NaN.

Source: Wang et al. 2004 (SSIM, equation 13); Arras et al. 2022, arXiv:2003.07258 (relevance mass
and rank accuracy).

Axes: n images, h and w pixels.
"""

import numpy as np

from kdprobe.metrics.contract import Array

WINDOW, SD = 11, 1.5  # of SSIM, pixels
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # C1, C2 of pictures in [0, 1]


def rank_correlation(one: Array, two: Array) -> Array:
    """(n,) Spearman's correlation of maps (n, h, w); equal values share their mean rank."""
    from scipy.stats import rankdata

    a, b = (rankdata(_flat(maps), axis=1) for maps in (one, two))
    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (a, b))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, np.clip((a * b).sum(1) / scale, -1, 1), np.nan)


def top_overlap(one: Array, two: Array, share: float) -> Array:
    """(n,) intersection over union of the highest `share` of the pixels of each map."""
    pixels = one[0].size
    count = np.full(len(one), max(1, round(share * pixels)))
    a, b = (_highest(maps, count) for maps in (one, two))
    found = (a & b).sum(1) / (a | b).sum(1)
    return np.where(idle(one) | idle(two), np.nan, found)


def ssim(one: Array, two: Array) -> Array:
    """(n,) structural similarity; NaN also for maps smaller than its window."""
    if min(one.shape[1:]) < WINDOW:
        return np.full(len(one), np.nan)
    a, b = _as_pictures(one), _as_pictures(two)
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    shared = _blurred(a * b) - mean_a * mean_b
    over = (2 * mean_a * mean_b + LUMINANCE) * (2 * shared + CONTRAST)
    under = (mean_a**2 + mean_b**2 + LUMINANCE) * (var_a + var_b + CONTRAST)
    return np.where(idle(one) | idle(two), np.nan, (over / under).mean((1, 2)))


def relevance_mass(maps: Array, objects: Array) -> Array:
    """(n,) share of the positive relevance that is on `objects` (n, h, w), in [0, 1]."""
    positive = np.maximum(maps, 0)
    total = positive.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (positive * objects).sum((1, 2)) / total, np.nan)


def rank_accuracy(maps: Array, objects: Array) -> Array:
    """(n,) of as many highest pixels as the object has, the share on it; NaN without an object."""
    on = _flat(objects) >= 0.5
    size = on.sum(1)
    highest = _highest(maps, size)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (highest & on).sum(1) / size
    return np.where(idle(maps) | (size == 0), np.nan, found)


def taken_down(images: Array, high: int, wide: int) -> Array:
    """(n, h, w, ...) -> (n, high, wide, ...): means of the pixels that fall together."""
    rows, columns = _mixing(images.shape[1], high), _mixing(images.shape[2], wide)
    mixed = np.einsum("ah,nhw...->naw...", rows, images.astype(np.float64))
    return np.asarray(np.einsum("bw,naw...->nab...", columns, mixed))


def _mixing(length: int, parts: int) -> Array:
    """(parts, length) weights of the mean over each part, as adaptive pooling cuts them."""
    places, index = np.arange(length), np.arange(parts)[:, None]
    first, end = index * length // parts, -(-(index + 1) * length // parts)
    inside = (places >= first) & (places < end)
    return np.asarray(inside / inside.sum(1, keepdims=True))


def _flat(maps: Array) -> Array:
    return np.asarray(maps.reshape(len(maps), -1), dtype=np.float64)


def idle(maps: Array) -> Array:
    """(n,) bool: maps that are the same everywhere."""
    flat = _flat(maps)
    return np.asarray(flat.max(1) == flat.min(1))


def _highest(maps: Array, count: Array) -> Array:
    """(n, p) bool, True at the `count` (n,) highest pixels; of equal ones the first."""
    order = np.argsort(-_flat(maps), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    return np.asarray(rank < count[:, None])


def _as_pictures(maps: Array) -> Array:
    largest = np.abs(maps).max((1, 2), keepdims=True).astype(np.float64)
    return np.asarray(0.5 + 0.5 * maps / np.where(largest > 0, largest, 1))


def _blurred(images: Array) -> Array:
    """(n, h, w) -> the Gaussian mean of every whole window inside."""
    bell = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SD) ** 2)
    bell /= bell.sum()
    for axis in (1, 2):
        windows = np.lib.stride_tricks.sliding_window_view(images, WINDOW, axis=axis)
        images = windows @ bell
    return images
