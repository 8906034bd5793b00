"""Made-up pictures: a ring on smooth colours, and networks that keep more or less of the ring."""

import numpy as np
from numpy.typing import NDArray

from kdprobe.panels import Bytes, ConceptMap, ConceptPicture, Gallery

Grid = NDArray[np.float64]


def gallery(layer: str, place: int) -> Gallery:
    """Six images with the maps of four networks."""
    return Gallery(
        title=f"What {layer} keeps",
        layer=layer,
        how_to_read="Bright cells are kept, dark cells are discarded. White outlines mark visual "
        "concepts, the cyan outline marks the object: concepts inside it are task-relevant.",
        pictures=tuple(_picture(place * 10 + number, number) for number in range(6)),
    )


def _picture(seed: int, number: int) -> ConceptPicture:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:32, 0:32] / 31.0
    inside = _ring(x, y, 0.35 + 0.3 * rng.random(), 0.4 + 0.2 * rng.random())
    ground = np.stack(
        [0.5 + 0.4 * np.sin(3 * x + k + number) * np.cos(4 * y - k) for k in range(3)]
    )
    ink = rng.random(3)[:, None, None]
    pixels = np.where(inside, 0.25 * ink, ground) + rng.normal(0, 0.03, (3, 32, 32))
    maps = tuple(
        _map(inside[::2, ::2], network, role, rng, strength)
        for network, role, strength in (
            ("teacher", "teacher", 1.1),
            ("baseline-seed0", "baseline", 0.45),
            ("kd-seed0", "student", 0.8),
            ("feature-seed0", "student", 0.6),
        )
    )
    return ConceptPicture(
        name=f"test-{seed:04d}",
        label=str(number),
        pixels=Bytes.pack(np.clip(pixels, 0, 1).transpose(1, 2, 0) * 255),
        object=Bytes.pack(inside * 255.0),
        maps=maps,
    )


def _ring(x: Grid, y: Grid, centre_x: float, centre_y: float) -> NDArray[np.bool_]:
    radius = np.hypot((x - centre_x) * 1.3, y - centre_y)
    return (radius > 0.12) & (radius < 0.27)


def _map(
    inside: NDArray[np.bool_], name: str, role: str, rng: np.random.Generator, strength: float
) -> ConceptMap:
    rough = rng.normal(0, 0.35, (16, 16))
    smooth = sum(np.roll(rough, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 3.0
    entropy = smooth * 0.5 - strength * inside
    entropy -= entropy[~inside].mean()
    concept = -entropy > 0.35
    shaky = concept & (-entropy < 0.4)
    return ConceptMap(
        network=name,
        role=role,
        entropy=Bytes.pack(entropy, -3.0, 3.0),
        concepts=Bytes.pack(np.where(shaky, 128.0, concept * 255.0)),
        found=int(concept.sum()),
        units=concept.size,
    )
