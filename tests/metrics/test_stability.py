"""Concepts kept to the end over concepts ever tried: sets made by hand."""

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.metrics.contract import Discarding
from kdprobe.metrics.stability import kept_share


def sets(*checkpoints: set[int]) -> np.ndarray:
    """(k, 1, 3, 3) cells of one image from the numbers of its concepts at every checkpoint."""
    cells = np.zeros((len(checkpoints), 1, 9), dtype=bool)
    for k, found in enumerate(checkpoints):
        cells[k, 0, sorted(found)] = True
    return cells.reshape(-1, 1, 3, 3)


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
    cells = chance.random((2, 4, 5, 3, 3)) < 0.3  # (b, k, n, g, g)
    share, final, ever = kept_share(cells)
    assert share.shape == (2, 5)
    for b in range(2):
        for n in range(5):
            found = [set(np.flatnonzero(cells[b, k, n])) for k in range(4)]
            assert ever[b, n] == len(set().union(*found))
            assert final[b, n] == len(found[-1])
    assert np.nanmin(share) >= 0
    assert np.nanmax(share) <= 1


def study_seen(sight):
    """The baseline tries cell (0, 1) at checkpoint 1 and drops it; the student keeps straight."""
    if sight.probe == "pictures":
        on = np.array([[[1.0, 1.0], [0.0, 0.0]]] * 2)
        return {"coverage": on, "labels": np.zeros(2), "pixels": None, "object": None}
    energy = np.ones((2, 2, 2))
    energy[:, 0] = 0.1
    (subject,) = sight.subjects
    energy[0, 0, 0] = 9  # of the first image alone
    if subject.run == "baseline0" and subject.epoch == 1:
        energy[0, 0, 1] = 9
    return {"energy/logits": energy, "error/logits": np.zeros_like(energy)}


def test_a_detour_halves_the_baseline():
    study = made_up(FAMILY)
    cut = Discarding(b=0.2, sweep=(0.2, 9.0), grid=2)
    result = ask("stability", study, scope(study, layers=("logits",), discarding=cut), study_seen)
    rho = {run: at["logits"].rho for run, at in result.runs.items()}
    assert rho["baseline0"][0] == pytest.approx(0.5)
    assert rho["kd0"][0] == pytest.approx(1.0)
    assert np.isnan(rho["kd0"][1])
    sweep, table = result.panels()
    assert [series.name for series in sweep.series] == ["baseline", "kd"]
    assert ("baseline0", "logits", 0.2, 0.5, 0.5, 1.0, 1) in table.rows
    assert ("kd0", "logits", 9.0, None, 0.0, 0.0, 2) in table.rows
