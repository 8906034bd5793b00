"""What do the maps look like?  Some images under the maps of teacher, baseline and students."""

from collections.abc import Mapping

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.map_agreement import rank_correlation, taken_down
from kdprobe.metrics.scope import Scope
from kdprobe.panels import AttributionMap, AttributionPicture, Bytes, Overlays
from kdprobe.study import Run, Study

PICTURE, MAP = 64, 40  # pixels of their sides; larger ones are taken down
METHODS = 3  # kinds of maps that are drawn
NETWORKS = 5  # that stand side by side


def overlays(
    study: Study,
    scope: Scope,
    seen: Mapping[str, Array],
    maps: Mapping[str, Mapping[str, Array]],
    shown: int,
) -> Overlays | None:
    """The first images under the maps of the teacher and of every arm's first run.

    None where the teacher has no maps.
    """
    teacher = study.teacher
    if teacher is None or teacher.id not in maps:
        return None
    first = [runs[0] for runs in study.arms.values() if runs[0].id in maps]
    networks = [teacher, *first][:NETWORKS]
    pictures = tuple(
        _picture(scope, seen, maps, networks, i) for i in range(min(shown, len(seen["labels"])))
    )
    return Overlays(
        title="Where the networks look",
        how_to_read=(
            "IG: integrated gradients, CAM: Grad-CAM. Orange speaks for the class, blue against "
            "it, each map by its own largest value; the object is outlined. r is the rank "
            "correlation with the teacher's map. The first seed, at the end of training."
        ),
        pictures=pictures,
    )


def _drawn(names: list[str]) -> list[str]:
    """A few kinds of maps, of Grad-CAM the last layer; input x gradient, which is IG's first step,
    only where there is room.
    """
    kinds = list({name.split(" ")[0]: name for name in names}.values())
    return (kinds if len(kinds) <= METHODS else [n for n in kinds if n != "I x G"])[:METHODS]


def _picture(
    scope: Scope,
    seen: Mapping[str, Array],
    maps: Mapping[str, Mapping[str, Array]],
    networks: list[Run],
    i: int,
) -> AttributionPicture:
    theirs = maps[networks[0].id]
    on = _fitting(seen["object"][i], PICTURE) >= 0.5
    return AttributionPicture(
        name=f"image {i}",
        label=scope.classes[int(seen["labels"][i])],
        pixels=Bytes.pack(_fitting(seen["pixels"][i], PICTURE)),
        object=Bytes.pack(on * 255.0) if scope.has_masks else None,
        maps=tuple(
            _map(run, name, maps[run.id][name][i], theirs[name][i])
            for name in _drawn(list(theirs))
            for run in networks
            if name in maps[run.id]
        ),
    )


def _fitting(image: Array, side: int) -> Array:
    """(h, w, ...) no larger than `side`."""
    high, wide = (min(side, length) for length in image.shape[:2])
    return np.asarray(taken_down(image[None], high, wide)[0])


def _map(run: Run, name: str, values: Array, theirs: Array) -> AttributionMap:
    """Values (h, w) over their largest size, with how near they are to the teacher's."""
    near = float(rank_correlation(values[None], theirs[None])[0])
    small = _fitting(values, MAP)
    largest = float(np.abs(small).max())
    return AttributionMap(
        method=name,
        network=run.id,
        role=run.role,
        values=Bytes.pack(small / largest if largest > 0 else small, -1.0, 1.0),
        note="" if run.role == "teacher" or np.isnan(near) else f"r = {near:.2f}",
    )
