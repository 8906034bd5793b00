"""What is said of concept vectors on the page?  The result of the metric `concept_vectors`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Roles, by_arm, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Heatmap, Panel, Table
from kdprobe.stats import Difference


@dataclass(frozen=True)
class ConceptScore:
    """One concept at one layer of one network, over random sets."""

    score: float  # TCAV: share of images whose logit rises towards the concept
    spread: float  # standard deviation over sets
    by_chance: float  # the same of vectors that tell counterexamples from counterexamples
    chance_spread: float
    p_value: float  # of no difference between the two, adjusted over layers and concepts
    accuracy: float  # of the classifier on other examples
    accuracy_spread: float
    accuracy_by_chance: float
    like_teacher: float | None  # share of images and sets where the slope's sign is the teacher's
    like_teacher_error: float | None  # standard error over images
    like_teacher_by_chance: float | None


@dataclass(frozen=True)
class ConceptVectors:
    """Concept activation vectors of all networks."""

    images: int
    examples: int
    sets: int
    kind: str
    of: str
    runs: Mapping[str, Mapping[str, Mapping[str, ConceptScore]]]  # run -> layer -> concept
    like_teacher: Mapping[str, Difference]  # "arm layer concept" -> student minus baseline
    silent: Sequence[str]
    reasons: Sequence[str]
    roles: Roles = page_only()

    def panels(self) -> list[Panel]:
        found: list[Panel] = [self._heatmap()]
        if self.like_teacher:
            found.append(
                forest(
                    "Concepts that count as they do for the teacher",
                    "equal signs, student minus baseline",
                    self.like_teacher,
                    "Signs of the slopes along the concept, as in the teacher: right of the line "
                    "it speaks for or against the class on the same images.",
                )
            )
        return [*found, self._table()]

    def findings(self) -> list[str]:
        """Layers that answer to all examples alike."""
        return list(self.silent)

    def lacking(self) -> Sequence[str]:
        """Networks that could not be looked at, and why."""
        return self.reasons

    def _heatmap(self) -> Heatmap:
        arms = by_arm(self.roles, self.runs)
        places = list(
            dict.fromkeys(
                (layer, name)
                for layers in self.runs.values()
                for layer, named in layers.items()
                for name in named
            )
        )
        rows = [[self._mean(runs, place, "score") for place in places] for runs in arms.values()]
        idle = [self._mean(list(self.runs), place, "by_chance") for place in places]
        whose = f"the images of class {self.of}" if self.of else "all images, each by its own class"
        return Heatmap(
            title="Share of images whose class a concept speaks for",
            how_to_read=(
                f"TCAV of {whose}, mean over random sets and seeds: above the last row, of random "
                "concepts, the logit mostly rises towards the concept, below it falls. The table "
                "tells which differ from chance, and whether the layer holds the concept at all."
            ),
            values=tuple(tuple(row) for row in [*rows, idle]),
            rows=(*(arm for arm, _ in arms), "random concepts"),
            columns=tuple(f"{layer} {name}" for layer, name in places),
            row_label="network",
            column_label="layer and concept",
            low=0.0,
            high=1.0,
        )

    def _mean(self, runs: Sequence[str], place: tuple[str, str], what: str) -> float | None:
        layer, name = place
        known = [
            getattr(self.runs[run][layer][name], what)
            for run in runs
            if name in self.runs[run].get(layer, {})
        ]
        return float(np.mean(known)) if known else None

    def _table(self) -> Table:
        rows = tuple(
            (run, layer, name, round(at.score, 3), round(at.spread, 3))
            + (round(at.by_chance, 3), round(at.chance_spread, 3), round(at.p_value, 4))
            + (round(100 * at.accuracy, 1), round(100 * at.accuracy_spread, 1))
            + (round(100 * at.accuracy_by_chance, 1),)
            + tuple(
                None if value is None else round(100 * value, 1)
                for value in (at.like_teacher, at.like_teacher_error, at.like_teacher_by_chance)
            )
            for run, layers in self.runs.items()
            for layer, named in layers.items()
            for name, at in named.items()
        )
        return Table(
            title="Concepts at every layer",
            how_to_read=(
                f"{self.images} images, up to {self.examples} examples a concept, {self.sets} "
                "random sets. TCAV and its random concepts with their standard deviations over "
                "sets; p: permutation test of the two, two-sided, adjusted for all layers and "
                "concepts of a network (Holm); it speaks of other examples, not of other images. "
                "Accuracy: of the classifiers on examples that did not train them; near that by "
                "chance the layer does not hold the concept, and TCAV tells nothing. Like the "
                "teacher: share of slopes with the sign of the teacher's, and the same by random "
                "concepts."
            ),
            columns=("run", "layer", "concept", "TCAV", "± TCAV", "random", "± random", "p (Holm)")
            + ("accuracy %", "± %", "random accuracy %")
            + ("like the teacher %", "± like %", "random like %"),
            rows=rows,
            name="concept_vectors",
        )
