"""Can the confidences be believed?  Calibration error, likelihood, Brier score, best temperature.

    ECE = sum_b n_b / n |acc_b - conf_b|,   bins b of equally many images by confidence

Source: Nixon et al. 2019, arXiv:1904.01685 (bins of equal mass); Guo et al. 2017, arXiv:1706.04599
(temperature scaling).

Axes: n images, c classes, r seeds, u draws.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kdprobe.metrics.accuracy import log_softmax
from kdprobe.metrics.answers import every_second, mean_error, read_answers
from kdprobe.metrics.calibration_page import NATS, SHARES, Calibrations, RunCalibration
from kdprobe.metrics.contract import Array, Inquiry, by_arm, metric, roles_of
from kdprobe.metrics.effects import over_images
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Series
from kdprobe.probes.contract import sight
from kdprobe.study import Run, Study

FEWEST = 10  # images
DRAWS = 500  # of images, or of right and wrong answers
IN_A_BIN = 5  # images, at least
COLDEST, HOTTEST = 0.02, 50.0  # temperatures that are tried
REACH, POINTS = 5.0, 31  # standard errors around the best temperature that draws may reach; grid


def equal_mass(confidence: Array, bins: int) -> Array:
    """(n,) the bin of every confidence, bins of equally many; equal confidences share theirs."""
    edges = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, confidence)


def gaps_by_bin(confidence: Array, right: Array, bins: int) -> Array:
    """(n,) right less confidence, signed so that every bin's mean is positive; the mean is the ECE.

    So the ECE has the standard error of a mean over images, the signs of the bins being given.
    """
    place, gap = equal_mass(confidence, bins), right - confidence
    sums = np.bincount(place, weights=gap, minlength=bins)
    result: Array = np.where(sums < 0, -1.0, 1.0)[place] * gap
    return result


def ece_if_calibrated(confidence: Array, bins: int, *, draws: int = DRAWS, seed: int = 0) -> Array:
    """(u,) the ECE of networks with these confidences whose answers are right that often."""
    place = equal_mass(confidence, bins)
    right = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    sums = (right - confidence) @ np.eye(bins)[place]
    result: Array = np.abs(sums).sum(1) / len(confidence)
    return result


def likelihood(logits: Array, labels: Array, temperature: float = 1.0) -> Array:
    """(n,) negative log-likelihood of the labels, nats."""
    return -log_softmax(logits / temperature)[np.arange(len(labels)), labels]


def best_temperature(logits: Array, labels: Array) -> float:
    """The temperature of the least mean NLL; NaN where none is best, as when all are right."""
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return float(likelihood(logits, labels, np.exp(log_t)).mean())

    ends = (np.log(COLDEST), np.log(HOTTEST))
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-5})
    if min(map(loss, ends)) - found.fun < 1e-9:
        return float("nan")
    return float(np.exp(found.x))


def temperature_interval(
    logits: Array, labels: Array, best: float, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """95% percentile interval of the best temperature, by drawing images again (Efron 1979).

    The loss of every image is reckoned once, on a grid of log T around the best; each draw takes
    the vertex of the parabola through its three lowest neighbours.
    """
    if np.isnan(best):
        return best, best
    grid = np.log(best) + np.linspace(-REACH, REACH, POINTS) * _log_error(logits, labels, best)
    losses = np.stack([likelihood(logits, labels, np.exp(x)) for x in grid], axis=1)
    n = len(labels)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    drawn = weights @ losses
    least = np.clip(drawn.argmin(1), 1, POINTS - 2)
    left, mid, right = (
        np.take_along_axis(drawn, (least + i)[:, None], 1)[:, 0] for i in (-1, 0, 1)
    )
    bend = left - 2 * mid + right
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(bend > 0, (left - right) / (2 * bend), 0.0)
    found = grid[least] + np.clip(shift, -1, 1) * (grid[1] - grid[0])
    low, high = np.exp(np.quantile(found, (0.025, 0.975)))
    return float(low), float(high)


def _log_error(logits: Array, labels: Array, best: float) -> float:
    """Standard error of log T over images: that of an M-estimator (Huber 1967).

    With z the logits at `best`: the slope of an image's loss along log T is z_y - E_p z, the mean
    curvature there E Var_p z.
    """
    z = np.asarray(logits, dtype=np.float64) / best
    p = np.exp(log_softmax(z))
    centre = (p * z).sum(1)
    slope = z[np.arange(len(labels)), labels] - centre
    curvature = (p * (z - centre[:, None]) ** 2).sum(1).mean()
    return float(np.sqrt((slope**2).mean() / len(labels)) / max(curvature, 1e-12))


def cross_fitted(logits: Array, labels: Array) -> Array:
    """(n,) NLL at the temperature that suits the other half best; as it is where none does."""
    half, found = every_second(labels), likelihood(logits, labels)
    for part in (half, ~half):
        if part.any() and (~part).any():
            best = best_temperature(logits[~part], labels[~part])
            if not np.isnan(best):
                found[part] = likelihood(logits[part], labels[part], best)
    return found


def by_image(logits: Array, labels: Array, bins: int) -> dict[str, Array]:
    """One number an image of all that is a mean over images."""
    p = np.exp(log_softmax(logits))
    confidence, right = p.max(1), (logits.argmax(1) == labels).astype(float)
    return {
        "ece": gaps_by_bin(confidence, right, bins),
        "overconfidence": confidence - right,
        "brier": ((p - np.eye(p.shape[1])[labels]) ** 2).sum(1),
        "nll": likelihood(logits, labels),
        "nll_scaled": cross_fitted(logits, labels),
    }


def reliability(confidence: Array, right: Array, bins: int) -> tuple[Array, Array, Array]:
    """Confidence, accuracy and its standard error by bin, of (r, n) networks together.

    Images are drawn, not answers: the error is that of a ratio of sums over images.
    """
    place = equal_mass(confidence.ravel(), bins).reshape(confidence.shape)
    found = []
    for b in np.unique(place):
        inside = place == b
        count, hits = inside.sum(0), (inside * right).sum(0)
        share = hits.sum() / count.sum()
        error = np.sqrt(((hits - share * count) ** 2).sum()) / count.sum()
        found.append((confidence[inside].mean(), share, error))
    x, y, error = np.array(found).T
    return x, y, error


def _curve(arm: str, role: str, logits: Sequence[Array], labels: Array, bins: int) -> Series:
    confidence = np.stack([np.exp(log_softmax(z)).max(1) for z in logits])
    right = np.stack([z.argmax(1) == labels for z in logits])
    x, y, error = reliability(confidence, right, bins)
    return Series(
        name=arm,
        x=tuple(x.tolist()),
        y=tuple(y.tolist()),
        low=tuple(np.maximum(y - 1.96 * error, 0).tolist()),
        high=tuple(np.minimum(y + 1.96 * error, 1).tolist()),
        role=role,
    )


def _measured(
    run: Run, logits: Array, labels: Array, values: Mapping[str, Array], bins: int
) -> RunCalibration:
    null = ece_if_calibrated(np.exp(log_softmax(logits)).max(1), bins)
    ece, best = float(values["ece"].mean()), best_temperature(logits, labels)
    told = {name: float(values[name].mean()) for name in values}
    errors = {f"{name}_error": mean_error(values[name]) for name in values}
    low, high = temperature_interval(logits, labels, best)
    return RunCalibration(
        run=run.id,
        role=run.role,
        arm=run.arm,
        ece_null=float(null.mean()),
        ece_p=float((1 + (null >= ece).sum()) / (1 + len(null))),
        temperature=best,
        temperature_low=low,
        temperature_high=high,
        **told,
        **errors,
    )


@metric(
    "calibration",
    title="Calibration",
    question="Can the confidences be believed?",
    source="Nixon et al. 2019, arXiv:1904.01685; Guo et al. 2017, arXiv:1706.04599",
    better="lower",
    range=(0.0, 1.0),
    ranged=("ece", "ece_null"),
    place=21,
)
def calibration(
    study: Study, scope: Scope, *, images: int = 1000, bins: int = 15
) -> Inquiry[Calibrations]:
    """ECE = sum_b n_b/n |acc_b - conf_b| of the top answer, in bins of equally many images.

    Equal confidences share a bin; a bin has at least five images. NLL = mean -log p_y in nats,
    Brier = mean sum_c (p_c - [c = y])^2 in [0, 2]; overconfidence = mean confidence - accuracy.
    Best temperature: argmin over T of the NLL of softmax(z / T). On held-out images, every run at
    the last epoch that the learners share. Effects are student minus baseline of the same seed.
    """
    scope.enough("calibration", images, FEWEST)
    asked = {run: sight("outputs", study.final(run), images=images) for run in study.runs}
    seen = yield list(asked.values())
    given = read_answers(seen, asked)
    labels = given.labels
    bins = min(bins, max(1, len(labels) // IN_A_BIN))
    values = {run: by_image(logits, labels, bins) for run, logits in given.logits.items()}
    effects = {
        name: over_images(study, {run.id: own[name] for run, own in values.items()})
        for name in (*SHARES, *NATS)
    }
    own = {run.id: logits for run, logits in given.logits.items()}
    return Calibrations(
        len(labels),
        bins,
        [_measured(run, given.logits[run], labels, at, bins) for run, at in values.items()],
        {name: arms for name, arms in effects.items() if arms},
        given.lost,
        tuple(
            _curve(arm, role, [own[run] for run in runs], labels, bins)
            for (arm, role), runs in by_arm(roles_of(study.runs), own).items()
        ),
    )
