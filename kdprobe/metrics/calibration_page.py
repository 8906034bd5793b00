"""What is told of calibration?  The records of a run and of the study, and their panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kdprobe.metrics.answers import cell
from kdprobe.metrics.contract import page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Forest, Lines, Panel, Series, Table
from kdprobe.stats import Difference

SHARES = {"ece": "ECE", "overconfidence": "overconfidence", "brier": "Brier score"}
NATS = {"nll": "NLL", "nll_scaled": "NLL at best T"}


@dataclass(frozen=True)
class RunCalibration:
    """How far one network's confidences can be believed."""

    run: str
    role: str
    arm: str
    ece: float  # [0, 1]
    ece_error: float  # standard error over images
    ece_null: float  # expected of these confidences if each were true
    ece_p: float  # share of such draws that reach the ECE
    overconfidence: float  # mean confidence less accuracy
    overconfidence_error: float
    brier: float  # sum over classes, [0, 2]
    brier_error: float
    nll: float  # nats
    nll_error: float
    temperature: float  # that makes the NLL least; NaN where none does
    temperature_low: float  # 95% interval over images
    temperature_high: float
    nll_scaled: float  # nats, at the temperature that suits the other half of the images
    nll_scaled_error: float


@dataclass(frozen=True)
class Calibrations:
    """Every network at the end of its training."""

    images: int
    bins: int
    runs: Sequence[RunCalibration]
    effects: Mapping[str, Mapping[str, Difference]]  # quantity -> arm; student minus baseline
    lost: Sequence[str]
    curves: tuple[Series, ...] = page_only()  # accuracy over confidence, by arm

    def panels(self) -> list[Panel]:
        told = {
            name: {arm: _times(found, 100 if name in SHARES else 1) for arm, found in arms.items()}
            for name, arms in self.effects.items()
        }
        forests = [
            self._forest(
                "Calibration against the baseline",
                "hundredths",
                SHARES,
                told,
            ),
            self._forest("Likelihood against the baseline", "nats", NATS, told),
        ]
        shown = [panel for panel in forests if panel.effects]
        return [self._reliability(), *shown, self._table()]

    def findings(self) -> list[str]:
        """Student arms whose confidences can be believed less than the baseline's."""
        return [
            f"confidences of {arm} are further from its accuracy than the baseline's: ECE "
            f"{100 * found.effect:+.1f} points (95% interval {100 * found.low:.1f} to "
            f"{100 * found.high:.1f})"
            for arm, found in self.effects.get("ece", {}).items()
            if found.low > 0
        ]

    def lacking(self) -> Sequence[str]:
        """Networks whose answers could not be used."""
        return self.lost

    def _reliability(self) -> Lines:
        faithful = Series(name="perfectly calibrated", x=(0.0, 1.0), y=(0.0, 1.0), role="reference")
        return Lines(
            title="Reliability",
            how_to_read=(
                f"Accuracy over confidence in {self.bins} bins of equally many images, all seeds "
                "of an arm together; bands are 95% intervals over images. Below the diagonal: "
                "overconfident."
            ),
            x_label="confidence",
            y_label="accuracy",
            series=(*self.curves, faithful),
        )

    @staticmethod
    def _forest(
        title: str,
        unit: str,
        names: Mapping[str, str],
        told: Mapping[str, Mapping[str, Difference]],
    ) -> Forest:
        rows = {
            f"{arm}, {label}": found
            for name, label in names.items()
            for arm, found in told.get(name, {}).items()
        }
        return forest(title, unit, rows, "Left of the line: lower than the baseline's.")

    def _table(self) -> Table:
        rows = tuple(
            (r.run, r.role)
            + tuple(cell(100 * x) for x in (r.ece, r.ece_error, r.ece_null))
            + (cell(r.ece_p, 3), cell(100 * r.overconfidence), cell(100 * r.overconfidence_error))
            + tuple(cell(x, 4) for x in (r.brier, r.brier_error, r.nll, r.nll_error))
            + tuple(cell(x) for x in (r.temperature, r.temperature_low, r.temperature_high))
            + (cell(r.nll_scaled, 4), cell(r.nll_scaled_error, 4))
            for r in self.runs
        )
        columns = ("run", "role", "ECE %", "± ECE", "ECE if calibrated %", "p") + (
            ("overconfidence %", "± overconfidence", "Brier", "± Brier", "NLL (nats)", "± NLL")
            + ("best T", "T from", "T to", "NLL at best T", "± NLL at best T")
        )
        return Table(
            title="Calibration of every run",
            how_to_read=(
                f"On {self.images} held-out images, {self.bins} bins of equally many; ± is one "
                "standard error. ECE is never 0 for few images: 'if calibrated' is what a network "
                "of the same confidences would show if every one were true (p: how often at least "
                "what was found). Overconfidence: mean confidence less accuracy. Best T divides "
                "the logits so that the NLL is least (above 1 = was too sure), with its 95% "
                "interval; the NLL there is honest: T is fitted on one half of the images, "
                "counted on the other. No best T: every answer is right, or none depends on T."
            ),
            columns=columns,
            rows=rows,
            name="calibration",
        )


def _times(found: Difference, by: float) -> Difference:
    return replace(found, effect=by * found.effect, low=by * found.low, high=by * found.high)
