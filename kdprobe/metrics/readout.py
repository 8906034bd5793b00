"""What can a linear reader tell from each layer?  Probes of the class, and of later layers.

Kernels on features that a probe has stored; nothing here runs a network.
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.accuracy import proportion_error
from kdprobe.metrics.contract import Array, Inquiry, answered, metric, roles_of
from kdprobe.metrics.effects import over_images, over_seeds
from kdprobe.metrics.readout_page import Layers, Readout
from kdprobe.metrics.reuse import names_in
from kdprobe.metrics.ridge import foretold, r_squared
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import sight
from kdprobe.stats import Difference
from kdprobe.study import Study


def told_apart(features: Array, labels: Array, parts: Array, strength: float) -> Array:
    """(n,) bool: whether the class is read from features (n, d) by a linear probe of the others.

    Multinomial logistic regression on standardised features; the images of a fold, those with the
    same number in `parts` (n,), are read by the probe that was fitted to all other folds.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    right = np.zeros(len(labels), dtype=bool)
    for part in np.unique(parts):
        held = parts == part
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
        with warnings.catch_warnings(), threadpool_limits(1):  # small products, slower by several
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(features[~held], labels[~held])
        right[held] = probe.predict(features[held]) == labels[held]
    return right


def folds_of(labels: Array, folds: int, seed: int) -> Array:
    """(n,) the fold of every image, drawn by `seed` so that every fold has each class alike."""
    from sklearn.model_selection import StratifiedKFold

    parts = np.zeros(len(labels), dtype=np.int64)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for i, (_, held) in enumerate(cut.split(np.zeros((len(labels), 1)), labels)):
        parts[held] = i
    return parts


def _layers(
    seen: Mapping[str, Array], *, folds: int, strength: float, seed: int
) -> tuple[Layers, Array]:
    """What is read from one network's layers, and the (n,) images it was read from."""
    kept = _common(seen["labels"], folds)
    names, labels = names_in(seen["names"]), seen["labels"][kept]
    features = [seen[f"features.{i}"][kept].astype(np.float64) for i in range(len(names))]
    mixed = np.random.default_rng(seed).permutation(len(labels))
    right, null = (
        np.stack([told_apart(layer, wanted, parts, strength) for layer in features])
        for wanted, parts in (
            (labels, folds_of(labels, folds, seed)),
            (labels[mixed], folds_of(labels[mixed], folds, seed)),
        )
    )
    accuracy = right.mean(1)
    r2, r2_error, r2_null = _later(features, folds_of(labels, folds, seed), mixed)
    found = Layers(
        layers=names,
        widths=[layer.shape[1] for layer in features],
        accuracy=accuracy,
        accuracy_error=np.array([proportion_error(float(a), len(labels)) for a in accuracy]),
        null=null.mean(1),
        r2=r2,
        r2_error=r2_error,
        r2_null=r2_null,
    )
    return found, right


def _later(features: Sequence[Array], parts: Array, mixed: Array) -> tuple[Array, Array, Array]:
    """R^2, its error and its null (l, l) of the layer of a column from that of a row before it."""
    count = len(features)
    table, errors, null = (np.full((count, count), np.nan) for _ in range(3))
    for i in range(count - 1):
        later = features[i + 1 :]
        found = foretold(features[i], [*later, *(layer[mixed] for layer in later)], parts)
        for j in range(i + 1, count):
            table[i, j], errors[i, j] = r_squared(*found[j - i - 1])
            null[i, j], _ = r_squared(*found[j - i - 1 + len(later)])
    return table, errors, null


def _common(labels: Array, folds: int) -> Array:
    """(n,) bool: images of classes that have one for every fold."""
    counts = np.bincount(labels)
    enough = counts >= folds
    if enough.sum() < 2:
        raise NotApplicable(
            f"needs at least 2 classes with {folds} images each, one a fold; found {enough.sum()} "
            f"among {len(labels)} images; look at more with --set readout.images=..., or lower "
            "readout.folds"
        )
    return np.asarray(enough[labels])


@metric(
    "readout",
    title="Linear read-out of layers",
    question="What can a linear reader tell from each layer, and how much of it was there before?",
    source="Alain and Bengio 2016, arXiv:1610.01644 (linear probes); Hewitt and Liang 2019, "
    "arXiv:1909.03368 (control by random labels)",
    better="neither",
    range=(0.0, 1.0),
    ranged=("accuracy", "null"),
    place=66,
)
def readout(
    study: Study,
    scope: Scope,
    *,
    images: int = 512,
    folds: int = 4,
    strength: float = 1.0,
    width: int = 256,
    spread: bool = True,
) -> Inquiry[Readout]:
    """Accuracy of linear probes of each layer, and R^2 of later layers from earlier ones.

    Features are means of channels over the image, and with `spread` their standard deviations;
    more than `width` are projected to so many. Probe: multinomial logistic regression of the class
    with penalty ||W||^2 / (2 `strength`), on standardised features; accuracy is that on the `folds`
    parts of the held-out images that a probe was not fitted to. R^2 = 1 - sum ||y - y'||^2 / sum
    ||y||^2, y' the ridge regression of standardised later features from earlier ones, fitted to
    the other folds, its penalty by generalised cross-validation there: as it is taken out of fold,
    wide layers have no advantage by fitting noise, and it may be below 0. Nulls: the same with
    permuted labels, and with permuted rows. Classes with fewer images than folds are left out.
    Of networks with fewer than two named layers, up to twelve blocks are looked at besides. At the
    last epoch that the learners share.
    """
    _must_be_sensible(folds, strength)
    asked = {
        run.id: sight(
            "pooled_features",
            study.final(run),
            images=images,
            layers=scope.similarity_layers[run.id],
            width=width,
            spread=spread,
        )
        for run in study.runs
    }
    seen = yield list(asked.values())
    found, reasons = answered(seen, asked)
    both = {
        run: _layers(shown, folds=folds, strength=float(strength), seed=scope.seed)
        for run, shown in found.items()
    }
    runs = {run: layers for run, (layers, _) in both.items()}
    return Readout(
        images=next(iter(both.values()))[1].shape[1],
        folds=folds,
        runs=runs,
        gains=_gains(study, both),
        r2_gains=over_seeds(study, {r: at.foreseen for r, at in runs.items() if at.knows_order}),
        reasons=reasons,
        roles=roles_of(study.runs),
    )


def _gains(study: Study, both: Mapping[str, tuple[Layers, Array]]) -> dict[str, Difference]:
    """Probe accuracy of students less that of baselines, by arm and layer."""
    names = dict.fromkeys(name for layers, _ in both.values() for name in layers.layers)
    return {
        f"{arm}: {name}": difference
        for name in names
        for arm, difference in over_images(
            study,
            {
                run: right[layers.layers.index(name)].astype(float)
                for run, (layers, right) in both.items()
                if name in layers.layers
            },
        ).items()
    }


def _must_be_sensible(folds: int, strength: float) -> None:
    if folds < 2:
        raise UsageError(
            f"setting readout.folds is {folds}; wanted at least 2: a probe is judged on images "
            "that it was not fitted to"
        )
    if strength <= 0:
        raise UsageError(f"setting readout.strength is {strength:g}; wanted a number above 0")
