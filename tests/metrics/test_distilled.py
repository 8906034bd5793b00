"""Distilled features: residual matrices written out, planted knowledge, and what has no answer."""

import numpy as np
import pytest
from clouds import gaussian, rotation, seen, shapes
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.contract import METRICS, conclude
from kdprobe.metrics.distance_correlation import (
    centred_rows,
    class_distances,
    distance_correlations,
    partial,
    quantities,
    relevance_by_chance,
    remainder,
)
from kdprobe.metrics.geometry import stacked
from kdprobe.panels import Forest, Heatmap

N = 48
LABELS = np.arange(N) % 4
ALL = np.arange(N)
SEEDS = (0, 1, 2)
STUDY = made_up(
    [
        FAMILY[0],
        *(("baseline", "baseline", s) for s in SEEDS),
        *(("kd", "student", s) for s in SEEDS),
    ]
)
FEW = {"images": N, "permutations": 19, "half_samples": 6}


def u(x: np.ndarray) -> np.ndarray:
    """U-centred Euclidean distances, by the sums of the definition."""
    n, d = len(x), np.linalg.norm(x[:, None] - x[None], axis=-1)
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                rows, columns = d[i].sum() / (n - 2), d[:, j].sum() / (n - 2)
                found[i, j] = d[i, j] - rows - columns + d.sum() / ((n - 1) * (n - 2))
    return found


