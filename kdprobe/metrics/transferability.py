"""Is the student fooled where its teacher is?  Transfer of an attack that sees only the teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.accuracy import proportion_error
from kdprobe.metrics.attacked import FEWEST, Mean
from kdprobe.metrics.contract import Array, Inquiry, followed, metric, page_only, the_teacher
from kdprobe.metrics.effects import forest, over_images
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Forest, Panel, Table
from kdprobe.probes.contract import sight
from kdprobe.stats import Difference
from kdprobe.study import Study


@dataclass(frozen=True)
class Transfer:
    """One network, shown images that fool the teacher."""

    run: str
    role: str
    right: float  # share of the clean images that it names right
    images: int  # that both name right, and whose attack fools the teacher
    transfer: Mean  # share of them that fools the network too
    noise: Mean  # share of them that fools it with noise of the same size instead


@dataclass(frozen=True)
class Transfers:
    """Every network, shown images that fool the teacher."""

    images: int
    eps: float
    teacher: str
    teacher_right: int
    teacher_fooled: int  # of those
    runs: Sequence[Transfer]
    effects: Mapping[str, Difference] = page_only()  # arm -> student minus baseline

    def panels(self) -> list[Panel]:
        return [*self._forest(), self._table()]

    def findings(self) -> list[str]:
        few = [run for run in self.runs if run.images < FEWEST]
        if not few:
            return []
        least = min(few, key=lambda run: run.images)
        return [
            f"the attack fools {self.teacher} on {self.teacher_fooled} of the "
            f"{self.teacher_right} images that it names right; {len(few)} of {len(self.runs)} "
            f"networks name too few of them right to tell a share (fewest {least.run}: "
            f"{least.images}, wanted {FEWEST}): raise transferability.images or "
            "transferability.eps"
        ]

    def _forest(self) -> list[Forest]:
        reading = (
            "Above 0: what fools the teacher fools the student more often than it fools the "
            "baseline, which never saw the teacher."
        )
        shown = forest("Fooled with the teacher", "difference of shares", self.effects, reading)
        return [shown] if self.effects else []

    def _table(self) -> Table:
        rows = tuple(
            (r.run, r.role, r.images)
            + tuple(map(_percent, (r.transfer.value, r.transfer.error)))
            + tuple(map(_percent, (r.noise.value, r.noise.error)))
            for r in self.runs
        )
        return Table(
            title="Transfer of the attack on the teacher",
            how_to_read=(
                f"Of {self.images} held-out images {self.teacher} names {self.teacher_right} "
                f"right, and the attack within {self.eps:g} a pixel fools it on "
                f"{self.teacher_fooled}. Of those that the network names right as well: how many "
                "fool it too, and how many do with noise of random signs of that size. ± is one "
                "standard error. Attacks transfer between networks that never met: compare with "
                "the baselines."
            ),
            columns=("run", "role", "images", "fooled %", "±", "by noise %", "± "),
            rows=rows,
            name="transferability",
        )


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def share_of(hits: Array) -> Mean:
    """The part of (n,) bool that is True, with its standard error; None of too few."""
    if len(hits) < FEWEST:
        return Mean(None, None)
    share = float(hits.mean())
    return Mean(share, proportion_error(share, len(hits)))


@metric(
    "transferability",
    title="Transfer of attacks",
    question="Does what fools the teacher fool the student too?",
    source="Madry et al. 2018, arXiv:1706.06083; Sarfraz et al. 2020, arXiv:2007.01922",
    better="neither",
    range=(0.0, 1.0),
    ranged=("value", "right"),
    place=28,
)
def transferability(
    study: Study,
    scope: Scope,
    *,
    images: int = 128,
    steps: int = 20,
    eps: float = 0.031,
    step: float = 0.003,
) -> Inquiry[Transfers]:
    """Attack the teacher by projected gradient, and count which students it fools too.

    x <- clip(x + step sign(d CE / dx)), `steps` times from a random start, within `eps` of the
    image in every pixel and in [0, 1]. Kept are images that teacher and student name right and
    whose attack fools the teacher; the measure is the share of them that fools the student. It is
    adversarial transfer, not transfer learning. At the last epoch that the learners share.
    """
    for name, value in {"eps": eps, "step": step}.items():
        if value <= 0:
            raise UsageError(f"setting transferability.{name} is {value:g}; wanted above 0")
    teacher = the_teacher(study)
    runs = followed(study)
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    asked = sight(
        "transfer_attack",
        *(study.final(run) for run in (teacher, *runs)),
        images=images,
        steps=steps,
        eps=float(eps),
        step=float(step),
    )
    seen = yield [asked]
    right, attacked, noisy = (seen[asked][name] > 0 for name in ("right", "attacked", "noisy"))
    fooled = right[0] & ~attacked[0]
    kept = {run.id: fooled & right[i] for i, run in enumerate(runs, 1)}
    found = [
        Transfer(
            run.id,
            run.role,
            right=float(right[i].mean()),
            images=int(kept[run.id].sum()),
            transfer=share_of(~attacked[i][kept[run.id]]),
            noise=share_of(~noisy[i][kept[run.id]]),
        )
        for i, run in enumerate(runs, 1)
    ]
    each = {
        run.id: np.where(kept[run.id], ~attacked[i], np.nan)
        for i, run in enumerate(runs, 1)
        if kept[run.id].sum() >= FEWEST
    }
    return Transfers(
        images=right.shape[1],
        eps=float(eps),
        teacher=teacher.id,
        teacher_right=int(right[0].sum()),
        teacher_fooled=int(fooled.sum()),
        runs=found,
        effects=over_images(study, each),
    )
