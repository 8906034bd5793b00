"""What does it look like?  Some images with the concept maps of all networks side by side.

Of the end of training alone; `viewer.py` shows how they came to look so.
"""

from collections.abc import Sequence

import numpy as np

from kdprobe.metrics.contract import Array, Seen
from kdprobe.metrics.counting import unstable
from kdprobe.metrics.discarding import background_level, concepts
from kdprobe.metrics.looking import ConceptLook, Objects
from kdprobe.panels import Bytes, ConceptMap, ConceptPicture, Gallery
from kdprobe.study import Run, Study

SPREAD = 3.0  # nats about the background level that the colours of a map span
STABLE, UNSTABLE = 255.0, 128.0  # how a concept is marked


def pictured(
    how: ConceptLook,
    seen: Seen,
    study: Study,
    layer: str,
    *,
    networks: Sequence[Run],
    rows: Sequence[int],
    b: float,
) -> Gallery | None:
    """The images at `rows` of the sample, each with the maps of `networks`; None for sequences."""
    objects = how.objects(seen)
    if objects.pixels is None or objects.mask is None:
        return None
    maps = {run: _maps(how, seen, study, run, layer, b) for run in networks}
    pictures = tuple(
        ConceptPicture(
            name=f"image {i}",
            label=how.scope.classes[int(objects.labels[i])],
            pixels=Bytes.pack(objects.pixels[i]),
            object=Bytes.pack(objects.mask[i] * 255.0),
            maps=tuple(_map(how, objects, run, *maps[run], i) for run in networks),
        )
        for i in rows
        if i < len(objects.labels)
    )
    return Gallery(
        title=f"What the networks keep, {layer}",
        how_to_read=(
            "Colour is the entropy of a cell against the background's mean, in nats: low = kept. "
            f"Framed cells are concepts at b = {b:g}; a thin frame marks the unstable ones, "
            "which fewer than half of the restarts find. The first seed, at the end of training."
        ),
        layer=layer,
        pictures=pictures,
    )


def _maps(
    how: ConceptLook, seen: Seen, study: Study, run: Run, layer: str, b: float
) -> tuple[Array, Array]:
    """(n, q) nats against the background, and how every unit is marked."""
    objects, final = how.objects(seen), [study.final(run)]

    def find(h: Array) -> Array:
        return concepts(h, background_level(h, objects.off, how.scope.discarding.level), [b])

    h = how.entropies(seen, final, layer)[0]
    found = find(h)
    shaky = unstable(found, [find(other[0]) for other in how.restarts(seen, final, layer)])[0]
    level = background_level(h, objects.off, how.scope.discarding.level)[..., None]
    return h - level, np.where(shaky, UNSTABLE, np.where(found[0], STABLE, 0.0))


def _map(
    how: ConceptLook, objects: Objects, run: Run, above: Array, marks: Array, i: int
) -> ConceptMap:
    """Image `i` of one network."""
    here = objects.on[i] | objects.off[i]
    return ConceptMap(
        network=run.id,
        role=run.role,
        entropy=Bytes.pack(
            np.nan_to_num(_drawn(how, objects, above[i], i), nan=SPREAD), -SPREAD, SPREAD
        ),
        concepts=Bytes.pack(np.nan_to_num(_drawn(how, objects, marks[i], i))),
        found=int((marks[i][here] > 0).sum()),
        units=int(here.sum()),
    )


def _drawn(how: ConceptLook, objects: Objects, values: Array, i: int) -> Array:
    """Units (q,) of image `i` as a map: (g, g) of a grid, else (h, w), NaN where none is."""
    cut = how.scope.discarding
    if cut.units == "cells":
        return values.reshape(cut.grid, cut.grid)
    members = objects.members[i]  # type: ignore[index]  # images have members
    return np.where(members >= 0, values[members], np.nan)
