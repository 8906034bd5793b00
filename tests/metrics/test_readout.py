"""Linear probes against scikit-learn's own cross-validation, planted classes, and the page."""

from functools import lru_cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.readout import folds_of, told_apart
from kdprobe.panels import Forest, Lines, Table

N = 60
LABELS = np.arange(N) % 3


def features(signal: float, wide: int = 6, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return chance.normal(size=(N, wide)) * 5 + signal * (LABELS[:, None] == np.arange(wide) % 3)


def test_it_is_scikit_learns_cross_validation():
    x = features(6.0)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=500))
    cut = StratifiedKFold(4, shuffle=True, random_state=3)
    wanted = cross_val_predict(probe, x, LABELS, cv=cut) == LABELS
    found = told_apart(x, LABELS, folds_of(LABELS, 4, 3), 0.5)
    np.testing.assert_array_equal(found, wanted)
    assert 0.4 < found.mean() < 1


def test_folds_hold_every_class_alike_and_go_by_their_seed():
    parts = folds_of(LABELS, 4, 0)
    assert [list(np.bincount(LABELS[parts == part])) for part in range(4)] == [[5, 5, 5]] * 4
    np.testing.assert_array_equal(parts, folds_of(LABELS, 4, 0))
    assert (parts != folds_of(LABELS, 4, 1)).any()


def test_planted_classes_are_read_and_noise_is_not():
    parts = folds_of(LABELS, 4, 0)
    assert told_apart(features(60.0), LABELS, parts, 1.0).all()
    noise = np.mean([told_apart(features(0, seed=s), LABELS, parts, 1.0).mean() for s in range(5)])
    assert noise == pytest.approx(1 / 3, abs=0.15)
    assert told_apart(np.ones((N, 4)), LABELS, parts, 1.0).mean() == pytest.approx(1 / 3)


@lru_cache(maxsize=1)
def _first() -> np.ndarray:
    return features(0)


def seen(sight):
    """The class is nowhere in the first layer, and of students in the second more than of others;
    the third is a linear map of the second.
    """
    run = sight.subjects[0].run
    second = features(60.0 if run.startswith("kd") else 3.0, seed=1)
    third = second @ np.random.default_rng(9).normal(size=(6, 4))
    return {
        "names": np.frombuffer(b"first\nsecond\nlogits", dtype=np.uint8),
        "labels": LABELS,
        "features.0": _first().astype(np.float32),
        "features.1": second.astype(np.float32),
        "features.2": third.astype(np.float32),
    }


STUDY = made_up(
    [*FAMILY, *((arm, role, 1) for arm, role in (("baseline", "baseline"), ("kd", "student")))]
)


def test_layers_are_read_and_foretold():
    result = ask("readout", STUDY, scope(STUDY), seen)
    at = result.runs["kd0"]
    assert at.layers == ("first", "second", "logits")
    assert at.widths == [6, 6, 4]
    assert at.accuracy[1] == 1
    assert at.accuracy[0] < 0.5
    assert at.null.max() < 0.6
    assert at.r2[1, 2] > 0.99
    assert at.r2[0, 1] < 0.3
    assert np.isnan(at.r2[np.tril_indices(3)]).all()
    assert np.nanmax(at.r2_null) < 0.1
    assert result.gains["kd: second"].effect > 0.2
    assert result.gains["kd: first"].effect == 0
    assert result.r2_gains["kd"].seeds == 2
    assert np.isnan(result.r2_gains["kd"].low), "two seeds have no interval"


def test_folds_and_permutations_go_by_the_seed_of_the_analysis():
    one, two = (ask("readout", STUDY, scope(STUDY, seed=s), seen).runs["kd0"] for s in (0, 1))
    assert (one.accuracy != two.accuracy).any()
    assert (one.null != two.null).any()


def test_the_page_shows_layers_in_order():
    probes, following, gains, table, r2 = ask("readout", STUDY, scope(STUDY), seen).panels()
    assert isinstance(probes, Lines)
    assert (probes.x_label, probes.x_names) == ("layer", ("first", "second", "logits"))
    assert probes.series[0].x == (1, 2, 3)
    assert following.series[0].x == (2, 3)
    assert isinstance(gains, Forest)
    assert len(gains.effects) == 3
    assert isinstance(table, Table)
    assert len(table.rows) == 5 * 3
    assert len(r2.rows) == 5 * 3


def test_classes_with_too_few_images_are_left_out():
    def few(sight):
        labels = LABELS.copy()
        labels[labels == 2] = 0
        labels[2] = 2
        return {**seen(sight), "labels": labels}

    assert ask("readout", STUDY, scope(STUDY), few).images == N - 1


def test_a_class_with_one_image_a_fold_is_kept():
    def enough(sight):
        labels = np.where((LABELS == 2) & (np.arange(N) > 12), 0, LABELS)
        assert (labels == 2).sum() == 4
        return {**seen(sight), "labels": labels}

    assert ask("readout", STUDY, scope(STUDY), enough).images == N


@pytest.mark.parametrize(("labels", "classes"), [(np.zeros(N, int), 1), (np.arange(N), 0)])
def test_one_class_or_few_images_of_each_cannot_be_told_apart(labels, classes):
    def poor(sight):
        return {**seen(sight), "labels": labels}

    with pytest.raises(
        NotApplicable, match=rf"2 classes with 4 .* found {classes} .*; look at more"
    ):
        ask("readout", STUDY, scope(STUDY), poor)


def test_a_single_layer_has_probes_and_nothing_to_foretell():
    def single(sight):
        found = {k: v for k, v in seen(sight).items() if k not in ("features.1", "features.2")}
        return found | {"names": np.frombuffer(b"logits", dtype=np.uint8)}

    result = ask("readout", STUDY, scope(STUDY), single)
    assert result.r2_gains == {}
    assert [type(panel) for panel in result.panels()] == [Lines, Forest, Table, Table]


def test_constant_layers_are_chance_and_not_defined():
    def constant(sight):
        return {**seen(sight), "features.1": np.ones((N, 6), np.float32)}

    result = ask("readout", STUDY, scope(STUDY), constant)
    at = result.runs["kd0"]
    assert at.accuracy[1] == pytest.approx(1 / 3)
    assert np.isnan(at.r2[0, 1])
    assert at.r2[1, 2] == pytest.approx(0, abs=0.1)
    assert result.panels()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"folds": 1}, r"readout\.folds is 1; wanted at"), ({"strength": 0.0}, r"is 0; wanted a")],
)
def test_settings_without_sense_are_refused_before_any_look(settings, message):
    with pytest.raises(UsageError, match=message):
        ask("readout", STUDY, scope(STUDY), lambda _: pytest.fail("looked"), **settings)