def corr(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def less(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a - (a * b).sum() / (b * b).sum() * b


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def four() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Teacher, student and baseline: (n, d) each, away from the origin."""
    common = gaussian(N, 3, 0) + np.eye(4)[LABELS][:, :3] + 2
    student = np.concatenate([common, gaussian(N, 2, 1)], 1)
    return common @ gaussian(3, 6, 2), student, common[:, :1] + gaussian(N, 3, 3)


def reckoned(*networks: np.ndarray, rows: np.ndarray = ALL) -> np.ndarray:
    at = stacked([shapes(x, x) for x in networks])
    return quantities(*distance_correlations(at, LABELS, rows), [(1, 2)])[:, 0, 0]


@pytest.mark.parametrize("rows", [ALL, ALL[5:30]])
def test_quantities_are_those_of_the_residual_matrices(rows):
    features = [x[rows] for x in four()]
    t, a, b = (u(x) for x in features)
    tn, an, bn = (u(unit(x)) for x in features)
    y = u(np.eye(4)[LABELS[rows]])
    wanted = [corr(an, tn), corr(bn, tn)]
    wanted += [corr(less(a, b), y), corr(less(b, a), y)]
    wanted += [corr(less(a, b), less(t, b)), corr(a, b)]
    np.testing.assert_allclose(reckoned(*four(), rows=rows), wanted, atol=1e-9)


def test_they_agree_with_another_library():
    dcor = pytest.importorskip("dcor")
    t, a, b = four()
    fss, fss_baseline, _, _, beyond, shared = reckoned(t, a, b)
    assert fss == pytest.approx(dcor.u_distance_correlation_sqr(unit(a), unit(t)))
    assert fss_baseline == pytest.approx(dcor.u_distance_correlation_sqr(unit(b), unit(t)))
    assert shared == pytest.approx(dcor.u_distance_correlation_sqr(a, b))
    assert beyond == pytest.approx(dcor.partial_distance_correlation(a, t, b))


def test_remainders_are_those_of_least_squares():
    a, b, y = (x - x.mean() for x in gaussian(3, 40, 5))
    ab, ay, by = (np.array(corr(*pair)) for pair in ((a, b), (a, y), (b, y)))
    assert remainder(ay, ab, by) == pytest.approx(corr(less(a, b), y))
    assert partial(ay, ab, by) == pytest.approx(corr(less(a, b), less(y, b)))
    assert partial(ay, ab, by) == pytest.approx(partial(ay, by, ab))
    assert np.isnan(remainder(ay, np.array(1.0), ay)), "nothing is left"


def test_all_are_blind_to_scale_offset_and_rotation_but_of_scaled_features():
    plain = reckoned(*four())
    turn = np.linalg.qr(gaussian(5, 5, 9))[0]
    t, a, b = four()
    np.testing.assert_allclose(reckoned(t, 3 * a @ turn, b), plain, atol=1e-9)
    moved = reckoned(t, a + 4, b)
    np.testing.assert_allclose(moved[2:], plain[2:], atol=1e-9)
    assert abs(moved[0] - plain[0]) > 1e-3, "length one depends on the origin"


def test_independent_features_have_none_on_average():
    found = [
        reckoned(gaussian(N, 4, s), gaussian(N, 4, s + 1000), gaussian(N, 4, s + 2000))
        for s in range(200)
    ]
    error = np.std(found, axis=0) / 200**0.5
    assert (np.abs(np.mean(found, axis=0)) < 4 * error).all()


def test_the_classes_are_their_one_hot_vectors():
    found = centred_rows(class_distances(LABELS))
    wanted = u(np.eye(4)[LABELS]).reshape(-1)
    np.testing.assert_allclose(found * 2**0.5, wanted, atol=1e-12)


def test_shuffled_labels_are_the_labels_in_other_orders():
    networks = stacked([shapes(x, x) for x in four()])
    orders = np.stack([np.random.default_rng(s).permutation(N) for s in range(3)])
    found = relevance_by_chance(networks, LABELS, [(1, 2)], orders)
    assert found.shape == (1, 2, 3)
    for place, order in enumerate(orders):
        again = quantities(*distance_correlations(networks, LABELS[order], ALL), [(1, 2)])
        assert found[0, 0, place] == pytest.approx(again[2, 0, 0])


def features(run: str) -> np.ndarray:
    """The teacher knows the classes, students learn of it, baselines only their own noise."""
    known = 2 * np.eye(4)[LABELS] + 0.5 * gaussian(N, 4, 7)
    if run == "teacher":
        return known
    own = gaussian(N, 4, int(run[-1]) + 20 * run.startswith("kd"))
    shared = gaussian(N, 4, int(run[-1]))
    return known + 0.3 * own + 0.5 * shared if run.startswith("kd") else shared


def answer(sight):
    x = features(sight.subjects[0].run)
    return seen(x, np.abs(x), labels=LABELS)


def test_planted_knowledge_is_distilled_and_none_is_residual():
    result = ask("distilled", STUDY, scope(STUDY), answer, **FEW)
    assert (result.images, result.classes) == (N, 4)
    assert list(result.students) == ["kd0", "kd1", "kd2"]
    for seed in SEEDS:
        at = result.students[f"kd{seed}"]
        assert at.baseline == f"baseline{seed}"
        assert (at.distilled > 0.5).all()
        assert (np.abs(at.residual) < 0.2).all()
        assert (at.beyond > 0.6).all()
        assert (at.fss > at.fss_baseline + 0.3).all()
        np.testing.assert_allclose(at.p_value, 1 / 20)
        assert ((at.errors > 0) & (at.errors < 0.2)).all()
    networks = ("teacher", *(f"baseline{s}" for s in SEEDS))
    at = stacked([shapes(features(run), np.abs(features(run))) for run in networks])
    others = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b]
    wanted = quantities(*distance_correlations(at, LABELS, ALL), others).mean(1)
    np.testing.assert_allclose(result.strangers["distilled"], wanted[2])
    np.testing.assert_allclose(result.strangers["beyond"], wanted[4])
    assert (np.abs(wanted[4]) < 0.2).all()
    for q, (field, other) in enumerate((("distilled", "residual"), ("fss", "fss_baseline"))):
        gaps = [getattr(s, field) - getattr(s, other) for s in result.students.values()]
        told = [effect.value for effect in result.panels()[q].effects]
        np.testing.assert_allclose(told, np.mean(gaps, axis=0))
    relevance, closeness, by_layer, table = result.panels()
    for panel in (relevance, closeness):
        assert isinstance(panel, Forest)
        assert [effect.name for effect in panel.effects] == ["kd · pooled", "kd · logits"]
        assert all(effect.low > 0 for effect in panel.effects)
    assert isinstance(by_layer, Heatmap)
    assert by_layer.rows[:2] == ("beyond · kd", "beyond · baseline of another seed")
    assert len(table.rows) == 6
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert not result.findings()


def test_a_student_that_lost_what_the_baseline_knows_deserves_a_sentence():
    def swapped(sight):
        run = sight.subjects[0].run
        if run != "teacher":
            run = ("baseline" if run.startswith("kd") else "kd") + run[-1]
        x = features(run)
        return seen(x, np.abs(x), labels=LABELS)

    (told,) = ask("distilled", STUDY, scope(STUDY), swapped, **FEW).findings()
    assert told.endswith("kd · pooled, kd · logits")


def test_one_class_has_no_relevance_but_the_rest_has():
    def alike(sight):
        return dict(answer(sight)) | {"labels": np.zeros(N, dtype=int)}

    result = ask("distilled", STUDY, scope(STUDY), alike, **FEW)
    at = result.students["kd0"]
    assert np.isnan([at.distilled, at.residual, at.p_value]).all()
    assert not np.isnan([at.fss, at.beyond]).any()
    panel = result.panels()[0]
    assert "all images are of one class" in panel.how_to_read
    assert {effect.value for effect in panel.effects} == {None}


def test_layers_that_do_not_vary_or_are_those_of_the_baseline_have_no_answer():
    def poor(sight):
        run = sight.subjects[0].run
        x = features(run)
        dead = seen(np.ones((N, 3)) if run == "kd1" else x, x, labels=LABELS)
        copy = 3 * features("baseline2") @ rotation(4)
        return seen(copy, x, labels=LABELS) if run == "kd2" else dead

    result = ask("distilled", STUDY, scope(STUDY), poor, **FEW)
    constant, copied = result.students["kd1"], result.students["kd2"]
    for field in ("fss", "distilled", "residual", "beyond", "shared", "p_value"):
        assert np.isnan(getattr(constant, field)[0])
        assert not np.isnan(getattr(constant, field)[1])
    assert copied.shared[0] == pytest.approx(1)
    assert np.isnan([copied.distilled[0], copied.residual[0], copied.beyond[0]]).all()


class Partly(dict):
    def __missing__(self, sight):
        raise Refused(f"{sight.subjects[0].run} has diverged")


def test_a_pair_that_cannot_be_seen_is_left_out_and_told():
    for lost, left in (({"kd1"}, 2), ({"kd0", "kd1", "baseline2"}, 0)):
        asked = METRICS["distilled"].ask(STUDY, scope(STUDY), **FEW)
        sights = next(asked)
        known = Partly({s: answer(s) for s in sights if s.subjects[0].run not in lost})
        if not left:
            with pytest.raises(Refused, match="has diverged"):
                conclude(asked, known)
            continue
        result = conclude(asked, known)
        assert len(result.students) == left
        assert result.lacking() == ("kd1 has diverged",)


def test_what_has_no_meaning_is_refused():
    for family, reason in (
        (FAMILY[:2], "needs a student and a baseline of its seed"),
        (FAMILY[1:], "needs a teacher"),
    ):
        study = made_up(family)
        with pytest.raises(NotApplicable, match=reason):
            ask("distilled", study, scope(study), answer)
    with pytest.raises(NotApplicable, match="needs at least 8 images, found 7; add test images"):
        ask("distilled", STUDY, scope(STUDY, available=7), answer)
    with pytest.raises(UsageError, match="half_samples is 1; wanted at least 2"):
        ask("distilled", STUDY, scope(STUDY), answer, half_samples=1)


def test_one_seed_has_no_stranger():
    study = made_up(FAMILY)
    result = ask("distilled", study, scope(study), answer, **FEW)
    assert result.strangers == {}
    assert result.panels()[2].rows == ("beyond · kd", "RS distilled · kd")
