"""Concepts kept to the end over concepts ever tried: sets made by hand."""

import math

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.metrics.scope import Discarding
from kdprobe.metrics.stability import Straightness, kept_share, kept_so_far, noise_floor


def sets(*checkpoints: set[int]) -> np.ndarray:
    """(k, 1, 9) units of one image from the numbers of its concepts at every checkpoint."""
    cells = np.zeros((len(checkpoints), 1, 9), dtype=bool)
    for k, found in enumerate(checkpoints):
        cells[k, 0, sorted(found)] = True
    return cells


@pytest.mark.parametrize(
    ("course", "rho"),
    [
        (({1}, {1, 2}, {1, 2, 3}), 1.0),
        (({1, 2, 3, 4}, {5, 6}, {1, 7}), 2 / 7),
        (({0, 1, 2, 3}, {0}, set()), 0.0),
        (({0, 1}, {2}, {0, 1, 2}), 1.0),
    ],
)
def test_the_last_set_over_the_union(course, rho):
    share, final, ever = kept_share(sets(*course))
    assert share[0] == pytest.approx(rho)
    assert final[0] == len(course[-1])
    assert ever[0] == len(set().union(*course))


def test_without_any_concept_there_is_no_share():
    share, final, ever = kept_share(sets(set(), set()))
    assert np.isnan(share[0])
    assert final[0] == ever[0] == 0


def test_several_images_and_thresholds_are_reckoned_apart():
    chance = np.random.default_rng(0)
    cells = chance.random((2, 4, 5, 9)) < 0.3  # (b, k, n, q)
    share, final, ever = kept_share(cells)
    assert share.shape == (2, 5)
    for b in range(2):
        for n in range(5):
            found = [set(np.flatnonzero(cells[b, k, n])) for k in range(4)]
            assert ever[b, n] == len(set().union(*found))
            assert final[b, n] == len(found[-1])
    assert np.nanmin(share) >= 0
    assert np.nanmax(share) <= 1


# --- what chance alone does


def test_rho_so_far_ends_at_rho_and_is_what_a_shorter_training_has():
    cells = np.random.default_rng(0).random((5, 7, 9)) < 0.3
    found = kept_so_far(cells)
    assert found[0] == 1
    for end in range(1, 6):
        assert found[end - 1] == pytest.approx(np.nanmean(kept_share(cells[None, :end])[0]))


def test_the_noise_floor_by_hand():
    """Each estimate is the last one in turn: (2 + 3 + 1) / 3 of a union of four."""
    cells = np.stack([sets({0, 1}, {0, 1, 2}, {3}), sets({0}, {0}, {0})])
    np.testing.assert_allclose(noise_floor(cells), [(2 + 3 + 1) / 3 / 4, 1.0])
    several = np.concatenate([cells, np.stack([sets({5}, {5}, {5})] * 2)], axis=2)
    np.testing.assert_allclose(noise_floor(several), [(0.5 + 1) / 2, 1.0])
    empty = np.concatenate([cells, np.zeros_like(cells)], axis=2)
    np.testing.assert_allclose(noise_floor(empty), noise_floor(cells), err_msg="0 / 0 has no say")
    assert np.isnan(noise_floor(np.zeros_like(cells))).all()


CUT = {"b": 0.2, "sweep": (0.2, 0.5, 1.0)}
N, Q, GROUPS, EPOCHS = 24, 64, 8, (0, 1, 2, 3)
ON = np.broadcast_to(np.arange(Q) < 40, (N, Q))


def told(groups_of, estimator: str = "jacobian", groups: bool = True, epochs=EPOCHS):
    """The result at one layer where checkpoint c shows groups_of(c) (u, n, q)."""
    study = made_up(FAMILY[1:2], epochs=epochs)

    def answer(sight):
        if sight.probe == "pictures":
            ones = {"sizes": np.ones((N, Q)), "labels": np.zeros(N)}
            return ones | {"coverage": ON.astype(float)}
        (subject,) = sight.subjects
        seen = groups_of(subject.epoch)
        kind = "energy" if estimator == "jacobian" else "entropy"
        found = {f"{kind}/logits": seen.mean(0)}
        return found | ({"groups/logits": seen} if groups else {})

    cut = Discarding(**CUT, estimator=estimator)
    asked = scope(study, layers=("logits",), discarding=cut)
    return ask("stability", study, asked, answer).runs["baseline0"]["logits"]


