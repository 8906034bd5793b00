"""Did the student copy the teacher's decision boundaries?  MagSim and AngSim of attacks on both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.attacked import FEWEST, Attacks, Mean, of_images, over_attacks
from kdprobe.metrics.contract import Inquiry, followed, metric, page_only, the_teacher
from kdprobe.metrics.effects import forest, over_images
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Forest, Panel, Table
from kdprobe.probes.contract import sight
from kdprobe.stats import Difference
from kdprobe.study import Study

FAR = 0.05  # of the gap between the two logits: an end that is not at the boundary


@dataclass(frozen=True)
class Alike:
    """The boundaries of two networks."""

    run: str
    against: str
    role: str  # of the run
    attacks: int  # after which both networks leave the class that both gave to the image
    tried: int
    angle: Mean  # AngSim: cosine of the two perturbations
    size: Mean  # MagSim: the shorter of the two, in lengths of the longer
    strange: Mean  # cosine with the teacher's perturbation of another image


@dataclass(frozen=True)
class Attacked:
    """How one network fared, on the images that it names right; None where it names none."""

    right: float  # share of the images
    left: float | None  # share of the attacks that end outside the class of the label
    distance: float | None  # median length of the perturbations, L2 of pixels in [0, 1]
    rest: float | None  # median of the gap between the two logits, of what it was


@dataclass(frozen=True)
class Boundaries:
    """Every network against the teacher, and baselines against each other."""

    images: int
    targets: int
    eta: float
    pairs: Sequence[Alike]
    networks: Mapping[str, Attacked]
    effects: Mapping[str, Difference] = page_only()  # name of the row -> student minus baseline

    def panels(self) -> list[Panel]:
        return [*self._forest(), self._table(), self._attacked()]

    def findings(self) -> list[str]:
        found = []
        rest = {run: at.rest or 0.0 for run, at in self.networks.items()}
        far = [run for run in rest if rest[run] > FAR]
        if far:
            worst = max(far, key=lambda run: rest[run])
            remedy = "lower boundary.eta, or set it to 0" if self.eta else "raise boundary.steps"
            found.append(
                f"with eta = {self.eta:g} the attacks on {len(far)} of {len(rest)} networks end "
                f"away from the boundary (half of those on {worst} with more than "
                f"{100 * rest[worst]:.0f}% of the gap left): {remedy}"
            )
        few = [pair for pair in self.pairs if pair.attacks < FEWEST]
        if few:
            least = min(few, key=lambda pair: pair.attacks)
            found.append(
                f"{len(few)} of {len(self.pairs)} pairs of networks cannot be compared: only "
                f"{least.attacks} of {least.tried} attacks take both {least.run} and "
                f"{least.against} out of a class that both had given, wanted {FEWEST}: raise "
                "boundary.images"
            )
        return found

    def _forest(self) -> list[Forest]:
        reading = (
            "Means of every image's own mean. Above 0: nearer to the teacher than the baseline is, "
            "which never saw it."
        )
        title = "Boundaries like the teacher's, beyond the baseline's"
        shown = forest(title, "difference of AngSim and of MagSim", self.effects, reading)
        return [shown] if self.effects else []

    def _table(self) -> Table:
        rows = tuple(
            (p.run, p.against, p.role, p.attacks)
            + (_told(p.angle.value), _told(p.angle.error), _told(p.strange.value))
            + (_told(p.size.value), _told(p.size.error))
            for p in self.pairs
        )
        return Table(
            title="Similarity of decision boundaries",
            how_to_read=(
                f"On {self.images} held-out images, towards {self.targets} wrong classes each. "
                "AngSim: 1 = both networks are fooled in the same direction, 0 = directions have "
                "nothing in common; beside it the same with the attack on another image. MagSim: 1 "
                "= equally far. ± is a standard error over images. The baselines never saw the "
                "teacher: against it, and against each other, they show what needs no teacher."
            ),
            columns=("run", "against", "role", "attacks", "AngSim", "±", "another image's")
            + ("MagSim", "± "),
            rows=rows,
            name="boundary",
        )

    def _attacked(self) -> Table:
        return Table(
            title="How the attacks ended",
            how_to_read=(
                "On the images that a network names right: share of attacks that leave the class "
                "of the label, median length of the perturbation (L2 of pixels in [0, 1]), and "
                "how much of the gap between the two logits is left: at the boundary 0."
            ),
            columns=("run", "right %", "left %", "distance", "gap left %"),
            rows=tuple(
                (run, _percent(at.right), _percent(at.left), _told(at.distance), _percent(at.rest))
                for run, at in self.networks.items()
            ),
            name="boundary_attacks",
        )


@metric(
    "boundary",
    title="Similarity of decision boundaries",
    question="Did the student copy the teacher's decision boundaries?",
    source="Heo et al. 2019, arXiv:1805.05532; Sarfraz et al. 2020, arXiv:2007.01922",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("value", "right"),
    place=27,
)
def boundary(
    study: Study,
    scope: Scope,
    *,
    images: int = 24,
    targets: int = 9,
    steps: int = 10,
    eta: float = 0.0,
) -> Inquiry[Boundaries]:
    """Attack teacher and student from the label y towards each wrong class k, and compare the ends.

    x <- clip(x + eta (z_y - z_k + 1e-4) g / |g|), g = d/dx (z_k - z_y), `steps` times, pixels in
    [0, 1]; eta in pixels a logit, and eta = 0 stands for 1 / |g|: the way to the boundary of a
    linear network. The original code has eta = 0.3, which leaps over the boundary of a network
    whose |g| is above 2 / 0.3, as is usual; then the table shows a gap that is left. With d the
    perturbations, over the attacks after which both networks leave the class that both gave to the
    clean image: AngSim = mean of <d_s, d_t> / (|d_s| |d_t|), MagSim = mean of min(|d_s|, |d_t|) /
    max(|d_s|, |d_t|). Of more than `targets` wrong classes, those likeliest to the teacher. At the
    last epoch that the learners share.
    """
    if eta < 0:
        raise UsageError(f"setting boundary.eta is {eta:g}; wanted 0 or more")
    teacher = the_teacher(study)
    runs = followed(study)
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    if len(scope.classes) < 2:
        raise NotApplicable("needs at least 2 classes; a boundary lies between two")
    asked = sight(
        "boundary_attacks",
        *(study.final(run) for run in (teacher, *runs)),
        images=images,
        targets=targets,
        steps=steps,
        eta=float(eta),
    )
    seen = yield [asked]
    look = Attacks(seen[asked])
    places = {run.id: place for place, run in enumerate((teacher, *runs))}
    roles = {run.id: run.role for run in (teacher, *runs)}
    ways = [(run.id, teacher.id) for run in runs]
    ways += list(combinations([run.id for run in study.baselines], 2))
    return Boundaries(
        images=look.left.shape[1],
        targets=look.left.shape[2],
        eta=float(eta),
        pairs=[_alike(look, places, pair, roles[pair[0]]) for pair in ways],
        networks={run: _attacked(look, place) for run, place in places.items()},
        effects=_effects(study, look, {run.id: places[run.id] for run in runs}),
    )


def _alike(look: Attacks, places: Mapping[str, int], pair: tuple[str, str], role: str) -> Alike:
    i, j = (places[run] for run in pair)
    kept = look.kept(i, j)
    return Alike(
        *pair,
        role,
        attacks=int(kept.sum()),
        tried=kept.size,
        angle=over_attacks(look.cosines[i, j], kept),
        size=over_attacks(look.sizes(i, j), kept),
        strange=look.stranger(i) if j == 0 and kept.shape[0] > 1 else Mean(None, None),
    )


def _attacked(look: Attacks, place: int) -> Attacked:
    right = look.right[place]
    share = float(right.mean())
    if not right.any():
        return Attacked(share, None, None, None)
    return Attacked(
        right=share,
        left=float(look.left[place][right].mean()),
        distance=float(np.median(look.norms[place][right])),
        rest=float(np.median(look.rest[place][right])),
    )


def _effects(study: Study, look: Attacks, places: Mapping[str, int]) -> dict[str, Difference]:
    """Student minus baseline, by arm and measure; arms of too few attacks are left out."""
    kept = {run: look.kept(place, 0) for run, place in places.items()}
    known = {run: place for run, place in places.items() if kept[run].sum() >= FEWEST}
    found = {}
    for name, values in {
        "AngSim": {r: look.cosines[place, 0] for r, place in known.items()},
        "MagSim": {r: look.sizes(place, 0) for r, place in known.items()},
    }.items():
        each = {run: of_images(value, kept[run]) for run, value in values.items()}
        for arm, difference in over_images(study, each).items():
            found[f"{arm}: {name}"] = difference
    return found


def _told(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)
