"""What do the maps look like?  Some images under the maps of teacher, baseline and students."""

from collections.abc import Mapping

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.map_agreement import rank_correlation, taken_down
from kdprobe.metrics.scope import Scope
from kdprobe.panels import AttributionMap, AttributionPicture, Bytes, Overlays
from kdprobe.study import Run, Study

LARGEST = 64  # pixels of a picture's side; larger ones are taken down
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
        _picture(study, scope, seen, maps, networks, name, i)
        for i in range(min(shown, len(seen["labels"])))
        for name in _drawn(list(maps[teacher.id]))
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
    study: Study,
    scope: Scope,
    seen: Mapping[str, Array],
    maps: Mapping[str, Mapping[str, Array]],
    networks: list[Run],
    name: str,
    i: int,
) -> AttributionPicture:
    size = [min(LARGEST, side) for side in seen["object"].shape[1:]]
    pixels = taken_down(seen["pixels"][i : i + 1], *size)[0]
    on = taken_down(seen["object"][i : i + 1], *size)[0] >= 0.5
    return AttributionPicture(
        name=f"image {i}",
        label=scope.classes[int(seen["labels"][i])],
        method=name,
        pixels=Bytes.pack(pixels),
        object=Bytes.pack(on * 255.0) if scope.has_masks else None,
        maps=tuple(
            _map(run, maps[run.id][name][i], maps[networks[0].id][name][i])
            for run in networks
            if name in maps[run.id]
        ),
    )


def _map(run: Run, values: Array, theirs: Array) -> AttributionMap:
    """Values (h, w) over their largest size, with how near they are to the teacher's."""
    largest = float(np.abs(values).max())
    near = float(rank_correlation(values[None], theirs[None])[0])
    return AttributionMap(
        network=run.id,
        role=run.role,
        values=Bytes.pack(values / largest if largest > 0 else values, -1.0, 1.0),
        note="" if run.role == "teacher" or np.isnan(near) else f"r = {near:.2f}",
    )
