"""How closely does the student answer as its teacher does?  Agreement and Kullback-Leibler."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.errors import NotApplicable
from kdprobe.metrics.accuracy import log_softmax, proportion_error
from kdprobe.metrics.contract import Array, Inquiry, followed, metric, the_teacher
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Panel, Table
from kdprobe.probes.contract import sight
from kdprobe.study import Study


def divergence(teacher: Array, student: Array) -> Array:
    """KL(p_teacher || p_student) of every image, in nats: (n, c) and (n, c) logits -> (n,)."""
    log_t, log_s = log_softmax(teacher), log_softmax(student)
    result: Array = (np.exp(log_t) * (log_t - log_s)).sum(axis=1)
    return result


@dataclass(frozen=True)
class RunFidelity:
    """One network against the teacher."""

    run: str
    role: str
    arm: str
    agreement: float  # share of images with the same top-1 answer
    agreement_error: float  # standard error
    agreement_when_teacher_right: float | None
    agreement_when_teacher_right_error: float | None  # standard error, over those images alone
    agreement_when_teacher_wrong: float | None  # share of the teacher's wrong answers given too
    agreement_when_teacher_wrong_error: float | None
    kl: float  # mean KL(teacher || network), nats
    kl_error: float  # standard error over images


@dataclass(frozen=True)
class Fidelities:
    """Baselines, students and controls against the teacher."""

    images: int
    runs: Sequence[RunFidelity]

    def panels(self) -> list[Panel]:
        rows = tuple(
            (r.run, r.role, _percent(r.agreement), _percent(r.agreement_error))
            + (_percent(r.agreement_when_teacher_right),)
            + (_percent(r.agreement_when_teacher_right_error),)
            + (_percent(r.agreement_when_teacher_wrong),)
            + (_percent(r.agreement_when_teacher_wrong_error),)
            + (round(r.kl, 4), round(r.kl_error, 4))
            for r in self.runs
        )
        columns = ("run", "role", "agreement %", "± %") + (
            "where teacher is right %",
            "± right %",
            "where teacher is wrong %",
            "± wrong %",
            "KL (nats)",
            "± nats",
        )
        reading = (
            f"On {self.images} held-out images; ± is one standard error, over few images where "
            "the teacher is wrong. A student that agrees there gives the teacher's wrong answers; "
            "the baseline shows how much agreement needs no teacher."
        )
        return [
            Table(
                title="Agreement with the teacher",
                how_to_read=reading,
                columns=columns,
                rows=rows,
                name="fidelity",
            )
        ]


def _share(hits: Array) -> tuple[float | None, float | None]:
    """The part of (n,) bool that is True, and its standard error; None of no images."""
    if not len(hits):
        return None, None
    share = float(hits.mean())
    return share, proportion_error(share, len(hits))


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


@metric(
    "fidelity",
    title="Fidelity to the teacher",
    question="How closely does the student answer as its teacher does?",
    source="Stanton et al. 2021, arXiv:2106.05945, section 3",
    better="neither",
    range=(0.0, 1.0),
    ranged=("agreement",),
    place=20,
)
def fidelity(study: Study, scope: Scope, *, images: int = 1000) -> Inquiry[Fidelities]:
    """Top-1 agreement mean[argmax s = argmax t] and mean KL(p_t || p_s), at temperature 1.

    On held-out images, at the last epoch that the learners share; agreement also apart for images
    that the teacher answers right and wrong.
    """
    teacher = the_teacher(study)
    runs = followed(study)
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    asked = {run: sight("outputs", study.final(run), images=images) for run in (teacher, *runs)}
    seen = yield list(asked.values())
    reference, labels = seen[asked[teacher]]["logits"], seen[asked[teacher]]["labels"]
    right = reference.argmax(1) == labels
    found = []
    for run in runs:
        logits = seen[asked[run]]["logits"]
        same = logits.argmax(1) == reference.argmax(1)
        kl = divergence(reference, logits)
        share = float(same.mean())
        (if_right, if_right_error), (if_wrong, if_wrong_error) = (
            _share(same[part]) for part in (right, ~right)
        )
        found.append(
            RunFidelity(
                run=run.id,
                role=run.role,
                arm=run.arm,
                agreement=share,
                agreement_error=proportion_error(share, len(labels)),
                agreement_when_teacher_right=if_right,
                agreement_when_teacher_right_error=if_right_error,
                agreement_when_teacher_wrong=if_wrong,
                agreement_when_teacher_wrong_error=if_wrong_error,
                kl=float(kl.mean()),
                kl_error=float(kl.std(ddof=1) / np.sqrt(len(kl))) if len(kl) > 1 else 0.0,
            )
        )
    return Fidelities(len(labels), found)
