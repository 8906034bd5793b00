"""When concepts peak: hand-made counts, and a study in which they appear one after another."""

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.metrics.contract import as_values
from kdprobe.metrics.scope import Discarding
from kdprobe.metrics.simultaneity import NEARLY, UNDEFINED, distances, peaks

CUT = Discarding(b=0.2, sweep=(0.2, 5.0), grid=2)
WALKED = np.array([0.0, 3.0, 4.0])


def study_seen(sight):
    """Image i of the student has its concept from checkpoint i on; the baseline's have none."""
    if sight.probe == "pictures":
        coverage = np.zeros((3, 4))
        coverage[:, 0] = 1
        return {"coverage": coverage, "sizes": np.ones((3, 4)), "labels": np.zeros(3)}
    if sight.probe == "weights":
        walk = {"moved/logits": WALKED, "start/logits": np.array(2.0)}
        walk |= {"moved/": 2 * WALKED, "start/": np.array(8.0)}
        if sight.subjects[0].run == "kd0":
            walk["stepped/logits"] = 1.0 + 10 * WALKED
            walk["stepped/"] = 3.0 + 20 * WALKED
        return walk
    energy = np.ones((3, 4))
    energy[:, 0] = 0.1
    (subject,) = sight.subjects
    if subject.run == "kd0":
        energy[: subject.epoch + 1, 0] = 9
    return {"energy/logits": energy}


@pytest.fixture
def result():
    study = made_up(FAMILY)
    asked = scope(study, layers=("logits",), discarding=CUT)
    return ask("simultaneity", study, asked, study_seen)


def test_the_first_of_the_largest_counts():
    counts = np.array([[1, 0, 3], [4, 0, 2], [4, 0, 3], [2, 0, 1]])  # (k, n)
    assert peaks(counts).tolist() == [1, UNDEFINED, 0]
    assert peaks(np.stack([counts, counts[::-1]])).tolist() == [[1, -1, 0], [1, -1, 1]]


def test_the_first_that_is_nearly_the_largest():
    """95% of 40 is 38, and of 10 it is 9.5: nine are too few."""
    counts = np.array([[37, 9, 0], [38, 9, 0], [40, 10, 0], [40, 9, 1]])
    assert peaks(counts, NEARLY).tolist() == [1, 2, 3]
    assert peaks(counts).tolist() == [2, 2, 3]
    many = np.random.default_rng(0).integers(0, 50, size=(5, 7, 30))
    assert (peaks(many, NEARLY) <= peaks(many)).all()
    for b, n in np.ndindex(5, 30):
        most = many[b, :, n].max()
        wanted = next(k for k in range(7) if many[b, k, n] >= 0.95 * most)
        assert peaks(many, NEARLY)[b, n] == wanted


def test_the_path_until_the_peak():
    path = np.array([0.0, 1.0, 4.0])
    found = distances(path, np.array([[0, 1], [2, UNDEFINED]]))
    np.testing.assert_array_equal(found, [[0, 1], [4, np.nan]])


