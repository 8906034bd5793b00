"""Does the student look where its teacher looks?  Agreement of attribution maps, and their worth.

The sights and the order of things; see map_scores.py and map_agreement.py for the arithmetic.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.attribution_page import MapChecks, Maps
from kdprobe.metrics.attribution_pictures import overlays
from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Seen,
    answered,
    followed,
    metric,
    roles_of,
    the_teacher,
)
from kdprobe.metrics.map_agreement import taken_down
from kdprobe.metrics.map_scores import (
    checks_of,
    compare,
    gained,
    nearer,
    references,
    score,
)
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import Sight, sight
from kdprobe.registry import did_you_mean
from kdprobe.study import Run, Study

METHODS = ("integrated_gradients", "input_x_gradient", "grad_cam", "occlusion")
NAMES = {"integrated_gradients": "IG", "input_x_gradient": "I x G", "occlusion": "occlusion"}
CHOICES = {"methods": METHODS, "target": ("teacher", "label"), "reference": ("zeros", "mean")}
FEWEST = 2  # images: the null compares each with the next
SIDE = 64  # pixels that a map keeps, at most
RADIUS = 0.02  # of small changes of pixels in [0, 1], captum's own

Looks = Mapping[tuple[str, str], Mapping[str, Array]]  # (run, method) -> what was seen


@metric(
    "attributions",
    title="Attribution maps",
    question="Does the student look where its teacher looks?",
    source="Parchami-Araghi et al. 2024, arXiv:2402.03119 (agreement for the teacher's class); "
    "Arras et al. 2022, arXiv:2003.07258 (share on the object); Yeh et al. 2019, "
    "arXiv:1901.09392 (infidelity, sensitivity); Ojha et al. 2023, arXiv:2205.16004 "
    "(nearer than an independent student); maps by captum",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("correlation", "overlap", "ssim", "mass", "rank_accuracy", "unexplained"),
    place=80,
)
def attributions(
    study: Study,
    scope: Scope,
    *,
    images: int = 48,
    methods: tuple[str, ...] = METHODS,
    target: str = "teacher",
    reference: str = "zeros",
    steps: int = 32,
    top: float = 0.1,
    checks: int = 12,
    squares: int = 16,
    changes: int = 3,
    shown: int = 3,
) -> Inquiry[Maps]:
    """What every pixel adds to the logit of the class that the teacher predicts (or the label).

    IG, integrated gradients: (x - x') times the mean of df/dx on the straight way from x' to x.
    I x G, input x gradient: x df/dx. CAM, Grad-CAM, at every layer with places: sum_c mean(df/da_c)
    a_c. Occlusion: drop of f behind a window. x' is black (reference=zeros) or the mean colour.
    Maps are summed over channels and signed. Agreement with the teacher's map of the same image:
    Spearman's rank correlation, overlap of the highest 10%, SSIM. On held-out images, at the last
    epoch that the learners share.
    """
    _must_be_known(methods=methods, target=(target,), reference=(reference,), top=top)
    teacher, runs = the_teacher(study), followed(study)
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    count = scope.enough("attributions", images, FEWEST)
    judge = (study.final(teacher),) if target == "teacher" else ()
    told: dict[str, Any] = {
        "reference": reference,
        "steps": steps,
        "side": SIDE,
        "layers": scope.layers,
    }

    def looks(probe: str, some: Sequence[Run], number: int, **more: Any) -> dict[Any, Sight]:
        return {
            (run.id, method): sight(
                probe, study.final(run), *judge, images=number, method=method, **told, **more
            )
            for run in some
            for method in methods
        }

    asked = looks("attributions", (teacher, *runs), count)
    checked = looks(
        "map_checks",
        (teacher, *(arm[0] for arm in study.arms.values())),
        min(checks, count),
        squares=squares,
        changes=changes,
        radius=RADIUS,
    )
    pictures = sight(
        "pictures",
        images=count,
        units="cells",
        grid=1,
        object="mask" if scope.has_masks else "centre",
    )
    seen = yield [*asked.values(), *checked.values(), pictures]
    found, reasons = answered(seen, asked)
    maps = _by_run(found)
    size = next(iter(next(iter(maps.values())).values())).shape[1:]
    objects = taken_down(seen[pictures]["object"], *size) if scope.has_masks else None
    compared = compare(maps, teacher.id, objects, top)
    names = list(dict.fromkeys(name for named in maps.values() for name in named))
    worth, more_reasons = _worth(seen, checked)
    return Maps(
        images=len(found[next(iter(found))]["target"]),
        checked=min(checks, count),
        target=target,
        reference=reference,
        area=None if objects is None else float(objects.mean()),
        flat_layers=_flat_layers(found, scope.layers),
        gap=_gaps(found),
        runs={
            run: {name: score(at) for name, at in named.items()} for run, named in compared.items()
        },
        references=references(study, maps, teacher.id, top),
        nearer={name: nearer(study, compared, name) for name in names},
        checks=worth,
        correlation=gained(study, compared, names, "correlation"),
        mass=gained(study, compared, names, "mass"),
        reasons=list(dict.fromkeys([*reasons, *more_reasons])),
        roles=roles_of(study.runs),
        pictures=overlays(study, scope, seen[pictures], maps, shown),
    )


def _must_be_known(top: float, **chosen: Sequence[str]) -> None:
    for name, values in chosen.items():
        for value in values:
            if value not in CHOICES[name]:
                near = did_you_mean(value, CHOICES[name]) or ";"
                raise UsageError(
                    f"found attributions.{name}={value!r}{near} "
                    f"wanted {', '.join(CHOICES[name])}; choose among these"
                )
    if not 0 < top < 1:
        raise UsageError(
            f"found attributions.top={top:g}; wanted a share of the pixels between 0 and 1; 0.1 is "
            "usual"
        )


def _named(method: str, name: str) -> str:
    """What a map is called on the page."""
    return f"CAM {name}" if method == "grad_cam" else NAMES[method]


def _by_run(found: Looks) -> dict[str, dict[str, Array]]:
    """run -> map -> (n, h, w).

    Raises:
        NotApplicable: Grad-CAM alone was asked for, and no layer has places.
    """
    maps: dict[str, dict[str, Array]] = {}
    for (run, method), look in found.items():
        for key, at in look.items():
            if key.startswith("maps/"):
                maps.setdefault(run, {})[_named(method, key.removeprefix("maps/"))] = at
    if not maps:
        raise NotApplicable(
            "needs a layer with places for Grad-CAM; found none; choose one by --layers, or other "
            "attributions.methods"
        )
    return maps


def _flat_layers(found: Looks, layers: Sequence[str]) -> list[str]:
    """Layers that have no places in some network that Grad-CAM looked at."""
    looks = [look for (_, method), look in found.items() if method == "grad_cam"]
    return [layer for layer in layers if any(f"maps/{layer}" not in look for look in looks)]


def _gaps(found: Looks) -> dict[str, float]:
    """By run, the part of the logit's change that integrated gradients do not sum to."""
    looks = {run: look for (run, method), look in found.items() if "gap" in look}
    sizes = {
        run: [np.abs(look[key]).mean() for key in ("gap", "change")] for run, look in looks.items()
    }
    return {run: float(gap / change) for run, (gap, change) in sizes.items() if change > 0}


def _worth(
    seen: Seen, checked: Mapping[tuple[str, str], Sight]
) -> tuple[dict[str, dict[str, MapChecks]], list[str]]:
    """run -> map -> what it is worth, and why some could not be checked."""
    try:
        found, reasons = answered(seen, checked)
    except Refused as answer:
        return {}, [answer.reason]
    worth: dict[str, dict[str, MapChecks]] = {}
    for (run, method), look in found.items():
        for key in look:
            kind, _, name = key.partition("/")
            if kind == "unexplained":
                worth.setdefault(run, {})[_named(method, name)] = checks_of(look, name)
    return worth, reasons