def truth() -> np.ndarray:
    """(n, q) energies; the object's are larger."""
    return np.random.default_rng(0).lognormal(sigma=0.6, size=(N, Q)) * np.where(ON, 2.0, 1.0)


def estimated(seed: int, shape: float = 6.0) -> np.ndarray:
    """(u, n, q) energies of gamma distribution, as squares of probes are: sd 1 / sqrt(shape u)."""
    return truth() * np.random.default_rng(seed).gamma(shape, 1 / shape, size=(GROUPS, N, Q))


def found_in(energy: np.ndarray) -> np.ndarray:
    """(b, n, q) concepts on the object of energies, by the definition."""
    h = 0.5 * np.log(energy.sum(1, keepdims=True) / energy)
    level = h[~ON].reshape(N, -1).mean()
    return np.stack([(level - h > b) & ON for b in CUT["sweep"]])


def test_without_chance_the_floor_is_one():
    seen = told(lambda epoch: estimated(epoch), groups=False)
    assert (seen.floor == 1).all()
    assert (seen.error == 0).all()
    np.testing.assert_array_equal(seen.over_floor, seen.rho)
    np.testing.assert_array_equal(seen.persistent, seen.rho)
    equal = told(lambda epoch: np.repeat(estimated(epoch)[:1], GROUPS, 0))
    np.testing.assert_allclose(equal.floor, 1, err_msg="draws that never differ")
    np.testing.assert_allclose(equal.error, 0, atol=1e-12)


def test_the_floor_is_of_the_last_checkpoint():
    def shaky_at(*epochs: int):
        return told(lambda k: estimated(k) if k in epochs else np.repeat(truth()[None], 8, 0))

    assert (shaky_at(0, 1, 2).floor == 1).all()
    assert (shaky_at(3).floor < 0.97).all()


def test_rho_is_that_of_the_definition():
    cells = np.stack([found_in(estimated(k).mean(0)) for k in EPOCHS], axis=1)  # (b, k, n, q)
    share, final, ever = kept_share(cells)
    seen = told(estimated)
    np.testing.assert_allclose(seen.ratio, share)
    np.testing.assert_allclose(seen.final, final)
    np.testing.assert_allclose(seen.ever, ever)


def test_the_floor_is_that_of_fresh_estimates_of_one_network():
    """Replicates of one analysis tell what as many estimates with draws of their own would."""
    floors, fresh = [], []
    for trial in range(12):
        floors.append(told(lambda epoch, t=trial: estimated(100 * t)).floor)
        own = [found_in(estimated(100 * trial + 1 + k).mean(0)) for k in range(len(EPOCHS))]
        fresh.append(noise_floor(np.stack(own, axis=1)))
    wanted, found = np.mean(fresh, axis=0), np.mean(floors, axis=0)
    assert (wanted < 0.93).all(), "there is some noise"
    error = np.sqrt(np.var(fresh, axis=0) / 12 + np.var(floors, axis=0) / 12)
    assert (np.abs(found - wanted) < 4 * error + 0.015).all()


def test_a_network_that_stands_still_is_as_straight_as_its_floor():
    """The same draws at every checkpoint give rho = 1; draws of their own give the floor."""
    assert (told(lambda epoch: estimated(0)).rho == 1).all()
    own = [told(lambda epoch, t=trial: estimated(100 * t + epoch)) for trial in range(12)]
    ratios = np.stack([one.over_floor for one in own])
    np.testing.assert_allclose(ratios, np.stack([one.rho / one.floor for one in own]))
    error = ratios.std(0, ddof=1) / math.sqrt(12)
    assert (np.abs(ratios.mean(0) - 1) < 3 * error + 0.015).all()


def test_the_error_of_rho_is_that_of_fresh_draws():
    """Chance is shared by the checkpoints, as the noise of an analysis is."""
    drift = np.random.default_rng(9).lognormal(sigma=0.3, size=(len(EPOCHS), N, Q))
    rho, error = [], []
    for seed in range(120):
        seen = told(lambda epoch, s=seed: drift[epoch] * estimated(s))
        rho.append(seen.rho)
        error.append(seen.error)
    scatter, told_error = np.std(rho, axis=0, ddof=1), np.sqrt(np.mean(np.square(error), axis=0))
    np.testing.assert_allclose(told_error, scatter, rtol=0.2)  # 120 draws: 7%