def test_concepts_that_appear_one_after_another(result):
    learned, idle = result.runs["kd0"]["logits"], result.runs["baseline0"]["logits"]
    assert learned.peak[0].tolist() == [0, 1, 2] == learned.near[0].tolist()
    assert (learned.peak[1] == UNDEFINED).all(), "no unit is kept by 5 nats"
    assert (idle.peak == UNDEFINED).all()
    np.testing.assert_array_equal(learned.trace, [[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(idle.trace, np.zeros((3, 3)))
    np.testing.assert_allclose(learned.path, WALKED / 2)
    np.testing.assert_allclose(learned.path_all, WALKED / 4)
    np.testing.assert_allclose(learned.path_steps, 5 * WALKED, err_msg="from the first checkpoint")
    np.testing.assert_allclose(learned.path_all_steps, 20 / 8 * WALKED)
    assert idle.path_steps is None
    assert idle.path_all_steps is None
    np.testing.assert_array_equal(learned.error, np.zeros((2, 2)), err_msg="it is exact")
    assert "teacher" not in result.runs


def test_the_tables_and_the_curves_tell_the_same(result):
    walked, peaked, traces, table, paths = result.panels()
    way = {series.name: series.y for series in walked.series}
    assert way["kd"] == pytest.approx(tuple(result.runs["kd0"]["logits"].path))
    rows = {(row[0], row[2]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    d = WALKED / 2
    kd = rows["kd0", "most"]
    assert kd["D_mean"] == pytest.approx(d.mean(), abs=1e-5)
    assert kd["D_var"] == pytest.approx(d.var(), abs=1e-5)
    assert kd["D_std"] == pytest.approx(d.std(), abs=1e-5)
    assert (kd["± MC"], kd["± MC "], kd["images without peak"]) == (0, 0, 0)
    assert d.min() <= kd["from"] <= kd["D_mean"] <= kd["to"] <= d.max()
    assert 0 <= kd["from "] <= kd["to "] <= d.var() * 1.5
    assert rows["kd0", "95%"]["± MC"] is None, "it is of the paper's rule"
    idle = table.rows[[row[:3] for row in table.rows].index(("baseline0", "logits", "most"))]
    assert idle[3:] == (None, None, None, 0, None, None, None, 0, None, 3)
    lines = {series.name: series.y for series in peaked.series}
    assert lines["kd"] == pytest.approx((1 / 3, 2 / 3, 1))
    assert lines["baseline"] == (0, 0, 0)
    middle = {series.name: (series.low, series.y, series.high) for series in traces.series}
    assert middle["kd"] == ((0, 0.5, 1), (0, 1, 1), (0.5, 1, 1))
    assert middle["baseline"] == ((0, 0, 0),) * 3
    assert "roles" not in as_values(result)
    told = {row[0]: dict(zip(paths.columns, row, strict=True)) for row in paths.rows}
    for kind, path in (
        ("layer", WALKED / 2),
        ("layer, by step", 5 * WALKED),
        ("all weights", WALKED / 4),
        ("all weights, by step", 2.5 * WALKED),
    ):
        assert told["kd0"][f"D_mean: {kind}"] == pytest.approx(path.mean(), abs=1e-5)
        share = path.mean() / path[-1]
        assert told["kd0"][f"share of the whole: {kind}"] == pytest.approx(share, abs=1e-5)
    assert set(told["baseline0"].values()) == {"baseline0", "logits", None}


def test_a_path_of_no_length_has_no_share():
    def still(sight):
        seen = study_seen(sight)
        return {k: v * 0 if k.startswith("moved") else v for k, v in seen.items()}

    study = made_up(FAMILY)
    asked = scope(study, layers=("logits",), discarding=CUT)
    paths = ask("simultaneity", study, asked, still).panels()[-1]
    row = next(row for row in paths.rows if row[0] == "kd0")
    assert row[2:4] == (0.0, None)


# --- errors from chance

N, Q, EPOCHS = 12, 48, (0, 1, 2, 3)
ON = np.broadcast_to(np.arange(Q) < 24, (N, Q))
PATH = np.array([0.0, 2.0, 3.0, 3.5])


def learned(seed: int, groups: int = 8):
    """A run whose concepts come and go, from energies with chance that all checkpoints share."""
    chance = np.random.default_rng(seed)
    noise = chance.gamma(6.0, 1 / 6, size=(groups, N, Q))
    truth = np.random.default_rng(1).lognormal(sigma=0.8, size=(len(EPOCHS), N, Q))

    def answer(sight):
        if sight.probe == "pictures":
            ones = {"sizes": np.ones((N, Q)), "labels": np.zeros(N)}
            return ones | {"coverage": ON.astype(float)}
        if sight.probe == "weights":
            return {
                f"{kind}/{x}": v
                for x in ("", "logits")
                for kind, v in (("moved", PATH), ("start", np.array(1.0)))
            }
        seen = truth[sight.subjects[0].epoch] * noise
        return {"energy/logits": seen.mean(0), "groups/logits": seen}

    study = made_up(FAMILY[1:2], epochs=EPOCHS)
    cut = Discarding(b=0.5, sweep=(0.2, 0.5))
    asked = scope(study, layers=("logits",), discarding=cut)
    return ask("simultaneity", study, asked, answer).runs["baseline0"]["logits"]


def test_the_error_of_the_distance_is_that_of_fresh_draws():
    found, told = [], []
    for seed in range(100):
        one = learned(seed)
        d = distances(one.path, one.peak)  # (b, n)
        found.append(np.stack([d.mean(1), d.var(1)], axis=1))
        told.append(one.error)
    scatter = np.std(found, axis=0, ddof=1)
    assert (scatter > 0).all()
    root_mean = np.sqrt(np.mean(np.square(told), axis=0))
    assert root_mean.shape == (2, 2)
    np.testing.assert_allclose(root_mean, scatter, rtol=0.25)  # 100 draws: 7%
