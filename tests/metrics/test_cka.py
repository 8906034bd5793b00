"""CKA from HSIC, and the page of it."""

import numpy as np
import pytest
from stage import FAMILY, LAYERS, ask, made_up, scope

from kdprobe.errors import NotApplicable
from kdprobe.metrics.cka import normalised
from kdprobe.panels import Heatmap


def test_a_layer_is_one_with_itself_and_less_with_another():
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(4, 50))  # any inner product will do
    cross = rows @ rows.T
    own = np.diag(cross)
    found = normalised(cross, own, own)
    np.testing.assert_allclose(np.diag(found), 1)
    np.testing.assert_allclose(found, found.T)
    assert (np.abs(found) <= 1 + 1e-12).all()
    np.testing.assert_allclose(found, np.corrcoef(rows, rowvar=True), atol=0.2)
    np.testing.assert_allclose(normalised(9 * cross, 9 * own, 9 * own), found)


def test_a_dead_layer_has_no_cka():
    found = normalised(np.zeros((2, 1)), np.array([0.0, 1.0]), np.array([2.0]))
    assert np.isnan(found[0, 0])
    assert found[1, 0] == 0


def seen(sight):
    ours, theirs = sight.subjects
    assert theirs.run == "teacher"
    assert (ours.epoch, theirs.epoch) == (2, 2), "last checkpoints"
    cross = np.array([[0.5, 0.25], [np.nan, 1.0]]) * (2 if ours.run.endswith("1") else 1)
    return {"cross": cross, "first": np.ones(2), "second": np.ones(2), "images": np.array(24)}


def test_maps_are_means_over_seeds_and_the_table_their_diagonal():
    study = made_up([*FAMILY, ("kd", "student", 1)])
    result = ask("cka", study, scope(study), seen, images=100, batch=8)
    assert result.images == 24, "what was looked at, not what was asked for"
    *maps, table = result.panels()
    assert all(isinstance(panel, Heatmap) for panel in maps)
    assert [panel.row_label for panel in maps] == ["baseline", "kd"]
    assert maps[0].values == ((0.5, 0.25), (None, 1.0))
    assert maps[1].values == ((0.75, 0.375), (None, 1.5))
    assert maps[1].rows == LAYERS
    assert ("kd0", "pooled", "pooled", 0.5) in table.rows
    assert len(table.rows) == 3 * 2


def test_a_teacher_and_someone_beside_it_are_needed():
    for family, reason in ((FAMILY[:1], "only a teacher"), (FAMILY[1:], "needs a teacher")):
        study = made_up(family)
        with pytest.raises(NotApplicable, match=reason):
            ask("cka", study, scope(study), seen)
