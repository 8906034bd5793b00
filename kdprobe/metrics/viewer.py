"""How did it come to look so?  Images under the concept maps of networks over their training.

Nothing is looked at for it: it holds the checkpoints that the metric `concepts` looks at anyway.

Axes: l layers, k checkpoints (of the first network, then of the next), n images, q units.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kdprobe.metrics.contract import Array, Seen
from kdprobe.metrics.counting import unstable
from kdprobe.metrics.discarding import background_level, concepts
from kdprobe.metrics.looking import ConceptLook, Objects
from kdprobe.metrics.map_agreement import taken_down
from kdprobe.panels import Bytes, Viewed, Viewer, Watched
from kdprobe.study import Checkpoint, Run, Study

STEP = 0.05  # nats between two levels of a map
SIDE = 128  # pixels of a picture; larger ones are taken down
MOST_IMAGES = 64
MOST_UNITS = 6_000_000  # of all maps together; beyond, checkpoints are left out, then images

Watch = Mapping[Run, Sequence[Checkpoint]]


def viewer(how: ConceptLook, seen: Seen, study: Study, *, shown: int, b: float) -> Viewer | None:
    """The first images with teacher, baseline and students of the first seed over training.

    None where the inputs are no images, and where none is to be shown.
    """
    objects = how.objects(seen)
    if objects.pixels is None or objects.mask is None or shown < 1:
        return None
    whole, wanted = watched(study), min(shown, len(objects.labels))
    watch, images = fitting(whole, len(how.layers), wanted, objects.on.shape[1])
    rows = slice(images)
    maps = [_maps(how, seen, objects, watch, layer, b) for layer in how.layers]
    kept, shaky = (np.stack([pair[which][:, rows] for pair in maps]) for which in (0, 1))
    return Viewer(
        title="What the networks keep",
        how_to_read=(
            "Colour says how much less of a cell is discarded than of the background, in nats. "
            "Framed cells are concepts: kept by more than b. A thin or dashed frame marks unstable "
            "ones, which fewer than half of the restarts find. The first seed of every arm."
        ),
        layers=tuple(how.layers),
        networks=tuple(
            Watched(name=run.id, role=run.role, epochs=tuple(c.epoch for c in those))
            for run, those in watch.items()
        ),
        pictures=tuple(
            Viewed(name=f"image {i}", label=how.scope.classes[int(objects.labels[i])])
            for i in range(images)
        ),
        pixels=Bytes.pack(_small(objects.pixels[rows])),
        object=Bytes.pack((_small(objects.mask[rows]) >= 0.5) * 255.0),
        sides=Bytes.pack(np.where(objects.on, 255.0, np.where(objects.off, 128.0, 0.0))[rows]),
        members=None if how.scope.discarding.units == "cells" else _members(objects, rows),
        kept=levelled(kept, b),
        unstable=Bytes.pack(shaky * 255.0),
        b=b,
        note=_note(whole, watch, wanted, images, len(objects.labels)),
    )


def watched(study: Study) -> dict[Run, Sequence[Checkpoint]]:
    """The teacher at its end, and the first run of every arm at all epochs that learners share."""
    epochs = study.common_epochs()
    found: dict[Run, Sequence[Checkpoint]] = {}
    if study.teacher is not None:
        found[study.teacher] = (study.final(study.teacher),)
    for runs in study.arms.values():
        found[runs[0]] = runs[0].at(epochs) or (study.final(runs[0]),)
    return found


def fitting(watch: Watch, layers: int, images: int, units: int) -> tuple[Watch, int]:
    """As many of the checkpoints as there is room for, the first and the last among them.

    Fewer images only where two checkpoints a network are too many.
    """
    images = min(images, MOST_IMAGES)
    most = max(len(those) for those in watch.values())
    while most > 2 and layers * _count(watch, most) * images * units > MOST_UNITS:
        most -= 1
    thinned = {run: _thinned(those, most) for run, those in watch.items()}
    room = MOST_UNITS // (layers * _count(watch, most) * units)
    return thinned, max(1, min(images, room))


def _count(watch: Watch, most: int) -> int:
    return sum(min(len(those), most) for those in watch.values())


def _thinned(those: Sequence[Checkpoint], most: int) -> Sequence[Checkpoint]:
    if len(those) <= most:
        return those
    places = np.rint(np.linspace(0, len(those) - 1, most)).astype(int)
    return [those[place] for place in places]


def _note(whole: Watch, watch: Watch, wanted: int, images: int, sample: int) -> str:
    """What there was no room for, and what else is in the sample."""
    told = []
    before, after = (max(len(those) for those in those.values()) for those in (whole, watch))
    if after < before:
        told.append(f"Only {after} of {before} checkpoints of a network are shown.")
    if images < wanted:
        told.append(f"Only the first {images} of the {wanted} images asked for are shown.")
    elif images < sample:
        more = f"; --set concepts.shown={min(sample, MOST_IMAGES)} shows more"
        room = more if images < MOST_IMAGES else ""
        told.append(f"The first {images} of the {sample} images in the sample{room}.")
    return " ".join(told)


def _maps(
    how: ConceptLook, seen: Seen, objects: Objects, watch: Watch, layer: str, b: float
) -> tuple[Array, Array]:
    """(k, n, q) nats kept more than of the background; and which concepts at `b` are unstable."""
    kind = how.scope.discarding.level

    def find(h: Array) -> Array:
        return concepts(h, background_level(h, objects.off, kind), [b])

    kept, shaky = [], []
    for those in watch.values():
        h = how.entropies(seen, those, layer)
        kept.append(background_level(h, objects.off, kind)[..., None] - h)
        again = [find(other) for other in how.restarts(seen, those, layer)]
        shaky.append(unstable(find(h), again)[0])
    return np.concatenate(kept), np.concatenate(shaky)


def levelled(kept: Array, b: float) -> Bytes:
    """`kept` by steps, the least where there is none.

    A level holds what lies between two multiples of STEP from `b`, so that the levels alone tell
    which units are above every such threshold, exactly.
    """
    with np.errstate(invalid="ignore"):
        middle = b + (np.ceil((kept - b) / STEP) - 0.5) * STEP
    low, high = b - 127.5 * STEP, b + 127.5 * STEP
    return Bytes.pack(np.nan_to_num(middle, nan=low), low, high)


def _small(images: Array) -> Array:
    """(n, h, w, ...) with sides of at most SIDE."""
    high, wide = (min(SIDE, length) for length in images.shape[1:3])
    return np.asarray(taken_down(images, high, wide))


def _members(objects: Objects, rows: slice) -> Bytes:
    """(n, h, w, 2) the unit of every pixel + 1 in base 256, of a pixel in place of many."""
    members = np.asarray(objects.members)[rows] + 1
    down, across = (
        np.arange(min(SIDE, length)) * length // min(SIDE, length) for length in members.shape[1:]
    )
    few = members[:, down[:, None], across]
    return Bytes.pack(np.stack([few // 256, few % 256], axis=-1))
