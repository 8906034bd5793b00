"""What is said of attribution maps on the page?  The result of the metric `attributions`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdprobe.metrics.contract import Roles, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Cell, Overlays, Panel, Table
from kdprobe.stats import Difference

WIDE_GAP = 0.1  # of the change of the logit: integrated gradients that miss more are told of


@dataclass(frozen=True)
class MapScore:
    """One kind of map of one network: means over images with their standard errors."""

    correlation: float | None  # with the teacher's map of the same image; None of the teacher
    correlation_error: float | None
    overlap: float | None
    overlap_error: float | None
    ssim: float | None
    ssim_error: float | None
    mass: float | None  # of the positive relevance, on the object; None without masks
    mass_error: float | None
    rank_accuracy: float | None
    rank_accuracy_error: float | None
    idle: int  # images whose map is the same everywhere; they are left out


@dataclass(frozen=True)
class Reference:
    """What agreement means little: how alike maps are that share no teacher, or no image."""

    independent: Mapping[str, float | None]  # of baselines of different seeds: quantity -> mean
    pairs: int  # of such baselines
    shuffled: Mapping[str, float | None]  # learners with the teacher's map of the next image


@dataclass(frozen=True)
class MapChecks:
    """What one kind of map of one network is worth, as a map of that network."""

    unexplained: (
        float | None
    )  # of the logit's change behind random squares; 0 = the map tells all of it
    unexplained_error: float | None
    by_chance: float | None  # alike by the next image's map
    sensitivity: float | None  # largest relative change of the map over small changes of the image
    sensitivity_error: float | None


@dataclass(frozen=True)
class Maps:
    """Attribution maps of all networks."""

    images: int
    checked: int  # images
    target: str
    reference: str
    area: float | None  # the objects' share of the images
    flat_layers: Sequence[str]  # that have no places: without Grad-CAM
    gap: Mapping[str, float]  # run -> mean |missed| / mean |change| of integrated gradients
    runs: Mapping[str, Mapping[str, MapScore]]  # run -> map
    references: Mapping[str, Reference]  # map ->
    nearer: Mapping[str, Mapping[str, Difference]]  # map -> arm -> share of images, less a half
    checks: Mapping[str, Mapping[str, MapChecks]]  # run -> map
    correlation: Mapping[str, Difference]  # "arm map" -> student minus baseline
    mass: Mapping[str, Difference]
    reasons: Sequence[str]  # why something could not be seen
    roles: Roles = page_only()
    pictures: Overlays | None = page_only()

    def panels(self) -> list[Panel]:
        found: list[Panel] = [self.pictures] if self.pictures else []
        if self.correlation:
            found.append(
                forest(
                    "Agreement with the teacher's maps",
                    "rank correlation, student minus baseline",
                    self.correlation,
                    "Right of the line the student looks more as the teacher does.",
                )
            )
        if self.mass:
            found.append(
                forest(
                    "Relevance on the object",
                    "relevance share, student minus baseline",
                    self.mass,
                    "Right of the line more of what speaks for the class is on the object.",
                )
            )
        return [*found, self._references(), self._table(), self._checks()]

    def findings(self) -> list[str]:
        """Sums that miss, and maps that show nothing: one remark of each for the study."""
        return [*self._missing(), *self._idle()]

    def _missing(self) -> list[str]:
        wide = {run: gap for run, gap in self.gap.items() if gap > WIDE_GAP}
        if not wide:
            return []
        worst = max(wide, key=lambda run: wide[run])
        return [
            f"the integrated gradients of {len(wide)} of {len(self.gap)} networks miss more than "
            f"{WIDE_GAP:.0%} of the logit's change (most {worst}: {wide[worst]:.0%}); raise "
            "attributions.steps"
        ]

    def _idle(self) -> list[str]:
        counts = {run: sum(at.idle for at in maps.values()) for run, maps in self.runs.items()}
        idle = {run: count for run, count in counts.items() if count}
        if not idle:
            return []
        worst = max(idle, key=lambda run: idle[run])
        return [
            f"maps of {len(idle)} of {len(counts)} networks are the same everywhere and are left "
            f"out (most of {worst}: {idle[worst]} of {len(self.runs[worst]) * self.images}): no "
            "pixel reaches that logit"
        ]

    def lacking(self) -> Sequence[str]:
        """Methods and networks that could not be looked at, and why."""
        return self.reasons

    @property
    def _asked(self) -> str:
        whose = "the class that the teacher predicts" if self.target == "teacher" else "the label"
        flat = (
            f" Grad-CAM needs places: there are none at {', '.join(self.flat_layers)}."
            if self.flat_layers
            else ""
        )
        return f"Maps of the logit of {whose}, {self.images} images.{flat}"

    def _references(self) -> Table:
        arms = list(dict.fromkeys(arm for by_arm in self.nearer.values() for arm in by_arm))
        rows: list[tuple[Cell, ...]] = []
        for name, known in self.references.items():
            cells: list[Cell] = [name]
            for kind in ("correlation", "overlap", "ssim"):
                cells += [_rounded(known.independent[kind]), _rounded(known.shuffled[kind])]
            for arm in arms:
                share = self.nearer[name].get(arm)
                cells += [_share(share, 0.0), _share(share, -1.0), _share(share, 1.0)]
            rows.append(tuple(cells))
        columns = ["map"]
        for kind in ("rank", "top", "SSIM"):
            columns += [f"{kind}, other seed", f"{kind}, other image"]
        for arm in arms:
            columns += [f"{arm} nearer %", f"{arm} low", f"{arm} high"]
        return Table(
            title="What agreement is worth",
            how_to_read=(
                "Other seed: baselines of different seeds with each other, which no teacher "
                "joins. Other image: all learners with the teacher's map of another image, which "
                "only habits such as a look at the middle can join. Nearer: share of images on "
                "which the student's map is nearer to the teacher's than its baseline's is, by "
                "rank correlation, with its 95% interval; 50 = no nearer than an independent one."
            ),
            columns=tuple(columns),
            rows=tuple(rows),
            name="attributions_references",
        )

    def _table(self) -> Table:
        rows = tuple(
            (run, self.roles[run][1], name)
            + (_rounded(at.correlation), _rounded(at.correlation_error))
            + (_rounded(at.overlap), _rounded(at.overlap_error))
            + (_rounded(at.ssim), _rounded(at.ssim_error))
            + (_percent(at.mass), _percent(at.mass_error))
            + (_percent(at.rank_accuracy), _percent(at.rank_accuracy_error))
            for run, maps in self.runs.items()
            for name, at in maps.items()
        )
        chance = (
            ""
            if self.area is None
            else f" By chance both would be the objects' share of the image, {self.area:.1%}."
        )
        return Table(
            title="Maps of every network",
            how_to_read=(
                f"{self._asked} ± is one standard error over images. With the teacher's map of "
                "the same image: rank correlation, overlap of the highest pixels, SSIM; 1 = the "
                "same. On the object: share of the positive relevance, and of the highest pixels "
                f"(as many as the object has).{chance}"
            ),
            columns=("run", "role", "map", "rank correlation", "± rank", "top overlap", "± top")
            + (
                "SSIM",
                "± SSIM",
                "relevance on object %",
                "± rel. %",
                "rank accuracy %",
                "± acc. %",
            ),
            rows=rows,
            name="attributions",
        )

    def _checks(self) -> Table:
        rows = tuple(
            (run, name, _percent(at.unexplained), _percent(at.unexplained_error))
            + (_percent(at.by_chance), _rounded(at.sensitivity), _rounded(at.sensitivity_error))
            + (_percent(self.gap.get(run) if name == "IG" else None),)
            for run, maps in self.checks.items()
            for name, at in maps.items()
        )
        return Table(
            title="What the maps themselves are worth",
            how_to_read=(
                f"On {self.checked} images, ± is one standard error. Unexplained: of the change of "
                "the logit when random squares are blanked, the part that the map does not tell, "
                "at its best scale (infidelity; 0 = all is told); another image's map leaves the "
                "second figure. Occlusion, which blanks squares itself, is at home here. "
                "Sensitivity: largest relative change of the map when pixels change by at most "
                "0.02. Missed: part of the logit's change that integrated gradients do not sum to."
            ),
            columns=("run", "map", "unexplained %", "± %", "by another image's map %")
            + ("sensitivity", "± ", "missed %"),
            rows=rows,
            name="attributions_checks",
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _share(found: Difference | None, side: float) -> float | None:
    """The share of images in percent (side 0), or an edge of its interval (-1, 1)."""
    if found is None:
        return None
    value = {0.0: found.effect, -1.0: found.low, 1.0: found.high}[side]
    return None if value != value else round(100 * min(1.0, max(0.0, value + 0.5)), 1)
