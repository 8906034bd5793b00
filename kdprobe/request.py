"""What is asked of a study?  The user's choices, checked against what is there."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdprobe.datasets.contract import Images
from kdprobe.errors import UnknownName, UsageError
from kdprobe.loading import build
from kdprobe.metrics.contract import METRICS, Metric
from kdprobe.metrics.scope import Discarding, Scope, must_be_read
from kdprobe.metrics.settings import must_be_like
from kdprobe.registry import did_you_mean
from kdprobe.study import Study
from kdprobe.taps import find_taps, named_taps

CONCEPT_LAYERS = 3  # by default: the last taps of a network
MOST_SEEDS = 1 << 32
PLAIN, PLAIN_WEIGHT = ("vgg", "alexnet"), 7.0  # the paper's lam for these families; else 6


@dataclass(frozen=True)
class Request:
    """What the user asks of an analysis."""

    metrics: tuple[str, ...] = ()  # empty: all
    layers: tuple[str, ...] = ()  # empty: the last stage, the pooled features, the logits
    images: int = 128
    device: str = "auto"
    seed: int = 0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # metric -> setting
    allowed: frozenset[str] = frozenset()  # modules whose code may be run
    executor: str = "local"


def with_estimator(
    settings: Mapping[str, Mapping[str, Any]], estimator: str | None
) -> dict[str, Mapping[str, Any]]:
    """`settings` with the estimator of concepts, where one is named."""
    if estimator is None:
        return dict(settings)
    changed = {**settings.get("discarding", {}), "estimator": estimator}
    return {**settings, "discarding": changed}


def chosen_metrics(request: Request) -> list[tuple[Metric, dict[str, Any]]]:
    """The metrics to run, with their settings; all faults of the names come from the catalogue."""
    keys = dict.fromkeys(request.metrics) or METRICS
    for key in request.settings:
        if key != "discarding" and key not in METRICS:
            known = ["discarding", *METRICS]
            raise UsageError(
                f"--set {key}.…: no metric is called {key!r}"
                f"{did_you_mean(key, known) or '.'} Known: {', '.join(known)}"
            )
    settings = {m.key: m.with_defaults(request.settings.get(m.key, {})) for m in METRICS.values()}
    return [(METRICS[key], settings[key]) for key in keys]


def _discarding(request: Request) -> Discarding:
    changes = dict(request.settings.get("discarding", {}))
    known = {name: getattr(Discarding(), name) for name in Discarding.__dataclass_fields__}
    for name, value in changes.items():
        if name not in known:
            raise UsageError(
                f"--set discarding.{name}={value}: wanted one of "
                + ", ".join(f"{key} (now {now})" for key, now in known.items())
            )
        must_be_like(f"discarding.{name}", value, known[name])
    if "sweep" in changes:
        changes["sweep"] = tuple(changes["sweep"])
    must_be_read(changes)
    return Discarding(**changes)


def scope_of(study: Study, request: Request, images: Images) -> Scope:
    """What `request` means for `study` and its images.

    Raises:
        UsageError: a setting, layer, seed or number of images cannot be used.
    """
    _must_be_sizes(request)
    bodies = {run.id: build(run.last.network, request.allowed).body for run in study.runs}
    own = {name: tuple(named_taps(body)) for name, body in bodies.items()}
    shared = [tap for tap in own[study.runs[0].id] if all(tap in taps for taps in own.values())]
    layers = request.layers or tuple(shared[-CONCEPT_LAYERS:]) or ("logits",)
    for name, body in bodies.items():
        try:
            find_taps(body, layers)
        except UnknownName as error:
            raise UnknownName(f"run {name!r}: {error}; every network needs the layers") from error
    chosen = request.settings.get("discarding", {})
    cut = _weighted(_discarding(request), study, chosen)
    return Scope(
        layers=layers,
        images=request.images,
        available=len(images),
        dataset=study.data.name or study.data.factory,
        classes=images.classes,
        has_masks=images.objects is not None,
        similarity_layers={
            name: taps + tuple(layer for layer in request.layers if layer not in taps)
            for name, taps in own.items()
        },
        seed=request.seed,
        discarding=_fitting(cut, images, chosen),
    )


def _must_be_sizes(request: Request) -> None:
    """Raise UsageError for a number of images or a seed that cannot be used."""
    if request.images < 1:
        raise UsageError(f"found --images {request.images}; wanted at least 1")
    if not 0 <= request.seed < MOST_SEEDS:
        raise UsageError(f"found --seed {request.seed}; wanted 0 to {MOST_SEEDS - 1}")


def _weighted(cut: Discarding, study: Study, chosen: Collection[str]) -> Discarding:
    """With the paper's weight for networks without shortcuts, where its procedure is asked for.

    Its counts depend on the weight; those of the other estimators do not.
    """
    learners = study.learners or study.runs
    plain = all(run.last.network.name.startswith(PLAIN) for run in learners)
    if cut.estimator == "paper" and plain and "lam" not in chosen:
        return replace(cut, lam=PLAIN_WEIGHT)
    return cut


def _fitting(cut: Discarding, images: Images, chosen: Collection[str]) -> Discarding:
    """The same settings, with units that the inputs have, unless the user chose them himself.

    Sequences have tokens. Cells are to be equal where images have masks: the grid divides them.

    Raises:
        UsageError: the chosen grid does not fit.
    """
    if len(images.positions) == 1:
        return cut if "units" in chosen else replace(cut, units="tokens")
    height, width = images.positions
    if cut.units != "cells" or (height % cut.grid == 0 and width % cut.grid == 0):
        return cut
    if images.objects is None and cut.object == "mask" and cut.grid <= min(height, width):
        return cut
    fitting = [g for g in range(1, 1 + min(height, width)) if height % g == 0 and width % g == 0]
    nearest = min(fitting, key=lambda g: abs(g - cut.grid))
    if "grid" in chosen:
        raise UsageError(
            f"found images of {height} × {width} pixels and discarding.grid={cut.grid}; wanted a "
            f"grid that divides both: --set discarding.grid={nearest}"
        )
    return replace(cut, grid=nearest)