def test_persistent_concepts_are_those_of_half_of_the_restarts():
    """Four restarts of the paper: unit 0 is found by all, 1 by two, 2 by one."""

    def groups_of(epoch: int) -> np.ndarray:
        seen = np.where(ON, 0.0, 0.01) * np.ones((4, 1, 1))
        seen[:, :, 0] = -9
        if epoch == 0:
            seen[:2, :, 1] = -9
            seen[3:, :, 2] = -9
        return seen

    seen = told(groups_of, "paper", epochs=(0, 1))
    np.testing.assert_allclose(seen.persistent, 1 / 2, err_msg="{0, 1} tried, {0} kept")
    assert (seen.ratio < 1).all()


def test_the_floor_of_the_paper_is_of_as_many_restarts_as_there_are():
    def groups_of(epoch: int) -> np.ndarray:
        seen = np.where(ON, 0.0, 0.01) * np.ones((3, 1, 1))
        for restart, units in enumerate(([0, 1], [0], [0, 2, 3])):
            seen[restart][:, units] = -9
        return seen

    seen = told(groups_of, "paper", epochs=(0, 1, 2))
    np.testing.assert_allclose(seen.floor, (2 + 1 + 3) / 3 / 4)


def test_rho_of_no_floor_is_no_number():
    nothing = np.zeros(1)
    made = Straightness(np.ones((1, 2)), nothing, nothing, nothing, nothing, nothing, nothing)
    assert np.isnan(made.over_floor).all()


# --- a study by hand


def study_seen(sight):
    """The baseline tries unit 1 at checkpoint 1 and drops it; the student keeps straight."""
    if sight.probe == "pictures":
        on = np.array([[1.0, 1.0, 0.0, 0.0]] * 2)
        return {"coverage": on, "sizes": np.ones((2, 4)), "labels": np.zeros(2)}
    energy = np.ones((2, 4))
    energy[:, :2] = 0.1
    (subject,) = sight.subjects
    energy[0, 0] = 9  # of the first image alone
    if subject.run == "baseline0" and subject.epoch == 1:
        energy[0, 1] = 9
    return {"energy/logits": energy}


def test_a_detour_halves_the_baseline():
    study = made_up(FAMILY)
    cut = Discarding(b=0.2, sweep=(0.2, 9.0), grid=2)
    result = ask("stability", study, scope(study, layers=("logits",), discarding=cut), study_seen)
    rho = {run: at["logits"].rho for run, at in result.runs.items()}
    assert rho["baseline0"][0] == pytest.approx(0.5)
    assert rho["kd0"][0] == pytest.approx(1.0)
    assert np.isnan(rho["kd0"][1])
    course, sweep, table = result.panels()
    assert {series.name: series.y[-1] for series in course.series} == {"baseline": 0.5, "kd": 1.0}
    assert [series.name for series in sweep.series] == ["baseline", "kd"]
    rows = {row[:3]: row[3:] for row in table.rows}
    assert rows["baseline0", "logits", 0.2] == (0.5, 0.0, 1.0, 0.5, 0.5, 1.0, 2.0, 1)
    assert rows["kd0", "logits", 9.0] == (None, 0.0, 1.0, None, None, None, None, 2)
    assert len(table.columns) == len(table.rows[0])
    assert len(set(table.columns)) == len(table.columns)


def test_images_that_the_papers_filter_leaves_out_have_no_say():
    study = made_up(FAMILY[1:2])

    def answer(sight):
        if sight.probe == "pictures":
            return study_seen(sight)
        h = np.array([[0.0, 5.0, 4.0, 4.0], [9.0, 9.0, 4.0, 4.0]])  # the second is discarded
        return {"entropy/logits": h, "groups/logits": np.stack([h, h])}

    cut = Discarding(estimator="paper", sweep=(0.2,))
    asked = scope(study, layers=("logits",), discarding=cut)
    seen = ask("stability", study, asked, answer).runs["baseline0"]["logits"]
    assert seen.ratio[0, 0] == 1
    assert np.isnan(seen.ratio[0, 1])
    assert seen.rho == [1]
