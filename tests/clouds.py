"""Clouds of points with a known geometry, as a layer would put them out."""

import numpy as np

from kdprobe.metrics.geometry import Shapes


def shapes(*features: np.ndarray) -> Shapes:
    """What the probe `grams` would see of features (n, d); several make a stack."""
    centred = [x - x.mean(0) for x in features]
    grams = np.stack([x @ x.T for x in centred])
    norms = np.stack([np.linalg.norm(x, axis=1) for x in features])
    return Shapes(grams, norms) if len(features) > 1 else Shapes(grams[0], norms[0])


def gaussian(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def rotation(d: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(gaussian(d, d, seed))[0]


def seen(*features: np.ndarray, labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """All that the probe `grams` shows of layers (n, d)."""
    n = len(features[0])
    grams, norms = shapes(*features).grams, shapes(*features).norms
    return {
        "grams": grams.reshape(-1, n, n),
        "norms": norms.reshape(-1, n),
        "widths": np.array([x.shape[1] for x in features]),
        "labels": np.arange(n) % 2 if labels is None else labels,
    }
