"""What is said of blocks on the page?  The result of the metric `reuse`, as panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, arm_series, by_arm, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Heatmap, Lines, Panel, Series, Table
from kdprobe.stats import Difference

FEWEST = 4  # blocks for a map; of fewer the table says it all
SPARE = 0.01  # share of images: a block that costs surely less can be left out


@dataclass(frozen=True)
class Blocks:
    """What every block of one network adds, and what is lost without it. NaN = not defined."""

    blocks: Sequence[str]  # (k,) module paths, in the order they are called
    same: Sequence[bool]  # (k,) whether input and output have one shape
    update: Array  # (k,) mean of ||f(x) - x|| / ||x||
    update_error: Array  # (k,) standard error over images
    cka: Array  # (k,) of input and output
    cka_error: Array  # (k,) jackknife over batches
    neighbours: float  # mean CKA of the outputs of consecutive blocks
    accuracy: float  # share of images, whole network
    accuracy_error: float
    able: bool  # whether the accuracy is surely above `most`
    most: float  # share of the commonest class: a network that sees nothing
    without: Array  # (k,) accuracy lost with the block replaced by the identity, share
    without_error: Array  # (k,) standard error over images, paired
    still: Array  # (k,) accuracy lost with what it adds replaced by its mean, share
    still_error: Array
    between: Array = page_only()  # (k, k) CKA of the outputs of all pairs of blocks
    ratios: Array = page_only()  # (n,) update ratio, mean over blocks
    losses: Array = page_only()  # (n,) lost by `still`, mean over blocks, over all there is to lose

    @property
    def spare(self) -> list[str]:
        """Blocks that the network surely does as well without, if it can do anything."""
        if not self.able:
            return []
        most = self.without + 2 * self.without_error
        return [name for name, lost in zip(self.blocks, most, strict=True) if lost < SPARE]


@dataclass(frozen=True)
class Reuse:
    """The blocks of every network."""

    images: int
    runs: Mapping[str, Blocks]
    effects: Mapping[str, Difference]  # student minus baseline, by arm and measure
    reasons: Sequence[str]
    roles: Roles = page_only()

    def panels(self) -> list[Panel]:
        figures = [self._updates(), self._kept(), self._lesions()]
        effects = [self._effects()] if self.effects else []
        shown = [figure for figure in figures if figure.series]
        return [*shown, *self._maps(), *effects, self._table()]

    def lacking(self) -> Sequence[str]:
        return self.reasons

    def findings(self) -> list[str]:
        """Blocks that every run of an arm can do without."""
        told = []
        for (arm, _), runs in by_arm(self.roles, self.runs).items():
            spare = [
                n for n in self.runs[runs[0]].spare if all(n in self.runs[r].spare for r in runs)
            ]
            if spare:
                told.append(
                    f"{arm}: without {', '.join(spare)} the accuracy falls by less than a point"
                    f"{' in every seed' if len(runs) > 1 else ''}: nothing is built there that "
                    "later blocks need"
                )
        return told

    def _series(self, field: str) -> tuple[Series, ...]:
        """A line an arm over its blocks, of runs with the same ones; undefined blocks left out."""
        found: list[Series] = []
        for runs in by_arm(self.roles, self.runs).values():
            first = self.runs[runs[0]]
            rows = {r: getattr(self.runs[r], field) for r in runs if self._alike(r, first)}
            known = np.isfinite(np.stack(list(rows.values()))).all(0)
            if known.any():
                x = np.arange(1, len(known) + 1)[known]
                found += arm_series(self.roles, x, {r: row[known] for r, row in rows.items()})
        return tuple(found)

    def _alike(self, run: str, first: Blocks) -> bool:
        return tuple(self.runs[run].blocks) == tuple(first.blocks)

    def _updates(self) -> Lines:
        return Lines(
            title="What each block adds",
            how_to_read=(
                "||f(x) - x|| / ||x||, mean over images; the band spans the seeds. Small = the "
                "block refines what it is given, above 1 = it makes something new. Only blocks "
                "whose input and output have one shape have such a ratio. Compare the students "
                "with the baseline, which never saw the teacher."
            ),
            x_label="block, in order (names in the table)",
            y_label="update ratio",
            series=self._series("update"),
        )

    def _kept(self) -> Lines:
        return Lines(
            title="What each block keeps",
            how_to_read=(
                "Linear CKA (unbiased) of a block's input and output: 1 = the same geometry up to "
                "rotation and scale, 0 = unrelated, which is what independent features give."
            ),
            x_label="block, in order (names in the table)",
            y_label="CKA of input and output",
            series=self._series("cka"),
        )

    def _maps(self) -> list[Heatmap]:
        found = []
        for (arm, _), runs in by_arm(self.roles, self.runs).items():
            first = self.runs[runs[0]]
            alike = [self.runs[run].between for run in runs if self._alike(run, first)]
            if len(first.blocks) >= FEWEST:
                mean = np.mean(alike, axis=0)
                found.append(
                    Heatmap(
                        title=f"Blocks of {arm} against each other",
                        how_to_read=(
                            "Linear CKA (unbiased) of the outputs of all pairs of blocks, mean of "
                            f"{len(alike)} runs. A wide bright band = blocks that refine one set "
                            "of features, squares = stages with features of their own."
                        ),
                        values=tuple(tuple(map(_known, row)) for row in mean),
                        rows=tuple(first.blocks),
                        columns=tuple(first.blocks),
                        low=0.0,
                        high=1.0,
                    )
                )
        return found

    def _lesions(self) -> Lines:
        return Lines(
            title="What is lost without each block's own work",
            how_to_read=(
                f"Accuracy lost on {self.images} held-out images when what a block adds is "
                "replaced by its mean over images. A loss down to the share of the commonest class "
                "(see the table) is all there is to lose."
            ),
            x_label="block, in order (names in the table)",
            y_label="accuracy lost (share of images)",
            series=self._series("still"),
        )

    def _effects(self) -> Panel:
        return forest(
            "Blocks of students and baselines",
            "student minus baseline, mean over blocks",
            self.effects,
            "Update: above 0 = the student's blocks change more. Lost, as a share of "
            "the accuracy there is to lose: above 0 = the student leans more on its single blocks.",
        )

    def _table(self) -> Table:
        rows = tuple(
            (run, name, "yes" if at.same[i] else "no")
            + _pair(at.update[i], at.update_error[i])
            + _pair(at.cka[i], at.cka_error[i])
            + _pair(100 * at.without[i], 100 * at.without_error[i])
            + _pair(100 * at.still[i], 100 * at.still_error[i])
            + (round(100 * (at.accuracy - at.most), 2), _known(at.neighbours))
            for run, at in self.runs.items()
            for i, name in enumerate(at.blocks)
        )
        return Table(
            title="Blocks",
            how_to_read=(
                "± is one standard error: over images, of CKA by a jackknife over batches. Lost is "
                "accuracy: by identity with f(x) := x, by mean with what f adds held at its mean; "
                "where shapes differ, x is averaged over pixels and its channels are cut or filled "
                "with zeros. 'To lose' is what a network that always names the commonest class "
                "loses. 'Next' is the mean CKA of consecutive blocks of the run."
            ),
            columns=("run", "block", "one shape", "update", "±", "CKA", "± CKA")
            + ("lost by identity, points", "± identity", "lost by mean, points", "± mean")
            + ("to lose, points", "next"),
            rows=rows,
            name="reuse",
        )


def _known(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _pair(value: float, error: float) -> tuple[float | None, float | None]:
    return _known(value), _known(error)
