"""What does it look like?  Some images with the concept maps of all networks side by side."""

import numpy as np

from kdprobe.metrics.contract import Seen
from kdprobe.metrics.discarding import ConceptLook, background_level, concepts
from kdprobe.panels import Bytes, ConceptMap, ConceptPicture, Gallery
from kdprobe.study import Study

SPREAD = 3.0  # nats about the background level that the colours of a map span


def gallery(
    how: ConceptLook, seen: Seen, study: Study, layer: str, *, shown: int, b: float
) -> Gallery:
    """The first images with teacher, baseline and students of the first seed side by side."""
    objects = how.objects(seen)
    first = [runs[0] for runs in study.arms.values()]
    networks = ([study.teacher] if study.teacher else []) + first
    maps = []
    for run in networks:
        h = how.entropies(seen, [study.final(run)], layer)[0]
        level = background_level(h, objects.on)
        maps.append((run, np.nan_to_num(h - level, nan=SPREAD), concepts(h, level, [b])[0]))
    pictures = tuple(
        ConceptPicture(
            name=f"image {i}",
            label=how.scope.classes[int(objects.labels[i])],
            pixels=Bytes.pack(objects.pixels[i]),
            object=Bytes.pack(objects.mask[i] * 255.0),
            maps=tuple(
                ConceptMap(
                    network=run.id,
                    role=run.role,
                    entropy=Bytes.pack(h[i], -SPREAD, SPREAD),
                    concepts=Bytes.pack(found[i] * 255.0),
                )
                for run, h, found in maps
            ),
        )
        for i in range(min(shown, len(objects.labels)))
    )
    return Gallery(
        title=f"What the networks keep, {layer}",
        how_to_read=(
            "Colour is the entropy of a cell against the background's mean, in nats: low = kept. "
            f"Framed cells are concepts at b = {b:g}. The first seed, at the end of training."
        ),
        layer=layer,
        pictures=pictures,
    )
