"""What does a loss ask for?  Its fits beside three forms, in numbers and in a sentence.

    label smoothing              c [(1 - eps) CE + eps KL(1/K || p)]
    smoothing at a temperature   c [(1 - w) CE + w T^2 KL(1/K || p^T)]
    distillation                 c [(1 - w) CE + w T^2 KL(p_t^T || p^T)]

A percentage is a share of the squared length of the loss's gradient in the logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from kdprobe.train.decomposition import MOST_T, Blend

ALIKE = 1e-6  # shares: of forms that leave no more than this over, the simplest is told
NO_SMOOTHING = 5e-4  # an eps that is written 0.000
LEAST_LIKE = 0.9  # a form that explains less is not the loss's
COUNTS = 0.02  # of a scale away from 1, of a share beyond 0 and 1


class Form(StrEnum):
    """From the simplest."""

    SMOOTHING = "label smoothing"
    TEMPERED = "smoothing at a temperature"
    DISTILLATION = "distillation"


@dataclass(frozen=True)
class Number:
    """A mean over draws; None where it has no meaning in one of them, or no error can be told."""

    value: float | None
    error: float | None  # standard error of the mean

    @classmethod
    def over(cls, draws: Sequence[float]) -> "Number":
        values = np.asarray(draws)
        if not np.isfinite(values).all():
            return cls(None, None)
        error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
        return cls(float(values.mean()), error)


@dataclass(frozen=True)
class Fit:
    """The loss as near to one form as it comes."""

    form: Form
    scale: Number  # c, of a plain cross-entropy's
    share: Number  # w; eps of label smoothing
    temperature: Number
    residual: Number  # length that is left over, of the gradient's
    explained: float  # share of the squared length, mean over draws

    @classmethod
    def of(cls, form: Form, blends: Sequence[Blend]) -> "Fit":
        return cls(
            form,
            scale=Number.over([blend.scale for blend in blends]),
            share=Number.over([blend.share for blend in blends]),
            temperature=Number.over([blend.temperature for blend in blends]),
            residual=Number.over([blend.residual for blend in blends]),
            explained=float(np.mean([blend.explained for blend in blends])),
        )

    @property
    def cosine(self) -> float:
        """Of the gradient with the fit, root mean square over draws."""
        return float(np.sqrt(max(self.explained, 0.0)))


@dataclass(frozen=True)
class Audit:
    """What became of a loss."""

    loss: str
    source: str  # of the logits
    classes: int
    batch: int
    draws: int
    fits: tuple[Fit, ...]
    unseen_layers: tuple[str, ...] = ()

    @property
    def nearest(self) -> Fit:
        """The simplest of the fits that are as good as the best."""
        best = max(fit.explained for fit in self.fits)
        return next(fit for fit in self.fits if fit.explained >= best - ALIKE)

    @property
    def sentence(self) -> str:
        """What the loss is."""
        fit = self.nearest
        if fit.explained < LEAST_LIKE:
            return (
                f"this objective is not of this form: {100 * (1 - fit.explained):.0f}% of its "
                f"gradient is left over; the nearest is {_described(fit)}"
            )
        told = f"this objective is {_percent(fit.explained)} {_described(fit)}"
        if fit.form is Form.SMOOTHING:
            return told
        plain = self.fits[0]
        return (
            f"{told}; label smoothing with eps = {_eps(plain)} would explain "
            f"{_percent(plain.explained)}"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What to mind."""
        found = [self._on_scale(), self._on_signs(), self._on_layers()]
        return tuple(note for note in found if note)

    def _on_scale(self) -> str:
        c = self.nearest.scale.value
        if self.nearest.explained < LEAST_LIKE or c is None or abs(c - 1) <= COUNTS:
            return ""
        if self.batch > 1 and abs(c / self.batch - 1) <= COUNTS:
            return f"its scale is the batch's size, {self.batch}: it is a sum over images, no mean"
        return (
            f"its scale is c = {c:.3g} of a plain cross-entropy's: with the same learning rate and "
            "weight decay this alone changes the training, and is no knowledge of a teacher; "
            f"compare with an arm '{c:.3g}*cross_entropy'"
        )

    def _on_signs(self) -> str:
        w = self.nearest.share.value
        if w is None or -COUNTS <= w <= 1 + COUNTS:
            return ""
        what = "the soft target" if w < 0 else "the label"
        return f"its share {w:.3g} is outside 0 to 1: it pushes away from {what}"

    def _on_layers(self) -> str:
        if not self.unseen_layers:
            return ""
        return (
            f"it also reads {', '.join(self.unseen_layers)}: what it asks there does not go "
            "through the logits, and is not in these numbers"
        )


def _described(fit: Fit) -> str:
    scale = _written(fit.scale)
    if fit.form is Form.SMOOTHING:
        if abs(fit.share.value or 0.0) < NO_SMOOTHING:
            return f"cross-entropy, times c = {scale}"
        return f"label smoothing with eps = {_eps(fit)}, times c = {scale}"
    soft = "KL to the teacher" if fit.form is Form.DISTILLATION else "KL to the uniform answer"
    return (
        f"{fit.form}: c = {scale} times (1 - w) cross-entropy + w {soft}{_warmth(fit)}, "
        f"w = {_written(fit.share)}"
    )


def _warmth(fit: Fit) -> str:
    T = fit.temperature.value
    if T is None:
        return ""
    return f" at temperature {T:.3g}" + (" or more" if T > 0.99 * MOST_T else "")


def _eps(fit: Fit) -> str:
    return "unknown" if fit.share.value is None else f"{fit.share.value:.3f}"


def _written(number: Number) -> str:
    return "unknown" if number.value is None else f"{number.value:.3g}"


def _percent(share: float) -> str:
    """Never more than is there: 0.99996 is more than 99.99%, not 100.00%."""
    return "more than 99.99%" if share > 0.9999 else f"{np.floor(1e4 * share) / 100:.2f}%"
