"""Made-up pictures: a ring on smooth colours, and networks that learn to keep more of the ring."""

import numpy as np
from numpy.typing import NDArray
from specimen_label import EPOCHS, LAYERS

from kdprobe.metrics.viewer import levelled
from kdprobe.panels import Bytes, Viewed, Viewer, Watched

Grid = NDArray[np.float64]
G, SIDE = 16, 32
B = 0.35  # nats
NETWORKS = (
    ("teacher", "teacher", 1.1, (24,)),
    ("baseline-seed0", "baseline", 0.45, EPOCHS),
    ("kd-seed0", "student", 0.8, EPOCHS),
    ("feature-seed0", "student", 0.6, EPOCHS[1:]),
)


def viewer(images: int = 6, epochs: tuple[int, ...] = EPOCHS) -> Viewer:
    """Images with the maps of four networks over training; one of them has no epoch 0."""
    rng = np.random.default_rng(0)
    drawn = [_image(np.random.default_rng(number), number) for number in range(images)]
    pixels, objects = (np.stack(parts) for parts in zip(*drawn, strict=True))
    on = objects[:, ::2, ::2].reshape(images, G * G)
    networks = [
        (name, role, strength, own if role == "teacher" else epochs[len(EPOCHS) - len(own) :])
        for name, role, strength, own in NETWORKS
    ]
    kept = np.stack(
        [
            [
                _map(on, strength * epoch / own[-1], rng)
                for _, _, strength, own in networks
                for epoch in own
            ]
            for _ in LAYERS
        ]
    )
    return Viewer(
        title="What the networks keep",
        how_to_read="Bright cells are kept, dark cells are discarded. White outlines mark visual "
        "concepts, the cyan outline marks the object: concepts inside it are task-relevant.",
        layers=LAYERS,
        networks=tuple(Watched(name=n, role=role, epochs=own) for n, role, _, own in networks),
        pictures=tuple(
            Viewed(name=f"test-{number:04d}", label=str(number % 10)) for number in range(images)
        ),
        pixels=Bytes.pack(pixels),
        object=Bytes.pack(objects * 255.0),
        sides=Bytes.pack(np.where(on, 255.0, 128.0)),
        kept=levelled(kept, B),
        unstable=Bytes.pack(((kept > B) & (kept < B + 0.05)) * 255.0),
        b=B,
    )


def _image(rng: np.random.Generator, number: int) -> tuple[Grid, NDArray[np.bool_]]:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    inside = _ring(x, y, 0.35 + 0.3 * rng.random(), 0.4 + 0.2 * rng.random())
    ground = np.stack(
        [0.5 + 0.4 * np.sin(3 * x + k + number) * np.cos(4 * y - k) for k in range(3)]
    )
    ink = rng.random(3)[:, None, None]
    pixels = np.where(inside, 0.25 * ink, ground) + rng.normal(0, 0.03, (3, SIDE, SIDE))
    return np.clip(pixels, 0, 1).transpose(1, 2, 0) * 255, inside


def _ring(x: Grid, y: Grid, centre_x: float, centre_y: float) -> NDArray[np.bool_]:
    radius = np.hypot((x - centre_x) * 1.3, y - centre_y)
    return (radius > 0.12) & (radius < 0.27)


def _map(on: NDArray[np.bool_], strength: float, rng: np.random.Generator) -> Grid:
    """(n, q) nats kept more than of the background."""
    rough = rng.normal(0, 0.35, (len(on), G, G))
    smooth = sum(np.roll(rough, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 3.0
    kept = strength * on - smooth.reshape(len(on), -1) * 0.5
    off = np.where(on, np.nan, kept)
    return np.asarray(kept - np.nanmean(off, axis=1, keepdims=True))
