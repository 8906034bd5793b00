"""Does a concept speak for the class, in the student as in its teacher?  TCAV.

Axes: u random sets, n images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.concept_vectors_page import ConceptScore, ConceptVectors
from kdprobe.metrics.contract import Array, Inquiry, answered, metric, roles_of
from kdprobe.metrics.effects import over_images
from kdprobe.metrics.scope import Scope
from kdprobe.probes.concept_pictures import content_of
from kdprobe.probes.contract import sight
from kdprobe.registry import did_you_mean
from kdprobe.stats import Difference, holm
from kdprobe.study import Study

CONCEPTS = ("masks", "parts", "folders")
FEWEST_SETS = 4  # of each kind, for the test against chance
FEWEST_IMAGES = 16  # to show the concepts and to be looked at
DRAWS = 4000  # of the permutation test
NAMES = ("toward", "by_chance", "accuracy", "accuracy_by_chance")  # of what a look holds

Look = Mapping[str, Array]
Place = tuple[str, str]  # layer, concept


@metric(
    "concept_vectors",
    title="Concept activation vectors (TCAV)",
    question="Do the same concepts speak for a class, in student and teacher?",
    source="Kim et al. 2018, arXiv:1711.11279, section 3; slopes by captum",
    better="neither",
    range=(0.0, 1.0),
    ranged=("score", "by_chance", "p_value", "accuracy", "accuracy_by_chance", "like_teacher"),
    place=85,
)
def concept_vectors(
    study: Study,
    scope: Scope,
    *,
    images: int = 64,
    examples: int = 96,
    sets: int = 20,
    concepts: str = "masks",
    folders: str = "",
    of: str = "",
) -> Inquiry[ConceptVectors]:
    """TCAV: share of images whose class logit rises along v, the normal of a linear classifier.

    The classifier (ridge regression) tells examples of a concept from counterexamples in a layer.
    concepts=masks: "object" and "background", images of which only that is left, against images
    of which another image's mask leaves as much. concepts=parts: alike for the parts of the data
    set. folders=DIR: DIR/CONCEPT/PICTURES against images of the data set. `of` takes the images of
    one class alone. The class is the label; at the last epoch that the learners share.
    """
    kind = _kind(concepts, folders, of, scope)
    layers = tuple(layer for layer in scope.layers if layer != "logits")
    if not layers:
        raise NotApplicable("needs a hidden layer; found the logits alone; name one by --layers")
    total = min(images + examples, scope.available)
    if total < FEWEST_IMAGES or sets < FEWEST_SETS:
        raise NotApplicable(
            f"needs {FEWEST_IMAGES} images and {FEWEST_SETS} random sets; found {total} and "
            f"{sets}; add images, or raise concept_vectors.sets"
        )
    showing = examples if total == images + examples else total // 2
    runs = (*([study.teacher] if study.teacher else []), *study.learners)
    asked = {
        run.id: sight(
            "concept_vectors",
            study.final(run),
            images=total,
            layers=layers,
            concepts=kind,
            folder=folders,
            content=content_of(folders) if folders else "",
            examples=showing,
            sets=sets,
            of=of,
        )
        for run in runs
    }
    seen = yield list(asked.values())
    found, reasons = answered(seen, asked)
    found = {run: _in_order(look, layers) for run, look in found.items()}
    judge = found.get(study.teacher.id) if study.teacher else None
    alike = {run: _alike(look, judge) for run, look in found.items()}
    places = list(dict.fromkeys(place for look in found.values() for place in _places(look)))
    return ConceptVectors(
        images=len(next(iter(found.values()))["labels"]),
        examples=showing,
        sets=sets,
        kind=kind,
        of=of,
        runs={
            run: _scores(look, alike[run] if study.teacher and run != study.teacher.id else {})
            for run, look in found.items()
        },
        like_teacher=_effects(study, alike, places),
        silent=_silent(found, layers),
        reasons=reasons,
        roles=roles_of(study.runs),
    )


def _kind(concepts: str, folders: str, of: str, scope: Scope) -> str:
    """Which concepts are looked for: folders, where they are named."""
    if concepts not in CONCEPTS:
        near = did_you_mean(concepts, CONCEPTS) or ";"
        raise UsageError(
            f"found concept_vectors.concepts={concepts!r}{near} wanted {', '.join(CONCEPTS)}; "
            "choose among these"
        )
    if of and of not in scope.classes:
        near = did_you_mean(of, scope.classes) or ";"
        raise UsageError(
            f"found concept_vectors.of={of!r}{near} wanted a class of the data set: "
            f"{', '.join(scope.classes[:10])}"
        )
    if folders:
        return "folders"
    if concepts == "folders":
        raise UsageError(
            "found concept_vectors.concepts='folders' and no folder; wanted "
            "concept_vectors.folders=DIR, with a folder of pictures for every concept in it"
        )
    if concepts == "masks" and not scope.has_masks:
        raise NotApplicable(
            f"needs concepts; data set {scope.dataset!r} has no object masks; "
            "--set concept_vectors.folders=DIR takes DIR/CONCEPT/PICTURES, "
            "--set concept_vectors.concepts=parts the data set's parts"
        )
    return concepts


def _in_order(look: Look, layers: Sequence[str]) -> dict[str, Array]:
    """A store sorts by name; here the layers stand as they follow each other."""
    place = {layer: index for index, layer in enumerate(layers)}
    keys = sorted(look, key=lambda key: place.get(key.split("/")[1], 0) if "/" in key else -1)
    return {key: look[key] for key in keys}


def _places(look: Look) -> list[Place]:
    """(layer, concept) of everything that was classified; concepts may bear a slash."""
    keys = [key.split("/", 2) for key in look if key.startswith("toward/")]
    return [(layer, concept) for _, layer, concept in keys]


def _scores(look: Look, alike: Mapping[Place, tuple[Array, Array]]) -> dict[str, Any]:
    """layer -> concept -> what was found; p-values adjusted over all of one network."""
    places = _places(look)
    at = {place: [look[f"{name}/{'/'.join(place)}"] for name in NAMES] for place in places}
    p_values = holm([_p_value(own.mean(1), idle.mean(1)) for own, idle, _, _ in at.values()])
    found: dict[str, dict[str, ConceptScore]] = {}
    for (place, (own, idle, right, guessed)), p in zip(at.items(), p_values, strict=True):
        like, by_chance = alike.get(place, (None, None))
        found.setdefault(place[0], {})[place[1]] = ConceptScore(
            score=float(own.mean()),
            spread=float(own.mean(1).std(ddof=1)),
            by_chance=float(idle.mean()),
            chance_spread=float(idle.mean(1).std(ddof=1)),
            p_value=p,
            accuracy=float(right.mean()),
            accuracy_spread=float(right.std(ddof=1)),
            accuracy_by_chance=float(guessed.mean()),
            like_teacher=None if like is None else float(like.mean()),
            like_teacher_error=None if like is None else _error(like),
            like_teacher_by_chance=None if by_chance is None else float(by_chance.mean()),
        )
    return found


def _alike(look: Look, judge: Look | None) -> dict[Place, tuple[Array, Array]]:
    """(n,) share of the sets in which the slope's sign is the teacher's; with v of chance too."""
    if judge is None:
        return {}
    shared = [place for place in _places(look) if place in _places(judge)]
    return {
        place: tuple(
            (look[f"{name}/{'/'.join(place)}"] == judge[f"{name}/{'/'.join(place)}"]).mean(0)
            for name in NAMES[:2]
        )
        for place in shared
    }


def _effects(
    study: Study, alike: Mapping[str, Mapping[Place, tuple[Array, Array]]], places: Sequence[Place]
) -> dict[str, Difference]:
    """By "arm layer concept": signs shared with the teacher, student minus baseline."""
    found = {}
    for place in places:
        values = {run: known[place][0] for run, known in alike.items() if place in known}
        for arm, difference in over_images(study, values).items():
            found[f"{arm} {' '.join(place)}"] = difference
    return found


def _p_value(one: Array, two: Array) -> float:
    """Two-sided permutation test of equal means: (u,) and (u,) scores."""
    both = np.concatenate([one, two])
    chance = np.random.default_rng(0)
    orders = chance.random((DRAWS, len(both))).argsort(1)
    shuffled = both[orders]
    gaps = shuffled[:, : len(one)].mean(1) - shuffled[:, len(one) :].mean(1)
    found = abs(one.mean() - two.mean())
    return float((1 + (np.abs(gaps) >= found - 1e-12).sum()) / (1 + DRAWS))


def _error(values: Array) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


def _silent(found: Mapping[str, Look], layers: Sequence[str]) -> list[str]:
    """Where no classifier could be made, as every example gets the same answer."""
    return [
        f"{layer} of {run} answers to all examples alike; it has no concept vector"
        for run, look in found.items()
        for layer in layers
        if layer not in {place[0] for place in _places(look)}
    ]
